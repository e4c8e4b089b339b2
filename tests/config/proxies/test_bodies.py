"""Large bodies behind the proxies: datasets up to their size, storage of any size and never as a whole anywhere."""

import hashlib
import io
import os

import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from PIL import Image

from jobs.models import DatasetVersion
from tests.factories import make_token
from tests.jobs.sandbox.servers import picture
from tests.jobs.storage.test_boto3 import ODD_NAMES
from tests.proxies import MEMBER, PROVIDER
from tests.webhooks.deliveries import address_of, body_of, make_job, signed

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024 * 1024
DATASET_BYTES = 104_857_600
STORED_BYTES = 200 * MIB
# What servers may grow by while they pass 200 MiB on.
LITTLE_BYTES = 60 * MIB


def large_picture(size_bytes):
    """A PNG of noise, with nothing behind its end up to the size."""
    content, side = io.BytesIO(), int((size_bytes / 3.01) ** 0.5)
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(content, "PNG", compress_level=0)
    return content.getvalue().ljust(size_bytes, b"\0")


@pytest.fixture
def member(proxy):
    """A member's client with a token."""
    _, token = make_token()
    with proxy.client(MEMBER, Authorization=f"Bearer {token}") as client:
        yield client


def test_a_dataset_of_100_mib_comes_in_by_one_form(member):
    files = [("files", (f"{number}.png", large_picture(DATASET_BYTES // 4), "image/png")) for number in range(4)]

    answer = member.post("/api/cloud/datasets", data={"name": "large"}, files=files)

    assert (answer.status_code, answer.json()["version"]["size_bytes"]) == (201, DATASET_BYTES)


def form_of(size_bytes):
    """The pieces of a form with one file of that size, and its type."""
    form = httpx.Request("POST", "http://any", data={"name": "pets"}, files={"files": ("a.png", b"FILE", "image/png")})
    before, _, behind = form.read().partition(b"FILE")
    return [before, *[bytes(MIB)] * (size_bytes // MIB), behind], form.headers["Content-Type"]


@pytest.mark.parametrize("has_length", [True, False], ids=["with a length", "without"])
def test_a_body_of_111_mib_is_refused(member, has_length):
    pieces, kind = form_of(111 * MIB)
    length = {"Content-Length": str(sum(map(len, pieces)))} if has_length else {}

    answer = member.post("/api/cloud/datasets", content=iter(pieces), headers={"Content-Type": kind} | length)

    assert answer.status_code == 413


def test_a_form_without_a_length_comes_in(member):
    form = httpx.Request("POST", "http://any", data={"name": "pets"}, files={"files": ("a.jpg", picture())})

    answer = member.post("/api/cloud/datasets", content=iter([form.read()]), headers={"Content-Type": form.headers["Content-Type"]})

    assert (answer.status_code, DatasetVersion.objects.get().image_count) == (201, 1)


def test_a_delivery_without_a_length_comes_in(proxy, no_provider):
    job, body = make_job(), body_of()

    with proxy.client(PROVIDER) as client:
        answer = client.post(address_of(job), content=iter([body]), headers=signed(body))

    assert (answer.status_code, answer.json()["status"]) == (200, "received")


@pytest.mark.parametrize("in_parts", [False, True], ids=["one body", "parts"])
def test_storage_takes_what_boto3_sends_in_constant_memory_and_without_a_copy_on_the_way(proxy, web, pair, s3_of, job, tmp_path, in_parts):
    s3 = s3_of(proxy.url, pair, verify=str(proxy.certificate))
    s3.put_object(Bucket="outputs", Key=f"{job.job_id}/first", Body=b"warm")
    piece, sent = os.urandom(MIB), hashlib.sha256()
    with (tmp_path / "sent").open("wb") as file:
        for _ in range(STORED_BYTES // MIB):
            file.write(piece)
            sent.update(piece)
    before = [proxy.memory_bytes(), web.memory_bytes()]
    proxy.forget_peak()
    web.forget_peak()

    with proxy.without_large_files():
        if in_parts:
            s3.upload_file(str(tmp_path / "sent"), "outputs", f"{job.job_id}/x", Config=TransferConfig(max_concurrency=4))
        else:
            with (tmp_path / "sent").open("rb") as file:
                s3.put_object(Bucket="outputs", Key=f"{job.job_id}/x", Body=file)

        stored = job.artifacts.get(key="x")
        assert (stored.size_bytes, stored.sha256) == (STORED_BYTES, sent.hexdigest())
        received = hashlib.sha256()
        for data in s3.get_object(Bucket="outputs", Key=f"{job.job_id}/x")["Body"].iter_chunks(MIB):
            received.update(data)
    assert received.hexdigest() == sent.hexdigest()
    grown = [proxy.peak_bytes() - before[0], web.peak_bytes() - before[1]]
    assert max(grown) < LITTLE_BYTES, grown


def test_names_come_through_as_they_were_signed(proxy, pair, s3_of, job):
    s3 = s3_of(proxy.url, pair, verify=str(proxy.certificate), signature_version="s3v4")
    names = [f"{job.job_id}/{name}" for name in ODD_NAMES]

    for name in names:
        s3.put_object(Bucket="outputs", Key=name, Body=name.encode())
    links = [s3.generate_presigned_url("get_object", Params={"Bucket": "outputs", "Key": name}) for name in names]
    got = [httpx.get(link, verify=proxy.trusted, trust_env=False) for link in links]

    assert [(answer.status_code, answer.content.decode()) for answer in got] == [(200, name) for name in names]
