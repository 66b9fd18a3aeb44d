"""Make the certificates with which a scheduler, its workers and its clients know each other.

Whoever has the folder's key.pem can use the cluster, and nobody else: copy the folder to each
machine, or keep it where all of them see it, and let nobody else read it.

    python cluster/make_certificates.py certificates

It needs the package `cryptography` (pip install 'dadmm[tls]').
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def main() -> None:
    """Make a folder of certificates, or end with 2 if there is something of that name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--days", type=int, default=365, help="how long they hold [365]")
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} exists: name a new folder, or remove it")
    given.folder.mkdir(parents=True, mode=0o700)
    for name, content in certificates(timedelta(days=given.days)).items():
        handle = os.open(given.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    print(f"{given.folder}: valid for {given.days} days")


def certificates(valid: timedelta) -> dict[str, bytes]:
    """Return ca.pem, and the cert.pem and key.pem that it vouches for.

    The authority's own key is thrown away, so that no other certificate can be made that this
    cluster would take.
    """
    authority, key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    ca_name, name = _name("dadmm authority"), _name("dadmm cluster")
    ca = _certificate(ca_name, authority, ca_name, authority, valid, is_authority=True)
    cert = _certificate(name, key, ca_name, authority, valid, is_authority=False)
    return {
        "ca.pem": ca.public_bytes(serialization.Encoding.PEM),
        "cert.pem": cert.public_bytes(serialization.Encoding.PEM),
        "key.pem": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    name: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    by: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    valid: timedelta,
    is_authority: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                key_encipherment=False,
                content_commitment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )


if __name__ == "__main__":
    sys.exit(main())
