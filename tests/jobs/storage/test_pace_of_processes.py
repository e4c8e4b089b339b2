"""The pace over HTTP: processes count together, and a trainer with its tools as they come is never in its way."""

import contextlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from jobs.models import Artifact
from tests import servers

# A month, so that the test hardly ever runs across two windows.
PACE = {"RATE_LIMIT_CALLS": "25", "RATE_LIMIT_PERIOD": "2592000"}


@pytest.fixture
def paced(transactional_db, tmp_path, monkeypatch):
    """Two processes of the product, with pace on."""
    for name, value in PACE.items():
        monkeypatch.setenv(name, value)
    with contextlib.ExitStack() as stack:
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            folder.mkdir()
        yield [stack.enter_context(servers.granian("wsgi", folder)) for folder in folders]


def test_two_processes_count_the_same_address_together(paced):
    with httpx.Client(trust_env=False, timeout=60) as client, ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(lambda number: client.get(f"{paced[number % 2].url}/api/nowhere"), range(40)))

    assert Counter(answer.status_code for answer in answers) == {404: 25, 429: 15}
    assert sorted(int(answer.headers["X-RateLimit-Remaining"]) for answer in answers) == [0] * 16 + list(range(1, 25))
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)


def test_hundreds_of_files_and_parts_come_in_by_boto3_as_it_is(paced, pair, s3_of, job, tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 1000)
    (tmp_path / "large").write_bytes(b"x" * 20 * 1024 * 1024)
    s3 = s3_of(paced[0].url, pair)

    def upload(number):
        s3.upload_file(str(tmp_path / "small"), "outputs", f"{job.job_id}/samples/{number}.png")

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(upload, range(200)))
    s3.upload_file(str(tmp_path / "large"), "outputs", f"{job.job_id}/weights.safetensors")

    assert Artifact.objects.filter(job=job).count() == 201
