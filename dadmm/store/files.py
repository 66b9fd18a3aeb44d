"""Files of a store, by name: in a local folder, or behind a URL that fsspec knows.

A file is replaced whole, so that nobody ever sees half of one.  Names come from stores that others
may have made.  A local name that is a link, or leads through one, is refused, and so is anything
but a plain file: nothing outside the folder is read, written or deleted.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from fsspec.core import url_to_fs
from numpy.typing import NDArray

from dadmm.errors import StoreError
from dadmm.store.gate import Gate
from dadmm.store.place import refuse_unseen

Bytes = NDArray[np.uint8]

# The metadata of a whole store.
ROOT = "zarr.json"
# Metadata and records are small; a larger file is not read.
MOST_TEXT = 64 * 2**20
# One call makes the system read no more than some MiB ahead.
AHEAD = 2**20
# Only these folders may be synced late: their files are new in every generation.
LATE = ("state", "params", "network")


class Files(Protocol):
    """A folder of files; names are relative, with slashes."""

    def text(self, name: str) -> bytes:
        """Return a small file.  Raises FileNotFoundError."""

    def load(self, name: str, size: int, allocate: Callable[[], Bytes]) -> bytes:
        """Read a file of `size` bytes into what `allocate` returns, and return the bytes left over.

        The size is checked before anything is allocated.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        StoreError
            If it has another size.
        """

    def part(self, name: str, first: int, out: Bytes, left: int) -> bytes:
        """Read a part of a file into `out`, and return the `left` bytes that follow it.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        StoreError
            If it ends before.
        """

    def expect(self, name: str) -> None:
        """Let the system read a file ahead, if it can; do not wait for it."""

    def save(self, name: str, *parts: Any, new: bool = False, sync: bool | None = None) -> None:
        """Replace a file whole; a `new` one must not be there yet (FileExistsError)."""

    def close(self) -> None:
        """Refuse to save from now on, and wait for the threads that are saving.

        Tasks of a graph that failed go on in their threads; what they write must not reach a run
        that takes the place of this one.
        """

    def settle(self, name: str) -> None:
        """Make the list of files in a folder durable."""

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder."""

    def age(self, name: str) -> float:
        """Return the time of a file's last change, in seconds since the epoch."""

    def touch(self, name: str) -> None:
        """Set the time of a file's last change to now."""

    def entries(self, name: str) -> dict[str, bool]:
        """Return the names in a folder ("": the root), and whether each is a folder itself.

        A folder that does not exist has no names.
        """

    def walk(self) -> Iterator[str]:
        """Return the names of all files."""

    def delete(self, name: str) -> None:
        """Delete a file or a whole folder, if it is there."""

    def tidy(self) -> None:
        """Delete half-written files and half-deleted folders that a killed process left."""


class LocalFiles(Files):
    """Files in a local folder.

    Parameters
    ----------
    root : Path
    durable : bool
        Sync each file to the disk before it is renamed into place; if `late` is set, when its
        folder is settled.
    """

    def __init__(self, root: Path, durable: bool) -> None:
        self.root = root
        self.durable = durable
        # Nobody reads the files of a generation before it is settled, so they may be synced then:
        # the system writes them to the disk while the next ones are computed.
        self.late = False
        self._gate = Gate()

    def path(self, name: str) -> Path:
        """Return the path of a file; raise `StoreError` for a link or a name that leads outside."""
        at = self.root
        for part in name.split("/"):
            if part in ("", ".", "..") or os.sep in part or "\0" in part:
                raise StoreError(f"{self.root}: {name!r} is no name of a file in a run")
            at = at / part
            try:
                linked = stat.S_ISLNK(os.lstat(at).st_mode)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if linked:
                raise StoreError(f"{at} is a link: a run has none; put its target there")
        return at

    def text(self, name: str) -> bytes:
        with _open(self.path(name)) as file:
            text: bytes = file.read(MOST_TEXT + 1)
        if len(text) > MOST_TEXT:
            raise StoreError(f"{self.root}/{name} is damaged: it is too large")
        return text

    def load(self, name: str, size: int, allocate: Callable[[], Bytes]) -> bytes:
        with _open(self.path(name)) as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise StoreError(f"it has {found} bytes, not {size}")
            raw = allocate()
            _fill(file, raw)
            left: bytes = file.read(size - len(raw))
            return left

    def part(self, name: str, first: int, out: Bytes, left: int) -> bytes:
        with _open(self.path(name)) as file:
            file.seek(first)
            _fill(file, out)
            found: bytes = file.read(left)
            if len(found) < left:
                raise StoreError(f"it ends before byte {first + len(out) + left}")
            return found

    def expect(self, name: str) -> None:
        # Reading ahead helps only readers that share this system's page cache.
        if not self.late or not hasattr(os, "posix_fadvise"):
            return
        with suppress(OSError, StoreError):
            read_ahead(self.path(name))

    def close(self) -> None:
        self._gate.close()

    def save(self, name: str, *parts: Any, new: bool = False, sync: bool | None = None) -> None:
        with self._gate:
            self._save(name, parts, new, sync)

    def _save(self, name: str, parts: Sequence[Any], new: bool, sync: bool | None) -> None:
        # Written aside, synced, then renamed: a process that dies here leaves the old file.
        path = self.path(name)
        aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
        aside.unlink(missing_ok=True)
        try:
            file = aside.open("xb", buffering=0)
        except FileNotFoundError:
            self._make(path.parent, new)
            file = aside.open("xb", buffering=0)
        late = self.late and name.partition("/")[0] in LATE
        try:
            with file:
                for part in parts:
                    rest = memoryview(part)
                    while len(rest):
                        rest = rest[file.write(rest) :]
                if sync is None and late:
                    _start_writing(file.fileno())
                elif self.durable if sync is None else sync:
                    os.fsync(file.fileno())
            if new:
                _link(aside, path)
            else:
                os.replace(aside, path)
        except OSError as error:
            error.filename = error.filename or str(path)  # a write that fails names no file
            raise
        finally:
            aside.unlink(missing_ok=True)

    def _make(self, folder: Path, root: bool) -> None:
        """Make a folder durably; make the root itself only if `root` is set.

        A root that is gone may be on a disk that is gone.  Files written in its place would be
        hidden once that disk is back.
        """
        if folder.is_dir():
            return
        if folder != self.root:
            # A late task must not begin anew what has been deleted.
            if not (self.root / ROOT).exists():
                refuse_unseen(self.root)
                raise FileNotFoundError(errno.ENOENT, "the run is gone", str(self.root))
            self._make(folder.parent, root)
        elif not root:
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(folder))
        # The folder above may be deleted meanwhile, and is then not made again.
        folder.mkdir(parents=folder == self.root, exist_ok=True)
        if self.durable:
            _fsync(folder.parent)

    def settle(self, name: str) -> None:
        if not self.durable:
            return
        folder = self.path(name) if name else self.root
        if self.late and name:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False) and entry.name[0] != ".":
                        _fsync(Path(entry.path))
        _fsync(folder)

    def exists(self, name: str) -> bool:
        return self.path(name).exists()

    def age(self, name: str) -> float:
        return self.path(name).stat().st_mtime

    def touch(self, name: str) -> None:
        os.utime(self.path(name))

    def entries(self, name: str) -> dict[str, bool]:
        try:
            with os.scandir(self.path(name) if name else self.root) as found:
                return {e.name: e.is_dir(follow_symlinks=False) for e in found}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def walk(self) -> Iterator[str]:
        for folder, _, names in os.walk(self.root):  # which follows no links
            for name in sorted(names):
                yield str((Path(folder) / name).relative_to(self.root))

    def delete(self, name: str) -> None:
        path = self.path(name)
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        # Renamed first, so that no folder is ever half there.
        grave = self.root / f".deleted-{name.replace('/', '-')}-{os.getpid()}"
        shutil.rmtree(grave, ignore_errors=True)
        path.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)

    def tidy(self) -> None:
        for grave in self.root.glob(".deleted-*"):
            shutil.rmtree(grave, ignore_errors=True)
        for partial in self.root.rglob("*.partial"):
            inside = partial.parent.resolve().is_relative_to(self.root.resolve())
            if inside and not partial.is_dir():
                partial.unlink(missing_ok=True)


def _open(path: Path) -> Any:
    """Open a plain file for reading; never wait for the other end of a pipe."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise StoreError(f"{path} is not a file")
    return os.fdopen(handle, "rb", buffering=0)


def read_ahead(path: Path) -> None:
    """Let the system read a file into its cache; do not wait for it."""
    with _open(path) as file:
        handle = file.fileno()
        for offset in range(0, os.fstat(handle).st_size, AHEAD):
            os.posix_fadvise(handle, offset, AHEAD, os.POSIX_FADV_WILLNEED)


def _fill(file: Any, raw: Bytes) -> None:
    """Read as many bytes as there is room for."""
    done = 0
    while done < len(raw):
        got = file.readinto(raw[done:].data)
        if not got:
            raise StoreError(f"it ends after {done} bytes")
        done += got


def _link(aside: Path, path: Path) -> None:
    """Give a file its name; unlike a rename, fail if the name is taken."""
    try:
        os.link(aside, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(aside, path)


def _start_writing(handle: int) -> None:
    """Let the system start to write a file to the disk; do not wait for it."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RemoteFiles(Files):
    """Files behind a URL.  Others write them too, so no listing is cached."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._gate = Gate()

    def _at(self, name: str) -> tuple[Any, str]:
        if ".." in name.split("/"):
            raise StoreError(f"{self.url}: {name!r} is no name of a file in a run")
        filesystem, path = url_to_fs(f"{self.url}/{name}" if name else self.url)
        filesystem.invalidate_cache(path)
        return filesystem, path

    def text(self, name: str) -> bytes:
        filesystem, path = self._at(name)
        # One request: asking for the size first would be a second one, which costs far away.
        content = filesystem.cat_file(path, start=0, end=MOST_TEXT + 1)
        if len(content) > MOST_TEXT:
            raise StoreError(f"{self.url}/{name} is damaged: it is too large")
        return bytes(content)

    def load(self, name: str, size: int, allocate: Callable[[], Bytes]) -> bytes:
        filesystem, path = self._at(name)
        content = filesystem.cat_file(path, start=0, end=size + 1)
        if len(content) != size:
            found = len(content) if len(content) < size else "more"
            raise StoreError(f"it has {found} bytes, not {size}")
        raw = allocate()
        raw[:] = np.frombuffer(content, np.uint8, len(raw))
        return bytes(content[len(raw) :])

    def part(self, name: str, first: int, out: Bytes, left: int) -> bytes:
        filesystem, path = self._at(name)
        end = first + len(out) + left
        content = filesystem.cat_file(path, start=first, end=end)
        if len(content) != end - first:
            raise StoreError(f"it ends before byte {end}")
        out[:] = np.frombuffer(content, np.uint8, len(out))
        return bytes(content[len(out) :])

    def close(self) -> None:
        self._gate.close()

    def save(self, name: str, *parts: Any, new: bool = False, sync: bool | None = None) -> None:
        with self._gate:
            self._save(name, parts, new)

    def _save(self, name: str, parts: Sequence[Any], new: bool) -> None:
        # An object store replaces an object whole by itself.
        filesystem, path = self._at(name)
        if new and filesystem.exists(path):
            raise FileExistsError(path)
        content = b"".join(memoryview(part).cast("B") for part in parts)
        if not new or "mode" not in signature(filesystem.pipe_file).parameters:
            filesystem.pipe_file(path, content)
            return
        try:
            # If the store can, it lets only one of two drivers create the object.
            filesystem.pipe_file(path, content, mode="create")
        except OSError as error:
            if filesystem.exists(path):
                raise FileExistsError(path) from error
            filesystem.pipe_file(path, content)

    def expect(self, name: str) -> None:
        pass  # there is no page cache to read into

    def settle(self, name: str) -> None:
        pass  # an object that is there is durable

    def tidy(self) -> None:
        pass  # no object is ever half there

    def exists(self, name: str) -> bool:
        filesystem, path = self._at(name)
        return bool(filesystem.exists(path))

    def age(self, name: str) -> float:
        filesystem, path = self._at(name)
        return float(filesystem.modified(path).timestamp())

    def touch(self, name: str) -> None:
        self.save(name, self.text(name))

    def entries(self, name: str) -> dict[str, bool]:
        filesystem, path = self._at(name)
        try:
            found = filesystem.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {Path(f["name"]).name: f["type"] == "directory" for f in found}

    def walk(self) -> Iterator[str]:
        filesystem, root = self._at("")
        for path in filesystem.find(root):
            yield path.removeprefix(root).lstrip("/")

    def delete(self, name: str) -> None:
        filesystem, path = self._at(name)
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)
