"""What threads compute, and certificates: made once."""

import pytest

from dadmm.cluster import connection
from support.dask_servers import make_certificates
from support.training import train


@pytest.fixture(scope="session")
def digest(tmp_path_factory):
    """Give the digest of the parameters that threads find."""
    with connection.connect():
        return train(tmp_path_factory.mktemp("threads") / "run")


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """Give a folder of certificates."""
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")
