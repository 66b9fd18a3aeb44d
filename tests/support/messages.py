"""What the message of an error names, however it words it."""

import re


def naming(*words):
    r"""Return a pattern that matches a text with all these words, in any order.

    >>> re.search(naming("row 5", "x"), "NaN in x, row 57") is None
    True
    """
    whole = (rf"(?<!\w){re.escape(word)}(?!\w)" for word in words)
    return "(?s)" + "".join(f"(?=.*{each})" for each in whole)


def names(text, *words):
    """Return whether a text names all these words."""
    return re.search(naming(*words), text) is not None
