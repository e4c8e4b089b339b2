"""Continuing a job: the page lists the checkpoints that exist and says that none can be begun from."""

import pytest
from django.urls import reverse

from jobs.models import ResultDelivery
from jobs.services import checkpoints
from tests.jobs.factories import ArtifactFactory, JobFactory, make_member

pytestmark = pytest.mark.django_db


@pytest.fixture
def job():
    """A job of 1000 steps that left two checkpoints here, and one of them at the Hub as well."""
    job = JobFactory(prediction_id="p1")
    for step in (200, 900):
        for name in ("pytorch_lora_weights.safetensors", "training_state.json"):
            ArtifactFactory(job=job, key=f"checkpoint-{step}/{name}", kind="checkpoint", size_bytes=1000)
    ArtifactFactory(job=job, key="pytorch_lora_weights.safetensors")
    listing = [
        {"key": "checkpoint-900/pytorch_lora_weights.safetensors", "kind": "checkpoint", "size_bytes": 7, "sha256": "", "tag": ""},
        {"key": "README.md", "kind": "other", "size_bytes": 7, "sha256": "", "tag": ""},
    ]
    receipt = {"files_url": "https://huggingface.co/acme/lora/resolve/main/", "listing": listing}
    ResultDelivery.objects.create(job=job, destination="hub", target="acme/lora", receipt=receipt)
    return job


def test_the_checkpoints_of_a_job_are_found_here_and_where_its_result_went(job):
    assert [(each.name, each.place, each.size_bytes, each.steps_left) for each in checkpoints.of(job)] == [
        ("checkpoint-900", "Hugging Face Hub", 7, 100),
        ("checkpoint-900", "kept here", 2000, 100),
        ("checkpoint-200", "kept here", 2000, 800),
    ]


def test_the_page_lists_them_and_says_why_none_can_be_begun_from(client, job):
    client.force_login(make_member(job).user)

    page = " ".join(client.get(reverse("jobs:new", args=[job.team.slug]), {"continue": job.job_id}).content.decode().split())
    clone = client.get(reverse("jobs:new", args=[job.team.slug]), {"from": job.job_id}).content.decode()

    assert "SimpleTuner loads checkpoints and LoRAs from its own disk only" in page
    assert page.count("checkpoint-900") == 2
    assert "800 steps come after it" in page
    assert ("checkpoint-900" in clone, "<h1>Clone a job</h1>" in clone) == (False, True)


def test_a_job_without_checkpoints_says_so(client):
    job = JobFactory()
    client.force_login(make_member(job).user)

    page = client.get(reverse("jobs:new", args=[job.team.slug]), {"continue": job.job_id}).content.decode()

    assert "No checkpoint of it was found" in page
