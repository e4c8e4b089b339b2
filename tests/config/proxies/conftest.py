"""The product as in production, one WSGI server and one for streams, behind each of the proxies whose samples are shipped."""

import pytest

from tests import proxies, servers
from tests.jobs.conftest import no_provider
from tests.jobs.storage.conftest import job, pair, s3_of

__all__ = ["job", "no_provider", "pair", "s3_of"]

BEHIND = {"TUNEHOUSE_TRUSTED_PROXIES": "127.0.0.1"}


@pytest.fixture(scope="session")
def web(django_db_setup, tmp_path_factory):
    with servers.granian("wsgi", tmp_path_factory.mktemp("web"), **BEHIND) as server:
        yield server


@pytest.fixture(scope="session")
def streams(django_db_setup, tmp_path_factory):
    with servers.granian("asginl", tmp_path_factory.mktemp("streams"), **BEHIND) as server:
        yield server


# Traefik comes with what the tests need; the others are Debian's.
@pytest.fixture(
    scope="session", params=[pytest.param("nginx", marks=pytest.mark.proxy), pytest.param("caddy", marks=pytest.mark.proxy), "traefik"]
)
def proxy(request, web, streams, tmp_path_factory):
    with proxies.proxied(request.param, web=web, streams=streams, folder=tmp_path_factory.mktemp(request.param)) as proxy:
        yield proxy
