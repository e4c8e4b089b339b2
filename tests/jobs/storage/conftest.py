from datetime import timedelta

import boto3
import pytest
from botocore.config import Config
from django.utils import timezone

from jobs.models.results import KeyPurpose
from jobs.storage import keys
from tests.jobs.factories import JobFactory

from . import servers


@pytest.fixture(scope="session")
def wsgi(django_db_setup, tmp_path_factory):
    with servers.granian("wsgi", tmp_path_factory.mktemp("wsgi")) as server:
        yield server


@pytest.fixture(scope="session")
def asgi(django_db_setup, tmp_path_factory):
    with servers.granian("asgi", tmp_path_factory.mktemp("asgi")) as server:
        yield server


@pytest.fixture(params=["wsgi", "asgi"])
def server(request):
    """The product under both interfaces."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def job(transactional_db):
    return JobFactory()


@pytest.fixture
def pair(job):
    """The key pair with which the job's results come in."""
    return keys.issue(job=job, purpose=KeyPurpose.RESULTS, expires_at=timezone.now() + timedelta(hours=1))


@pytest.fixture
def s3_of():
    """Make boto3 clients; they are closed after the test."""
    clients = []

    def make(address, pair, *, secret=None, verify=None, **config):
        client = boto3.client(
            "s3",
            endpoint_url=f"{address}/api/cloud/storage",
            aws_access_key_id=pair.access_key,
            aws_secret_access_key=secret or pair.secret,
            region_name="us-east-1",
            verify=verify,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1, "mode": "standard"}, **config),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def s3(server, pair, s3_of):
    return s3_of(server.url, pair)
