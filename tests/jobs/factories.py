"""Rows of the jobs app."""

from datetime import UTC, datetime, timedelta
from typing import Any

import factory
from factory.django import DjangoModelFactory

from accounts.models import Membership
from accounts.roles import Role
from billing import services as billing
from jobs.models import Artifact, Job, JobProgress, Trainer
from jobs.models.job import Destination, PackingPath
from jobs.states import State
from tests.billing.factories import PriceLineFactory
from tests.factories import CredentialFactory, MembershipFactory, TeamFactory, UserFactory

SUBMITTED_AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class TrainerFactory(DjangoModelFactory):
    class Meta:
        model = Trainer
        django_get_or_create = ("profile",)

    profile = "test-gpu"
    model = "simpletuner/advanced-trainer"
    label = "SimpleTuner on a test GPU"
    hardware = "gpu-test"
    hardware_type = "Test GPU (1GB)"


class JobFactory(DjangoModelFactory):
    """A job that runs, with its progress row, and without a hold unless one is given."""

    class Meta:
        model = Job
        skip_postgeneration_save = True

    team = factory.SubFactory(TeamFactory)
    submitted_by = factory.SubFactory(UserFactory)
    run_name = factory.Sequence("run {}".format)
    config_name = "flux-lora"
    config = {"model_family": "flux", "max_train_steps": 1000}
    packing_path = PackingPath.ARCHIVE
    trainer = factory.SubFactory(TrainerFactory)
    destination = Destination.LOCAL
    credential = factory.SubFactory(CredentialFactory, team=factory.SelfAttribute("..team"), name=factory.Sequence("token {}".format))
    price_line = factory.SubFactory(PriceLineFactory)
    ceiling_seconds = 3600
    stop_after_seconds = 3600
    state = State.RUNNING
    submitted_at = SUBMITTED_AT
    started_at = SUBMITTED_AT

    @factory.post_generation
    def progress(self, create: bool, extracted: Any, **fields: Any) -> None:
        JobProgress.objects.create(job=self, **fields)


class ArtifactFactory(DjangoModelFactory):
    class Meta:
        model = Artifact

    job = factory.SubFactory(JobFactory)
    key = factory.Sequence("pytorch_lora_weights-{}.safetensors".format)
    kind = "weights"
    size_bytes = 4
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    etag = "etag"
    stored_as = factory.LazyAttribute(lambda artifact: f"{artifact.job.team.slug}/{artifact.job.job_id}/{artifact.key}")


def make_member(job_or_team: Any, role: str = Role.RESEARCHER) -> Membership:
    """A new member of a team, or of a job's team."""
    return MembershipFactory(team=getattr(job_or_team, "team", job_or_team), role=role)


def completed(team: Any, *, seconds: float, steps: int = 1000, **fields: Any) -> Job:
    """A run of Flux that was admitted and billed for so many seconds."""
    alike = {"model_family": "flux", "model_kind": "lora", "resolution": "512 pixel", "images_a_step": 1, **fields}
    ended = alike.pop("ended_at", SUBMITTED_AT + timedelta(seconds=seconds))
    job = JobFactory(team=team, state=State.COMPLETED, ended_at=ended, billed_seconds=seconds, progress__total_steps=steps, **alike)
    hold_for(job, micros=1)
    return job


def hold_for(job: Job, *, micros: int) -> None:
    """Take the job's hold as admission does."""
    held = billing.hold(
        team=job.team,
        amount=micros,
        reference=job.reference,
        what_for="Training",
        price_line=job.price_line,
        user=job.submitted_by,
        now=job.submitted_at,
    )
    job.hold = held.hold
    job.save(update_fields=["hold"])
