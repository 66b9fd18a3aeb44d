"""Places that cannot be written, not even by root: mounts that only one process sees."""

import os
import shutil
import subprocess
from pathlib import Path

import dadmm

PACKAGE = Path(dadmm.__file__).parents[1]
ALONE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]


def can_mount():
    """Return whether this user may mount, in a namespace of its own."""
    trial = [*ALONE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def shell(script, *places, **variables):
    """Run a script of the shell that cannot write to some places, nor to the package.

    Environment variables are set to `variables`; one that is None is removed.
    """
    mounts = [
        f"mount --bind '{place}' '{place}' && mount -o remount,ro,bind '{place}' || exit 99"
        for place in (PACKAGE, *places)
    ]
    env = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [*ALONE, "bash", "-c", "\n".join([*mounts, "set -e", script])],
        env={name: str(value) for name, value in env.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
