"""Deliveries that cannot be applied: they rest longer each time, are put aside after about an hour, and somebody is told."""

from datetime import timedelta
from itertools import pairwise

import pytest
from django.utils import timezone

from accounts.models import AuditLine, Letter
from accounts.roles import Role
from billing.models import LedgerLine
from jobs.models import Job, JobEvent
from jobs.services import progress
from tests.factories import MembershipFactory
from tests.webhooks.deliveries import body_of, make_job
from tests.webhooks.test_inbox import deliver
from webhooks import applying, replaying, tasks
from webhooks.models import Delivery


@pytest.fixture
def job(db, no_provider):
    return make_job()


@pytest.fixture
def broken(monkeypatch):
    """Applying fails, until it is mended."""

    def fails(*_, **__):
        raise RuntimeError("cannot be")

    monkeypatch.setattr("jobs.services.progress.record", fails)
    return monkeypatch


def try_for_hours(time_machine):
    """Let the sweep run every 5 seconds for two hours, and say when it tried the delivery, in seconds from the beginning."""
    began, tried = timezone.now(), []
    for second in range(0, 7200, 5):
        time_machine.move_to(began + timedelta(seconds=second), tick=False)
        before = Delivery.objects.get().attempts
        applying.apply_unapplied()
        if Delivery.objects.get().attempts != before:
            tried.append(second)
    return tried


def test_it_is_tried_for_about_an_hour_with_longer_and_longer_rests_and_then_put_aside(job, broken, time_machine):
    deliver(job)

    tried = try_for_hours(time_machine)

    dead = Delivery.objects.get()
    rests = [later - earlier for earlier, later in pairwise(tried)]
    assert (dead.state, dead.attempts, dead.reason) == ("dead", applying.ATTEMPTS, "RuntimeError: cannot be")
    assert (len(tried), rests == sorted(rests), 3000 < tried[-1] < 4500) == (applying.ATTEMPTS, True, True)


def test_the_owners_are_told_of_what_was_put_aside_once_a_day(job, broken):
    owner = MembershipFactory(team=job.team, role=Role.OWNER)
    for number in range(2):
        deliver(job, body_of("processing", logs="x" * number), webhook_id=f"msg_{number}")
    Delivery.objects.update(attempts=applying.ATTEMPTS - 1)

    applying.apply_unapplied()

    assert list(Delivery.objects.values_list("state", flat=True)) == ["dead", "dead"]
    letter = Letter.objects.get()
    assert (letter.event, letter.person, letter.facts["job"]) == ("webhook_dead", owner.user, job.job_id)
    lines = AuditLine.objects.filter(event_type="webhook.dead")
    assert [(line.target_id, line.reason) for line in lines] == [(job.job_id, "RuntimeError: cannot be")] * 2


def test_the_bell_of_one_that_fails_does_not_blow_up_and_the_others_go_on(job, broken):
    deliver(job, body_of("processing"))

    tasks.apply(delivery_pk=Delivery.objects.get().pk)

    failed = Delivery.objects.get()
    assert (failed.state, failed.attempts, failed.reason) == ("received", 1, "RuntimeError: cannot be")
    assert failed.try_after > timezone.now()
    broken.undo()
    deliver(job, webhook_id="msg_2")
    assert (applying.apply_unapplied(), Job.objects.get().state) == (1, "completed")


def test_one_that_was_put_aside_and_is_mended_is_applied_again(job, broken):
    deliver(job)
    Delivery.objects.update(attempts=applying.ATTEMPTS - 1)
    applying.apply_unapplied()
    broken.undo()

    replayed = replaying.replay(Delivery.objects.get())

    mended = Delivery.objects.get()
    assert (replayed, mended.state, mended.attempts, mended.reason, mended.moved_to) == (True, "applied", 1, "", "completed")
    assert Job.objects.get().state == "completed"


def test_one_that_still_fails_when_it_is_applied_again_begins_to_rest_anew(job, broken):
    deliver(job)
    Delivery.objects.update(attempts=applying.ATTEMPTS, state="dead")

    replaying.replay(Delivery.objects.get())

    assert (Delivery.objects.get().state, Delivery.objects.get().attempts) == ("received", 1)


def test_old_news_that_rested_meanwhile_changes_nothing(job, monkeypatch):
    record = progress.record
    deliver(job, body_of("processing"), webhook_id="msg_1")
    deliver(job, body_of("succeeded"), webhook_id="msg_2")

    def fails_at_first(job, prediction, **more):
        if prediction.status == "processing":
            raise RuntimeError("not now")
        record(job, prediction, **more)

    monkeypatch.setattr("jobs.services.progress.record", fails_at_first)
    applying.apply_unapplied()
    monkeypatch.undo()
    before = [list(model.objects.order_by("pk").values()) for model in (JobEvent, LedgerLine)]
    Delivery.objects.update(try_after=None)
    applying.apply_unapplied()

    assert sorted(Delivery.objects.values_list("webhook_id", "state", "moved_to")) == [
        ("msg_1", "applied", ""),
        ("msg_2", "applied", "completed"),
    ]
    assert [list(model.objects.order_by("pk").values()) for model in (JobEvent, LedgerLine)] == before
    assert Job.objects.get().state == "completed"
