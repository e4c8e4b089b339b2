"""Unmodified boto3 against the endpoint, under WSGI and ASGI."""

import hashlib
import os

import pytest

from jobs.models import Artifact

MIB = 1024 * 1024


def stored(server, artifact):
    return (server.outputs / artifact.stored_as).read_bytes()


@pytest.mark.parametrize("size", [MIB, 12 * MIB])
def test_a_file_comes_in_and_out_as_it_was_sent(server, s3, job, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "sent").write_bytes(data)

    s3.upload_file(str(tmp_path / "sent"), "outputs", f"{job.job_id}/pytorch_lora_weights.safetensors")
    s3.download_file("outputs", f"{job.job_id}/pytorch_lora_weights.safetensors", str(tmp_path / "back"))

    artifact = Artifact.objects.get()
    assert (artifact.key, artifact.kind, artifact.size_bytes) == ("pytorch_lora_weights.safetensors", "weights", size)
    assert artifact.sha256 == hashlib.sha256(data).hexdigest()
    assert artifact.stored_as == f"{job.team.slug}/{job.job_id}/pytorch_lora_weights.safetensors"
    assert stored(server, artifact) == data
    assert (tmp_path / "back").read_bytes() == data
