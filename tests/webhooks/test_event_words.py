"""Which of the documented events a delivery is, and what becomes of it on the job's timeline."""

import pytest

from jobs.models import ProviderEvent
from jobs.services import progress
from jobs.states import State
from tests.factories import UserFactory
from tests.jobs.factories import JobFactory
from tests.jobs.test_progress import launched
from tests.jobs.test_progress import said as prediction
from tests.webhooks.test_inbox import body_of, deliver, make_job
from webhooks import applying, replaying
from webhooks.models import Delivery

STARTED = "2026-11-23T12:03:00Z"
OUTPUT = "https://e.x/lora"


@pytest.fixture
def job(db, no_provider):
    return make_job()


def word_of(job, number, status, **fields):
    """Deliver one more, and say which event it is kept as."""
    assert deliver(job, body_of(status, **fields), webhook_id=f"msg_{number}").status_code == 200
    return Delivery.objects.get(webhook_id=f"msg_{number}").event


def counts(job):
    return {row.event: (row.times, row.deliveries, row.cause) for row in ProviderEvent.objects.filter(job=job)}


def test_a_whole_life_is_named_event_by_event(job):
    words = [
        word_of(job, 1, "processing", logs=""),
        word_of(job, 2, "processing", logs="Step 1/2\n"),
        word_of(job, 3, "processing", logs="Step 1/2\nStep 2/2\n"),
        word_of(job, 4, "processing", logs="Step 1/2\nStep 2/2\n", output=OUTPUT),
        word_of(job, 5, "succeeded", output=OUTPUT),
    ]
    applying.apply_unapplied()

    assert words == ["start", "logs", "logs", "output", "completed"]
    assert counts(job) == {
        "start": (1, 1, "webhook"),
        "logs": (2, 2, "webhook"),
        "output": (1, 1, "webhook"),
        "completed": (1, 1, "webhook"),
    }


@pytest.mark.parametrize(
    ("status", "fields", "word"),
    [
        ("starting", {"logs": ""}, "start"),
        ("starting", {"logs": None}, "start"),
        ("processing", {"logs": "Step 1/2\n"}, "logs"),
        ("processing", {"logs": "Step 1/2\n", "webhook_events_filter": ["start", "completed"]}, "start"),
        ("processing", {"logs": "Step 1/2\n", "output": OUTPUT}, "output"),
        ("succeeded", {}, "completed"),
        ("failed", {"error": "CUDA out of memory"}, "failed"),
        ("canceled", {}, "canceled"),
        ("aborted", {}, "canceled"),
    ],
)
def test_the_first_word_of_a_job(job, status, fields, word):
    assert word_of(job, 1, status, **fields) == word


def test_a_log_that_a_poll_brought_before_is_a_logs_event_that_was_no_news(job):
    word_of(job, 1, "processing", logs="")
    progress.record(job, prediction("processing", logs="Step 1/2\n", id=job.prediction_id), cause="poll")

    word = word_of(job, 2, "processing", logs="Step 1/2\n")

    assert word == "logs"
    assert counts(job)["logs"] == (1, 1, "poll")


def test_a_delivery_that_comes_twice_or_is_applied_twice_counts_once(job):
    for _ in range(2):
        word_of(job, 1, "succeeded")
    applying.apply_unapplied()
    replaying.replay(Delivery.objects.get())

    assert counts(job) == {"logs": (1, 0, "webhook"), "completed": (1, 1, "webhook")}


def test_one_in_quarantine_is_named_and_counts_for_nothing(job):
    word_of(job, 1, "processing", logs="")

    deliver(job, body_of("failed"), webhook_id="msg_1")

    assert sorted(Delivery.objects.values_list("event", "state")) == [("failed", "quarantined"), ("start", "received")]
    assert set(counts(job)) == {"start"}


@pytest.mark.django_db
def test_polling_alone_tells_the_same_events():
    job = launched()

    progress.record(job, prediction("starting"), cause="launch")
    for text in ("a\n", "a\nb\n", "a\nb\n"):
        progress.record(job, prediction("processing", started_at=STARTED, logs=text), cause="poll")
    ended = prediction("succeeded", seconds=1, started_at=STARTED, logs="a\nb\n", output=OUTPUT)
    progress.record(job, ended, cause="poll")
    progress.record(job, ended, cause="poll")

    assert counts(job) == {"start": (1, 0, "poll"), "logs": (2, 0, "poll"), "output": (1, 0, "poll"), "completed": (1, 0, "poll")}


@pytest.mark.django_db
def test_a_run_that_never_began_has_no_start():
    job = launched()

    progress.record(job, prediction("canceled", started_at=STARTED, completed_at=STARTED), cause="poll")

    assert set(counts(job)) == {"canceled"}


@pytest.mark.django_db
def test_late_news_of_another_end_is_no_event():
    job = launched(state=State.RUNNING)
    progress.record(job, prediction("failed", seconds=1, error="x"), cause="poll")

    progress.record(job, prediction("succeeded", seconds=1), cause="webhook")

    assert set(counts(job)) == {"failed"}


@pytest.mark.django_db
def test_foreign_news_counts_for_nothing():
    job = JobFactory(prediction_id="another")

    progress.record(job, prediction("processing", logs="x"), cause="webhook")

    assert counts(job) == {}


@pytest.mark.django_db
def test_staff_sees_and_filters_deliveries_by_their_event(client, job):
    word_of(job, 1, "processing", logs="")
    word_of(job, 2, "failed")
    client.force_login(UserFactory(is_staff=True, is_superuser=True))

    page = client.get("/admin/webhooks/delivery/", {"event__exact": "failed"}).content.decode()

    assert ["msg_1" in page, "msg_2" in page] == [False, True]
