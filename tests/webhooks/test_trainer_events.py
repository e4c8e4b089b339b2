"""SimpleTuner's own webhook format: read from samples as its trainer sends them, taken by the key, never ending a job."""

import json

import pytest
from django.test import Client

from jobs import tasks as job_tasks
from jobs.models import Job, JobEvent, JobProgress, ProviderSettings
from jobs.services import logs
from tests.webhooks.deliveries import ID, OTHER_SECRET, PATH, address_of, body_of, make_job, signed
from webhooks import applying, trainer_events
from webhooks.models import Delivery
from webhooks.trainer_events import TrainerEvent, TrainerWord, parse

TIME = {"timestamp": "2026-11-23T12:03:00.123456+00:00", "job_id": None}
STAGE = {
    "type": "lifecycle.stage",
    "severity": "info",
    "title": "Caching VAE outputs",
    "message": "Caching VAE outputs",
    "stage": {
        "key": "vae_cache",
        "label": "VAE caching",
        "status": "running",
        "progress": {"label": "VAE caching", "current": 40, "total": 120, "percent": 33},
    },
} | TIME
PROGRESS = {
    "type": "training.progress",
    "title": "Training progress",
    "progress": {
        "label": "Training",
        "current": 120,
        "total": 1000,
        "percent": 12.0,
        "eta_seconds": 453,
        "metrics": {"loss": 0.123, "learning_rate": 1e-05, "epoch": 3},
    },
} | TIME
STATUS = {
    "type": "training.status",
    "title": "Running",
    "data": {"status": "running", "total_steps": 1000},
    "message": "Training begins",
} | TIME
DONE = {"type": "training.status", "title": "Completed", "data": {"status": "completed"}, "message": "Training completed"} | TIME
CHECKPOINT = {
    "type": "training.checkpoint",
    "severity": "info",
    "title": "checkpoint-500",
    "checkpoint": {"path": "/src/output/models/checkpoint-500", "label": "checkpoint-500", "is_final": False},
} | TIME
VALIDATION = {"type": "training.validation", "validation": {"headline": "Validation", "assets": []}} | TIME
TROUBLE = {"type": "notification", "severity": "error", "title": "Error", "message": "CUDA out of memory, the step is skipped"} | TIME
DEBUG = {"type": "debug", "severity": "debug", "message": "bucket 3 of 7"} | TIME
SAMPLES = [STAGE, PROGRESS, STATUS, DONE, CHECKPOINT, VALIDATION, TROUBLE, DEBUG]


@pytest.fixture
def job(db, no_provider):
    return make_job(state="running")


@pytest.fixture
def polls(monkeypatch, job):
    """The jobs about which the provider was asked."""
    asked = []
    monkeypatch.setattr(job_tasks.poll_job, "delay", lambda *, job_pk: asked.append(job_pk))
    return asked


def tell(job, said, *, headers=None, to=None):
    body = json.dumps(said).encode()
    return Client().post(to or address_of(job), body, content_type="application/json", headers=headers or {})


# --- Reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "event"),
    [
        (STAGE, TrainerEvent(word=TrainerWord.STAGE, stage="Preprocessing")),
        (
            PROGRESS,
            TrainerEvent(
                word=TrainerWord.PROGRESS, stage="Training", step=120, total_steps=1000, loss=0.123, learning_rate=1e-05, seconds_left=453
            ),
        ),
        (STATUS, TrainerEvent(word=TrainerWord.STATUS, total_steps=1000, asks_provider=True)),
        (DONE, TrainerEvent(word=TrainerWord.STATUS, asks_provider=True)),
        (CHECKPOINT, TrainerEvent(word=TrainerWord.CHECKPOINT, checkpoint="checkpoint-500")),
        (VALIDATION, TrainerEvent(word=TrainerWord.VALIDATION, stage="Validation")),
        (TROUBLE, TrainerEvent(word=TrainerWord.NOTIFICATION, trouble="CUDA out of memory, the step is skipped")),
        (DEBUG, TrainerEvent(word=TrainerWord.DEBUG)),
        ({"event_type": "completed"}, TrainerEvent(word=TrainerWord.COMPLETED, asks_provider=True)),
        ({"type": "error", "message": "again"}, TrainerEvent(word=TrainerWord.ERROR, trouble="again")),
        ({"type": "something.new", "progress": {"current": 1}}, TrainerEvent(word=None)),
    ],
)
def test_each_event_is_read_as_simpletuner_sends_it(said, event):
    assert (trainer_events.is_one(said), parse(said)) == (True, event)


@pytest.mark.parametrize(
    ("key", "status", "stage"),
    [
        ("warmup", "running", "Warmup"),
        ("validation", "running", "Validation"),
        ("validation", "completed", "Training"),
        ("checkpoint_save", "completed", "Training"),
        ("text_embed_cache", "completed", "Preprocessing"),
        ("training", "running", "Training"),
    ],
)
def test_a_stage_that_is_over_is_not_the_job(key, status, stage):
    assert parse({"type": "lifecycle.stage", "stage": {"key": key, "label": None, "status": status}}).stage == stage


@pytest.mark.parametrize("odd", [None, 5, "x", [], {"current": True, "total": "1000"}, {"current": -1}, {"current": 1e300, "metrics": []}])
def test_what_is_of_another_kind_counts_as_not_said(odd):
    event = parse({"type": "training.progress", "progress": odd, "stage": odd, "data": odd, "checkpoint": odd, "message": odd})

    assert event == TrainerEvent(word=TrainerWord.PROGRESS, stage="Training")


def test_the_providers_bodies_are_none_of_these():
    assert not trainer_events.is_one(json.loads(body_of()))
    assert not trainer_events.is_one({"type": "completed", "id": ID, "status": "succeeded"})
    assert not trainer_events.is_one({"type": 5})


# --- Taking -----------------------------------------------------------------------------------------------


def test_the_jobs_own_address_is_proof_enough_for_progress(job):
    answer = tell(job, PROGRESS)
    applying.apply_unapplied()

    kept, progress = Delivery.objects.get(), JobProgress.objects.get()
    assert (answer.status_code, answer.json()["status"]) == (200, "received")
    assert (kept.source, kept.event, kept.proof, kept.state) == ("trainer", "training.progress", "key", "applied")
    assert (progress.stage, progress.step, progress.total_steps, progress.percent) == ("Training", 120, 1000, 12)
    assert (progress.loss, progress.learning_rate, progress.seconds_left) == (0.123, 1e-05, 453)
    assert list(job.series.values_list("step", "loss")) == [(120, 0.123)]


def test_it_is_not_taken_for_the_providers_news(job):
    for said in SAMPLES:
        tell(job, said)
    applying.apply_unapplied()

    # With a stamp here the provider would be asked more rarely.
    assert JobProgress.objects.get().heard_at is None
    assert (logs.read(job), job.provider_events.count()) == ("", 0)


@pytest.mark.parametrize("said", [DONE, STATUS, *({"type": word} for word in ("start", "completed", "failed", "canceled", "output"))])
def test_what_sounds_like_an_end_only_asks_the_provider(job, polls, said, django_capture_on_commit_callbacks):
    tell(job, said)
    with django_capture_on_commit_callbacks(execute=True):
        applying.apply_unapplied()

    assert (Job.objects.get().state, JobEvent.objects.count(), polls) == ("running", 0, [job.pk])


@pytest.mark.parametrize("said", [TROUBLE, {"type": "error", "message": "CUDA out of memory, the step is skipped"}])
def test_an_error_is_told_on_the_timeline_and_ends_nothing(job, polls, said, django_capture_on_commit_callbacks):
    tell(job, said)
    tell(job, said | {"timestamp": "later"})
    with django_capture_on_commit_callbacks(execute=True):
        applying.apply_unapplied()

    assert (Job.objects.get().state, Job.objects.get().error, polls) == ("running", "", [])
    assert list(job.events.values_list("state", "cause", "detail")) == [("", "trainer", "CUDA out of memory, the step is skipped")]


def test_a_checkpoint_is_told_without_where_it_lies(job):
    tell(job, CHECKPOINT)
    applying.apply_unapplied()

    assert job.events.get().detail == "Saved checkpoint-500."


def test_older_progress_changes_nothing_and_the_log_goes_on_from_there(job):
    tell(job, PROGRESS)
    older = PROGRESS | {"progress": PROGRESS["progress"] | {"current": 100}}
    tell(job, older)
    applying.apply_unapplied()
    after_older = JobProgress.objects.get().step

    logs.append(Job.objects.get(), "Epoch 1/10 Steps: 13%|#| 130/1000 [01:02<07:33, 1.94it/s, lr=1e-05, step_loss=0.12]\n")

    assert (after_older, JobProgress.objects.get().step, JobProgress.objects.get().loss) == (120, 130, 0.12)


def test_a_repeat_is_a_duplicate_and_the_same_words_of_another_job_are_not(job):
    other = make_job(prediction_id="a" * 26, state="running")

    answers = [tell(job, DEBUG), tell(job, DEBUG), tell(other, DEBUG)]

    assert [answer.json()["status"] for answer in answers] == ["received", "ignored", "received"]
    assert Delivery.objects.count() == 2


def test_a_job_that_is_over_hears_no_more(job):
    Job.objects.update(state="completed")
    tell(job, PROGRESS)
    tell(job, TROUBLE)
    applying.apply_unapplied()

    assert (JobProgress.objects.get().step, JobEvent.objects.exists()) == (None, False)
    assert set(Delivery.objects.values_list("state", flat=True)) == {"applied"}


def test_an_event_of_another_run_changes_nothing(job):
    tell(job, PROGRESS | {"prediction_id": "z" * 26})
    applying.apply_unapplied()

    assert JobProgress.objects.get().step is None


# --- Not believed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("requires", [True, False])
def test_a_wrong_signature_is_never_taken_whatever_the_key_says(job, requires):
    ProviderSettings.objects.create(team=job.team, webhook_require_signature=requires)
    body = json.dumps(PROGRESS).encode()

    answer = tell(job, PROGRESS, headers=signed(body, secret=OTHER_SECRET))

    assert (answer.status_code, Delivery.objects.exists()) == (401, False)


def test_without_the_key_it_must_be_signed(job):
    said = PROGRESS | {"prediction_id": ID}
    body = json.dumps(said).encode()

    answers = [tell(job, said, to=PATH), tell(job, said, to=f"{PATH}?job={job.job_id}&callback=guess")]
    taken = tell(job, said, to=PATH, headers=signed(body))

    assert ([answer.status_code for answer in answers], taken.status_code) == ([401, 404], 200)
    assert (Delivery.objects.get().proof, Delivery.objects.get().webhook_id) == ("signature", "msg_1")


def test_an_unsigned_one_cannot_take_an_id_away_from_the_provider(job):
    tell(job, PROGRESS, headers={"webhook-id": "msg_1"})
    body = body_of()

    answer = Client().post(address_of(job), body, content_type="application/json", headers=signed(body))

    assert (answer.json()["status"], Delivery.objects.filter(state="quarantined").exists()) == ("received", False)


def test_the_providers_own_body_needs_a_signature_at_that_address_too(job):
    assert Client().post(address_of(job), body_of(), content_type="application/json").status_code == 401


@pytest.mark.parametrize("mode", ["block", "observe"])
def test_an_unsigned_trainer_outside_the_list_is_turned_away(job, mode):
    ProviderSettings.objects.create(team=job.team, webhook_allowed_ips=["34.82.0.0/16"], webhook_address_mode=mode)

    assert (tell(job, PROGRESS).status_code, Delivery.objects.exists()) == (403, False)


def test_unsigned_trainers_are_let_in_at_the_teams_pace(job, settings):
    settings.RATE_LIMIT_CALLS = 1
    ProviderSettings.objects.create(team=job.team, webhook_rate_limit_max=2)

    answers = [tell(job, DEBUG | {"message": str(number)}).status_code for number in range(3)]

    assert answers == [200, 200, 429]
