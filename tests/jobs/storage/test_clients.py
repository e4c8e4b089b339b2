"""What people and trainers use in earnest: rclone, boto3 through an https proxy that does not buffer, and large files."""

import hashlib
import http.client
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from jobs.models import Artifact
from tests import proxies

from .signing import TRAILER, exchange, signed

MIB = 1024 * 1024


@pytest.fixture(scope="session")
def proxy(wsgi, tmp_path_factory):
    """The shipped Traefik in front of the product."""
    with proxies.proxied("traefik", web=wsgi, streams=wsgi, folder=tmp_path_factory.mktemp("traefik")) as proxy:
        yield proxy


@pytest.fixture
def rclone(server, pair, tmp_path):
    """Run rclone with a remote `tunehouse:` and return what it prints."""
    environment = os.environ | {
        "RCLONE_CONFIG": str(tmp_path / "rclone.conf"),
        "RCLONE_CONFIG_TUNEHOUSE_TYPE": "s3",
        "RCLONE_CONFIG_TUNEHOUSE_PROVIDER": "Other",
        "RCLONE_CONFIG_TUNEHOUSE_ENDPOINT": f"{server.url}/api/cloud/storage",
        "RCLONE_CONFIG_TUNEHOUSE_ACCESS_KEY_ID": pair.access_key,
        "RCLONE_CONFIG_TUNEHOUSE_SECRET_ACCESS_KEY": pair.secret,
    }

    def run(*arguments):
        command = [str(Path(sys.executable).with_name("rclone")), "--retries", "1", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_rclone_copies_a_folder_in_and_out(server, rclone, job, tmp_path):
    sent = {"weights.safetensors": os.urandom(12 * MIB), "sub folder/a+b ü.txt": b"text", "samples/1.png": os.urandom(1000)}
    for name, data in sent.items():
        (tmp_path / "sent" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sent" / name).write_bytes(data)
    remote = f"tunehouse:outputs/{job.job_id}"

    rclone("copy", "--s3-upload-cutoff", "8M", "--s3-chunk-size", "5M", str(tmp_path / "sent"), remote)
    rclone("check", "--download", str(tmp_path / "sent"), remote)
    again = rclone("copy", "--dry-run", "--use-json-log", "-v", str(tmp_path / "sent"), remote)
    rclone("copy", remote, str(tmp_path / "back"))

    assert {artifact.key: artifact.sha256 for artifact in Artifact.objects.all()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in sent.items()
    }
    back = {str(path.relative_to(tmp_path / "back")): path.read_bytes() for path in (tmp_path / "back").rglob("*") if path.is_file()}
    assert back == sent
    assert "weights.safetensors" not in again  # its time and size are known, so it is not sent again


def test_boto3_over_https_through_an_unbuffered_proxy_stores_what_it_sent(wsgi, proxy, pair, s3_of, job, tmp_path):
    data = os.urandom(12 * MIB)
    (tmp_path / "sent").write_bytes(data)
    s3 = s3_of(proxy.url, pair, verify=str(proxy.certificate))

    # In one body, which boto3 sends in chunks with a trailer and without a length, and in parts.
    with (tmp_path / "sent").open("rb") as file:
        s3.put_object(Bucket="outputs", Key=f"{job.job_id}/one body", Body=file)
    s3.upload_file(str(tmp_path / "sent"), "outputs", f"{job.job_id}/parts")

    sha256 = hashlib.sha256(data).hexdigest()
    assert [(artifact.key, artifact.sha256) for artifact in job.artifacts.all()] == [("one body", sha256), ("parts", sha256)]
    for artifact in job.artifacts.all():
        assert hashlib.sha256((wsgi.outputs / artifact.stored_as).read_bytes()).hexdigest() == sha256
    assert s3.get_object(Bucket="outputs", Key=f"{job.job_id}/parts")["Body"].read() == data


def test_presigned_addresses_work_behind_the_proxy(wsgi, proxy, pair, s3_of, job):
    s3 = s3_of(proxy.url, pair, verify=str(proxy.certificate), signature_version="s3v4")
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/ñ +.txt"}
    s3.put_object(**place, Body=b"behind")

    got = httpx.get(s3.generate_presigned_url("get_object", Params=place), verify=proxy.trusted, trust_env=False)

    assert (got.status_code, got.content) == (200, b"behind")


def test_a_large_file_goes_in_and_out_in_constant_memory(server, pair, job):
    size, piece = 200 * MIB, os.urandom(MIB)
    path = f"/outputs/{job.job_id}/large.bin"
    exchange(server, "PUT", path, signed(server, pair, "PUT", path, Content_Length="5"), b"first")
    before = server.memory_bytes()
    server.forget_peak()

    connection = http.client.HTTPConnection(*server.address, timeout=60)
    headers = signed(server, pair, "PUT", path, Content_Length=str(size))
    connection.request("PUT", f"/api/cloud/storage{path}", body=iter([piece] * 200), headers=headers)
    put = connection.getresponse()
    put.read()
    connection.request("GET", f"/api/cloud/storage{path}", headers=signed(server, pair, "GET", path))
    got, received = connection.getresponse(), hashlib.sha256()
    while data := got.read(MIB):
        received.update(data)
    connection.close()

    sent = hashlib.sha256()
    for _ in range(200):
        sent.update(piece)
    assert (put.status, got.status) == (200, 200)
    assert Artifact.objects.get().sha256 == sent.hexdigest() == received.hexdigest()
    assert server.peak_bytes() - before < 60 * MIB


def test_a_body_that_lies_about_its_chunks_does_not_fill_memory(wsgi, pair, job):
    path = f"/outputs/{job.job_id}/x"
    headers = signed(wsgi, pair, "PUT", path, payload=TRAILER, Content_Length=str(8 * MIB), x_amz_decoded_content_length="10")

    status, answer = exchange(wsgi, "PUT", path, headers, b"1" * 8 * MIB)

    assert (status, b"InvalidRequest" in answer) == (400, True)
