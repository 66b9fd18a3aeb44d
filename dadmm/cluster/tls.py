"""TLS between a client, a scheduler and its workers: certificates of a folder, or made for once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dadmm.errors import InputError, OptionError

# Names in a folder of certificates; every role has the same.
AUTHORITY, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
ROLES = ("scheduler", "worker", "client")


def settings(tls: bool | str) -> dict[str, Any]:
    """Return Dask's settings for certificates in a folder: also what starts elsewhere gets them."""
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
    """Return what a cluster's class takes: certificates of a folder, or new ones in memory."""
    from distributed.security import Security

    if isinstance(tls, str):
        return Security()  # as the settings say
    try:
        return Security.temporary()
    except ImportError as error:
        raise OptionError(
            "tls=true needs the package 'cryptography': pip install 'dadmm[tls]'"
        ) from error


def client_security(tls: bool | str, address: str) -> Any:
    """Return what connects to a scheduler that runs already; None where Dask's settings do."""
    if tls is True:
        raise OptionError(
            f"tls=true makes certificates for a cluster that is started; {address} has its own: "
            "give their folder"
        )
    return security(tls) if tls else None
