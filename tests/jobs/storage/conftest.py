import hashlib
import shutil
from datetime import timedelta

import boto3
import pytest
from botocore.config import Config
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from jobs.models import Blob, Dataset, DatasetFile, DatasetVersion
from jobs.models.results import KeyPurpose
from jobs.storage import keys
from tests import servers
from tests.jobs.factories import JobFactory


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
    """The product under both interfaces, with nothing stored."""
    server = request.getfixturevalue(request.param)
    shutil.rmtree(server.outputs, ignore_errors=True)
    return server


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


@pytest.fixture
def dataset_job(job):
    """A job with a dataset of two images, and the key pair that reads it."""
    dataset = Dataset.objects.create(team=job.team, name="pets")
    version = DatasetVersion.objects.create(dataset=dataset, number=1, manifest_sha256="0" * 64, image_count=2, size_bytes=10)
    for name, data, caption in [("cat.png", b"\x89cat", "a cat"), ("a b.jpg", b"\xff\xd8dog!", "ein schöner Hund")]:
        digest = hashlib.sha256(data).hexdigest()
        stored_as = storages["datasets"].save(f"{job.team.slug}/{digest}", ContentFile(data))
        blob = Blob.objects.create(team=job.team, sha256=digest, size_bytes=len(data), stored_as=stored_as)
        kind = f"image/{name.rpartition('.')[2]}"
        DatasetFile.objects.create(version=version, blob=blob, name=name, caption=caption, content_type=kind, width=1, height=1)
    job.dataset_version = version
    job.save()
    return job, keys.issue(job=job, purpose=KeyPurpose.DATASET, expires_at=timezone.now() + timedelta(hours=1))
