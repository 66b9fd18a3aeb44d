"""HTML and SVG as trees, so that no text can be taken for markup, wherever it came from."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

from dadmm.errors import one_line

Element = ElementTree.Element
Content = Element | str | None | Iterable["Content"]


def tag(kind: str, *content: Content, **attributes: str | float) -> Element:
    """Return an element.

    Parameters
    ----------
    kind : str
        Such as "p".
    content : element, str, None, or iterables of these
        What is in it, in order; None stands for nothing.  Texts become one line each, cut if they
        are long, without control characters.
    attributes : str or float
        Underscores in their names stand for hyphens, and a last one for nothing: ``class_``.
    """
    made = Element(kind)
    for name, value in attributes.items():
        text = value if isinstance(value, str) else f"{round(value, 2):g}"
        made.set(name.removesuffix("_").replace("_", "-"), text)
    for each in content:
        _append(made, each)
    return made


def _append(parent: Element, content: Content) -> None:
    if content is None:
        return
    if isinstance(content, Element):
        parent.append(content)
    elif not isinstance(content, str):
        for each in content:
            _append(parent, each)
    elif len(parent):
        parent[-1].tail = (parent[-1].tail or "") + one_line(content)
    else:
        parent.text = (parent.text or "") + one_line(content)


def styled(css: str) -> Element:
    """Return a style sheet, which must be our own: it is not escaped."""
    made = Element("style")
    made.text = css
    return made


def html(element: Element) -> str:
    """Return an element as HTML."""
    return ElementTree.tostring(element, encoding="unicode", method="html")
