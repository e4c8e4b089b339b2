"""Teams that can submit, with the sandbox as their provider or with nobody there, and people of a team and of the platform."""

import socket
from dataclasses import dataclass

import httpx
import pytest

from accounts.roles import Role
from jobs.models import Job
from tests.factories import MembershipFactory, UserFactory
from tests.jobs.ready import make_ready
from tests.jobs.sandbox import servers
from tests.jobs.sandbox.conftest import numbers
from tests.jobs.sandbox.servers import Account, Sandbox, free_port


@dataclass(frozen=True)
class HubAccount:
    """An account at the Hub with a token of its own."""

    url: str
    name: str
    token: str


@pytest.fixture(scope="session")
def provider_process(tmp_path_factory):
    """The provider: one sandbox for all tests of a worker; each has an account of its own in it."""
    sandbox = Sandbox(tmp_path_factory.mktemp("provider"), speed=60)
    yield sandbox
    sandbox.stop()


@pytest.fixture
def hub(provider_process, settings):
    """The Hub: the sandbox's. Its `token` may write."""
    name = f"hub{next(numbers)}"
    token = f"hf_{name}".ljust(37, "0")
    assert provider_process.control("tokens", token=token, account=name, role="write").status_code == 201
    settings.HF_ENDPOINT = provider_process.hub_url
    return HubAccount(provider_process.hub_url, name, token)


@pytest.fixture
def account(provider_process):
    """A fresh account at the provider that sends no webhooks and has no queue."""
    name = f"own{next(numbers)}"
    token = f"r8_{name}".ljust(40, "0")
    assert provider_process.control("tokens", token=token, account=name).status_code == 201
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=provider_process.url, headers=headers, trust_env=False, timeout=70) as http:
        account = Account(provider_process, name, token, http)
        account.rule(webhooks="drop", queue_seconds=0, boot_seconds=0)
        yield account


@pytest.fixture
def lead(owner):
    return MembershipFactory(team=owner.team, role=Role.LEAD)


@pytest.fixture
def staff(db):
    """An administrator of the platform who is in no team."""
    return UserFactory(is_staff=True)


@pytest.fixture
def no_provider(settings):
    """Nobody answers where the provider should be, so whatever called it would fail."""
    settings.REPLICATE_BASE_URL = f"http://127.0.0.1:{free_port()}"
    settings.PUBLIC_URL = "http://127.0.0.1:9"


@pytest.fixture
def ready(db, no_provider):
    """A team that can submit while the provider is away."""
    return make_ready()


@pytest.fixture
def at_provider(settings, db, account):
    """A team that can submit, whose token is good at the sandbox."""
    settings.REPLICATE_BASE_URL = account.sandbox.url
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    return make_ready(token=account.token)


@pytest.fixture
def predictions(account):
    """The account's predictions at the provider, newest first."""

    def listed():
        return account.http.get("/v1/predictions").json()["results"]

    return listed


@pytest.fixture(scope="session")
def bucket(tmp_path_factory):
    """Somebody else's S3 service, by rclone: one for all tests of a worker; each has a prefix of its own in it."""
    with servers.bucket(tmp_path_factory.mktemp("s3")) as bucket:
        yield bucket


@pytest.fixture
def fresh():
    """The job as its row says now, with what services want loaded."""
    return lambda job: Job.objects.select_related("team", "credential", "hold", "price_line", "intent").get(pk=job.pk)


@pytest.fixture
def silent():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
