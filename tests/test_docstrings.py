"""Everything public has a docstring, its own or that of what it implements."""

import importlib
import inspect
import pkgutil

import dadmm


def modules():
    for found in pkgutil.walk_packages(dadmm.__path__, "dadmm."):
        if found.name.rpartition(".")[2] not in ("torch_block", "torch_module"):  # they want torch
            yield importlib.import_module(found.name)


def test_everything_public_has_a_docstring():
    lacking = []
    for module in modules():
        if not module.__doc__:
            lacking.append(module.__name__)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(thing) or inspect.isfunction(thing):
                lacking += [] if inspect.getdoc(thing) else [f"{module.__name__}.{name}"]
            if inspect.isclass(thing):
                lacking += [
                    f"{module.__name__}.{name}.{member}"
                    for member, what in vars(thing).items()
                    if not member.startswith("_")
                    and (inspect.isfunction(what) or isinstance(what, property))
                    and not inspect.getdoc(getattr(thing, member))
                ]
    assert lacking == []
