"""Encrypt between client, scheduler and workers: certificates in a folder, or temporary ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dadmm.errors import InputError, OptionError

# Files in a folder of certificates; every role uses the same.
AUTHORITY, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
ROLES = ("scheduler", "worker", "client")


def settings(tls: bool | str) -> dict[str, Any]:
    """Return Dask's settings for certificates in a folder; workers elsewhere get them too."""
    if not isinstance(tls, str):
        return {}
    folder = Path(tls).expanduser().absolute()
    for name in (AUTHORITY, CERTIFICATE, KEY):
        if not (folder / name).is_file():
            raise InputError(
                f"tls: {tls} has no {name}: make certificates with cluster/make_certificates.py"
            )
    found: dict[str, Any] = {
        "distributed.comm.require-encryption": True,
        "distributed.comm.default-scheme": "tls",
        "distributed.comm.tls.ca-file": str(folder / AUTHORITY),
    }
    for role in ROLES:
        found[f"distributed.comm.tls.{role}.cert"] = str(folder / CERTIFICATE)
        found[f"distributed.comm.tls.{role}.key"] = str(folder / KEY)
    return found


def security(tls: bool | str) -> Any:
    """Return the `Security` of a new cluster: certificates in a folder, or new ones in memory."""
    from distributed.security import Security

    if isinstance(tls, str):
        return Security()  # reads Dask's settings
    try:
        return Security.temporary()
    except ImportError as error:
        raise OptionError(
            "tls=true needs the package 'cryptography': pip install 'dadmm[tls]'"
        ) from error


def client_security(tls: bool | str, address: str) -> Any:
    """Return the `Security` for a scheduler that runs already; None if Dask's settings do."""
    if tls is True:
        raise OptionError(
            f"tls=true makes certificates for a new cluster: give the folder of those of {address}"
        )
    return security(tls) if tls else None
