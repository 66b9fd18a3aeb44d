"""Find cluster profiles: YAML that says where to compute.

A profile is one of ::

    scheduler: threads

    address: tls://head:8786        # or a scheduler file
    tls: certificates

    cluster:
      type: dask_jobqueue.SLURMCluster
      cores: 1
      memory: 4GiB

`KEYS` lists its other keys.  A path that ends in .yaml or .yml is a profile's file.  A name is
looked up in Dask's configuration, under ``dadmm.profiles``, and then among dadmm's own profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import yaml
from dask.utils import format_bytes, parse_bytes, parse_timedelta

from dadmm.cluster.worker import BASE_BYTES
from dadmm.errors import InputError, OptionError, unknown

SETTING = "dadmm.profiles"
FILES = (".yaml", ".yml")
# The keys of a profile: the types of the value, and words for it.
KEYS: dict[str, tuple[tuple[type, ...], str]] = {
    "about": ((str,), "text"),
    "extends": ((str,), "the name of another profile"),
    "scheduler": ((str,), "threads"),
    "address": ((str,), "an address such as tcp://host:8786, or a scheduler file"),
    "cluster": ((dict,), "type, the dotted name of a class, and its options"),
    "workers": ((int,), "a whole number"),
    "tls": ((bool, str), "true, or a folder with ca.pem, cert.pem and key.pem"),
    "timeout": ((int, float, str), 'seconds, or text such as "10 minutes"'),
    "replace": ((bool,), "true or false"),
    "needs": ((list,), "a list of modules that must be installed"),
    "extra": ((str,), "which of dadmm's extras brings them"),
    "places": ((dict,), "where options of the class stand for workers, memory_limit, ..."),
}
# The options that may have a place in a class; "certificates" takes a folder of them only.
PLACES = ("workers", "memory_limit", "dashboard", "tls", "certificates")


@dataclass(frozen=True)
class Profile:
    """A profile whose values were checked.

    Parameters
    ----------
    name : str
        The name, or the path of the file.
    scheduler : str or None
        "threads".
    address : str or None
        The address of a scheduler, or a scheduler file.
    cluster : dict
        "type", the dotted name of a class, and the options of that class.
    workers : int or None
        The number of workers.
    tls : bool or str
        True for TLS with certificates of this cluster alone; text for certificates in a folder.
    timeout : str, int or float
        The time in which the first worker must come.
    replace : bool
        Whether to ask again for workers that are lost.
    needs, extra : list of str, str or None
        Modules that must be installed, and the extra of dadmm that installs them.
    places : dict
        The option of the class for each of "workers", "memory_limit", "dashboard" and "tls"; dots
        lead to an option inside another.
    about : str
        One line for people.
    """

    name: str
    scheduler: str | None = None
    address: str | None = None
    cluster: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None
    tls: bool | str = False
    timeout: str | float = "60 s"
    replace: bool = False
    needs: tuple[str, ...] = ()
    extra: str | None = None
    places: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""

    @property
    def seconds(self) -> float:
        """Return the time-out in seconds."""
        return seconds(self.timeout, f"profile {self.name!r}")

    def options(self) -> dict[str, Any]:
        """Return a copy of the options of the class."""
        return deepcopy({k: v for k, v in self.cluster.items() if k != "type"})

    def put(self, options: dict[str, Any], what: str, value: Any) -> bool:
        """Set the option that `what` is in this class; return whether it has one."""
        for place in self._places(what):
            put(options, place, value)
        return bool(self._places(what))

    def get(self, options: Mapping[str, Any], what: str) -> list[Any]:
        """Return the values that are set of the options that `what` is in this class."""
        found = []
        for place in self._places(what):
            inner: Any = options
            for name in place.split("."):
                inner = inner.get(name) if isinstance(inner, Mapping) else None
            found += [] if inner is None else [inner]
        return found

    def _places(self, what: str) -> list[str]:
        found = self.places.get(what, [])
        return [found] if isinstance(found, str) else list(found)

    def make(self) -> Any:
        """Import the class of the cluster.

        Raises
        ------
        OptionError
            If a module is not installed (the message says how to install it), or the class does not
            exist.
        """
        where, dotted = f"profile {self.name!r}", str(self.cluster["type"])
        module, _, name = dotted.rpartition(".")
        for needed in [*self.needs, module]:
            self._installed(needed.partition(".")[0])
        try:
            made = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise OptionError(f"{where}: {dotted} cannot be imported: {error}") from error
        if not callable(made):
            raise OptionError(f"{where}: {dotted} is not a class")
        return made

    def _installed(self, needed: str) -> None:
        if not needed or find_spec(needed) is None:
            extra = f"pip install 'dadmm[{self.extra}]'" if self.extra else "install it"
            cure = extra if needed else "give type as module.Class"
            raise OptionError(f"profile {self.name!r} needs the package {needed!r}: {cure}")


def put(options: dict[str, Any], place: str, value: Any) -> None:
    """Set an option; dots in `place` lead to an option inside another."""
    *outer, last = place.split(".")
    for name in outer:
        options = options.setdefault(name, {})
    options[last] = value


def shipped() -> list[str]:
    """Return the names of the profiles that come with dadmm."""
    found = [Path(str(each)).stem for each in files(__name__).iterdir() if is_file(str(each))]
    return sorted(found)


def is_file(name: str) -> bool:
    """Whether a profile's name is that of a file."""
    return name.endswith(FILES)


def find(name: str | Path) -> Profile:
    """Return a profile by its name, or by the path of its file.

    Raises
    ------
    InputError
        If the profile does not exist, or its file cannot be read.
    OptionError
        If it has an unknown key, or a value that its key cannot have.
    """
    return _checked(str(name), _content(str(name), ()))


def _content(name: str, below: tuple[str, ...]) -> dict[str, Any]:
    """Return the keys of a profile, laid over those of the profiles that it extends.

    A profile of the user's may extend the one of the same name that comes with dadmm.
    """
    own: Mapping[str, Any] = dask.config.get(SETTING, None) or {}
    if not isinstance(own, Mapping):
        raise OptionError(f"{SETTING} in Dask's configuration: use names, and a profile for each")
    if is_file(name):
        key, content = str(Path(name).absolute()), _read(Path(name))
    elif name in own and f"{SETTING}.{name}" not in below:
        key, content = f"{SETTING}.{name}", own[name]
    elif name in shipped() and f"dadmm/{name}" not in below:
        key = f"dadmm/{name}"
        content = yaml.safe_load(files(__name__).joinpath(f"{name}.yaml").read_text())
    elif below and name in {*own, *shipped()}:
        raise OptionError(f"profile {name!r} extends itself: {' -> '.join(below)}")
    else:
        known = unknown("profile", name, {*shipped(), *own})
        raise OptionError(f"{known}, and files that end in .yaml")
    if key in below:
        raise OptionError(f"profile {name!r} extends itself: {' -> '.join(below)}")
    _check(name, content)
    if "extends" not in content:
        return dict(content)
    return _over(_content(content["extends"], (*below, key)), content)


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: give the path of a profile") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return one tree of options laid over another; where both have a value, the upper one's."""
    found = dict(below)
    for key, value in above.items():
        under = found.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            found[key] = _over(under, value)
        else:
            found[key] = value
    return found


def _check(name: str, content: Any) -> None:
    where = f"profile {name!r}"
    if not isinstance(content, Mapping):
        raise OptionError(f"{where} has no keys: it needs one of scheduler, address, cluster")
    for key, value in content.items():
        if key not in KEYS:
            raise unknown(f"key of {where}", key, KEYS)
        kinds, words = KEYS[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise OptionError(f"{where}: {key}={value!r}: use {words}")
    for place in content.get("places", {}):
        if place not in PLACES:
            raise unknown(f"key of places in {where}", place, PLACES)


def _checked(name: str, content: Mapping[str, Any]) -> Profile:
    where = f"profile {name!r}"
    kinds = [kind for kind in ("scheduler", "address", "cluster") if kind in content]
    if len(kinds) != 1:
        raise OptionError(
            f"{where} has {' and '.join(kinds) or 'none of them'}: it needs one of scheduler, "
            "address, cluster"
        )
    if content.get("scheduler", "threads") != "threads":
        raise OptionError(f"{where}: scheduler={content['scheduler']!r}: use threads")
    if not isinstance(content.get("cluster", {"type": ""}).get("type"), str):
        raise OptionError(
            f"{where}: cluster has no type: name the class, such as distributed.LocalCluster"
        )
    known = {each.name for each in fields(Profile)}
    made = Profile(name, **{key: value for key, value in content.items() if key in known})
    if made.workers is not None and made.workers < 1:
        raise OptionError(f"{where}: workers={made.workers}: use 1 or more")
    made.seconds  # noqa: B018
    return made


def seconds(value: str | float, where: str) -> float:
    """Return a time in seconds; raise `OptionError` unless it is a positive time."""
    try:
        found = float(parse_timedelta(value))
    except (ValueError, KeyError, TypeError, OverflowError):
        found = 0.0
    if not found > 0:
        raise OptionError(f"{where}: timeout={value!r}: use {KEYS['timeout'][1]}")
    return found


def check_memory(limit: int | str, where: str) -> None:
    """Refuse a memory limit in which no worker could start."""
    try:
        memory = parse_bytes(limit)
    except (ValueError, OverflowError) as error:
        cure = 'use a number of bytes, or text such as "2GiB"'
        raise OptionError(f"{where} memory_limit={limit!r}: {cure}") from error
    if memory < BASE_BYTES:
        raise OptionError(
            f"{where} memory_limit={limit!r} is too small: Python and its libraries alone need "
            f"{format_bytes(BASE_BYTES)}"
        )
