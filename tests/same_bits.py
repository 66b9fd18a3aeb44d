"""Whether two versions of dadmm compute the same bits: small cases, and a digest of each.

    python tests/same_bits.py run [WORD ...]        digests of the dadmm on the path
    python tests/same_bits.py compare [REVISION]    the present tree beside another

REVISION is one of git, or the folder of a checkout.  The cases, in same_bits_cases.py, use the
public interface alone, so that versions whose modules lie elsewhere can be compared.

Both packages are copied into .same_bits/, into folders that are named after their content, where
what numba compiles is kept: numba's own cache would not notice a change in another module.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

BASE = "fb53341"
FAILED = "failed"
KEPT = 6  # copies of packages
ROOT = Path(__file__).resolve().parents[1]


class Digest:
    """A SHA-256 of arrays and texts, each under its name; and one of each part of them."""

    def __init__(self):
        self.whole = hashlib.sha256()
        self.parts = {}

    def add(self, part, name, value):
        """Take in an array, a number or a text."""
        array = np.asarray(value)
        head = f"{part}/{name} {array.dtype.str} {array.shape} ".encode()
        for into in (self.whole, self.parts.setdefault(part, hashlib.sha256())):
            into.update(head + array.tobytes())

    def estimator(self, fitted, x):
        """Take in all that a fit has found, and what it makes of new rows."""
        for name, array in sorted(fitted.network_.params.items()):
            self.add("params", name, array)
        history = fitted.history_
        for name in sorted(map(str, history.variables)):
            if not name.startswith(("seconds", "memory")):
                self.add("history", name, history[name].values)
        for name, value in sorted(history.attrs.items()):
            if name == "chunk_difference":  # older versions do not have it
                continue
            self.add("history", f"attribute {name}", value)
        methods = ["predict", "transform"]
        if fitted.network_.target.loss.endswith("entropy"):
            methods.append("predict_proba")
        for method in methods:
            if hasattr(fitted, method):
                self.add(method, "values", getattr(fitted, method)(x))

    def store(self, folder):
        """Take in every array of a run store, chunk by chunk; the history has times in it."""
        for path in sorted(folder.rglob("zarr.json")):
            name = path.parent.relative_to(folder).as_posix()
            form = json.loads(path.read_bytes())
            if form["node_type"] == "array" and not name.startswith("history"):
                self.add("store", name, f"{form['data_type']} {form['shape']}")
                chunks = [chunk for chunk in path.parent.rglob("c*") if chunk.is_file()]
                assert chunks, f"no chunks of {name}"
                for chunk in sorted(chunks):
                    content = np.frombuffer(chunk.read_bytes(), np.uint8)
                    self.add("store", chunk.relative_to(folder).as_posix(), content)

    def line(self, name):
        """Return the line of a case."""
        parts = " ".join(f"{part}={found.hexdigest()[:8]}" for part, found in self.parts.items())
        return f"{self.whole.hexdigest()}  {name}  [{parts}]"


def run(words):
    """Print a line per case; return how many failed."""
    from same_bits_cases import cases

    import dadmm

    print(f"# {Path(dadmm.__file__).parent}", flush=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # runs are synced to disk
    failed = 0
    for name, case in cases().items():
        if not all(word in name for word in words):
            continue
        digest = Digest()
        with tempfile.TemporaryDirectory(dir=memory) as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                case(digest, Path(folder))
                line = digest.line(name)
            except Exception as error:
                traceback.print_exc()
                failed += 1
                line = f"{FAILED}  {name}  [{type(error).__name__}]"
        print(line, flush=True)
    return failed


# --------------------------------------------------------------------------------------- comparison


@contextmanager
def checkout(revision):
    """Give the folder of a checkout: `revision`, or a worktree, which is removed in the end."""
    if Path(revision).is_dir():
        yield Path(revision).resolve()
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory(prefix="same-bits-") as folder:
        tree = str(Path(folder) / "tree")
        try:
            add = [*git, "add", "--quiet", "--detach", tree, revision]
            done = subprocess.run(add, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"there is no checkout of {revision}: {done.stderr.strip()}")
            yield Path(tree)
        finally:
            subprocess.run([*git, "remove", "--force", tree], capture_output=True)


def copied(tree):
    """Return the folder of a copy of a checkout's package, named after its content."""
    content = hashlib.sha256()
    for path in sorted((tree / "dadmm").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content.update(f"{path.relative_to(tree)} ".encode() + path.read_bytes() + b"\0")
    kept = ROOT / ".same_bits"
    folder = kept / content.hexdigest()[:16]
    if not folder.is_dir():
        kept.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as half:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(tree / "dadmm", Path(half) / "new" / "dadmm", ignore=ignored)
            (Path(half) / "new").rename(folder)
    os.utime(folder)
    for old in sorted(kept.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


class Side:
    """One of the two versions: a copy of this script, in a process, with that version's dadmm."""

    def __init__(self, package, words, folder):
        self.package = package / "dadmm"
        folder.mkdir()
        self.out = folder / "out"
        here = Path(__file__)
        for script in (here, here.with_name("same_bits_cases.py")):
            shutil.copy(script, folder)
        kept = {n: value for n, value in os.environ.items() if not n.startswith(("DADMM", "NUMBA"))}
        environment = {**kept, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, folder / here.name, "run", *words],
                cwd=folder,
                env=environment,
                stdout=out,
            )

    def stop(self):
        """End the process, if it has not ended."""
        self.process.kill()
        self.process.wait()

    def lines(self):
        """Wait for it, and return digest and parts by the name of the case."""
        self.process.wait()
        first, *rest = self.out.read_text().splitlines() or [""]
        if first != f"# {self.package}":
            raise SystemExit(f"the cases did not run with {self.package}")
        split = (line.split("  ", 2) for line in rest)
        return {name: (digest, parts) for digest, name, parts in split}


def differing(a, b):
    """Return what differs between two lines of a case; "" if nothing does."""
    if a is None or b is None:
        return "on one side only"
    if FAILED in (a[0], b[0]):
        return " and ".join(parts[1:-1] for digest, parts in (a, b) if digest == FAILED)
    if a[0] == b[0]:
        return ""
    left, right = (dict(part.split("=") for part in line[1][1:-1].split()) for line in (a, b))
    return ", ".join(n for n in left | right if left.get(n) != right.get(n))


def compare(revision, jobs, words):
    """Print the cases that differ; return whether any does."""
    began = time.perf_counter()
    with checkout(revision) as tree:
        packages = {"there": copied(tree), "here": copied(ROOT)}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = []
        for name, package in packages.items():
            sides.append(Side(package, words, Path(folder) / name))
            stack.callback(sides[-1].stop)
            if jobs == 1:
                sides[-1].process.wait()
        theirs, ours = (side.lines() for side in sides)
    names = list(dict.fromkeys([*theirs, *ours]))
    found = {name: differing(theirs.get(name), ours.get(name)) for name in names}
    bad = {name: what for name, what in found.items() if what}
    width = max(map(len, bad), default=0)
    for name, what in bad.items():
        print(f"{name:<{width}}  {what}")
    seconds = time.perf_counter() - began
    print(f"{len(names)} cases, {len(bad)} differ from {revision}; {seconds:.0f} s")
    return bool(bad or not names)


def main():
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="print a digest per case")
    one.add_argument("words", nargs="*", metavar="WORD", help="cases with these in their names")
    two = commands.add_parser("compare", help="compare the present tree with another")
    two.add_argument("revision", nargs="?", default=BASE, help="of git, or a checkout's folder")
    two.add_argument("--jobs", type=int, choices=(1, 2), default=2, help="sides at the same time")
    two.add_argument("--only", nargs="+", default=[], metavar="WORD", help="as of run")
    given = parser.parse_args()
    if given.command == "run":
        return 1 if run(given.words) else 0
    # An end from outside must pass the clean-up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return 1 if compare(given.revision, given.jobs, given.only) else 0


if __name__ == "__main__":
    sys.exit(main())
