import itertools

import httpx
import pytest

from . import servers

numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory):
    """One sandbox for all tests of a worker that need none of their own; each has its own account in it."""
    sandbox = servers.Sandbox(tmp_path_factory.mktemp("sandbox"), speed=3600)
    yield sandbox
    sandbox.stop()


@pytest.fixture
def open_account():
    """Make accounts with fresh tokens."""
    clients = []

    def make(sandbox, name=None):
        name = name or f"account{next(numbers)}"
        token = f"r8_{name}".ljust(40, "0")
        assert sandbox.control("tokens", token=token, account=name).status_code == 201
        headers = {"Authorization": f"Bearer {token}"}
        clients.append(httpx.Client(base_url=sandbox.url, headers=headers, trust_env=False, timeout=70))
        return servers.Account(sandbox, name, token, clients[-1])

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def account(shared_sandbox, open_account):
    return open_account(shared_sandbox)


@pytest.fixture
def receiver():
    with servers.receiving() as receiver:
        yield receiver
