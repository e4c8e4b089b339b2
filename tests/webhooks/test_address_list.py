"""The list of addresses: what comes from outside it is held or observed, told, and let go by one click; never without a right signature."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import letters
from accounts.models import AuditLine, Credential, Letter
from accounts.roles import Role
from jobs import tasks as job_tasks
from jobs.models import Job, JobEvent, JobProgress, ProviderEvent, ProviderSettings
from jobs.services import logs
from tests.billing.factories import race
from tests.factories import MembershipFactory
from tests.jobs.ready import caller_of
from tests.webhooks.deliveries import ID, LOG, OTHER_SECRET, PATH, address_of, body_of, make_job, signed
from webhooks import applying, inbox, releasing, replaying
from webhooks.models import Delivery, OutsideAddress

INSIDE, OUTSIDE = "34.82.1.1", "203.0.113.7"


@pytest.fixture
def job(db, no_provider):
    job = make_job()
    ProviderSettings.objects.create(team=job.team, webhook_allowed_ips=["34.82.0.0/16", "35.185.0.0/16"])
    return job


@pytest.fixture
def owner(job):
    return MembershipFactory(team=job.team, role=Role.OWNER)


def observe():
    ProviderSettings.objects.update(webhook_address_mode="observe")


def deliver(job, body=None, *, address=OUTSIDE, headers=None, to=None, **options):
    body = body_of() if body is None else body
    headers = signed(body, **options) if headers is None else headers
    return Client().post(to or address_of(job), body, content_type="application/json", headers=headers, REMOTE_ADDR=address)


def said(answer):
    return answer.status_code, answer.json().get("code") or answer.json()["status"]


# --- Held -------------------------------------------------------------------------------------------------


def test_from_outside_it_is_answered_as_documented_and_kept_and_tells_the_job_nothing(job):
    answer = deliver(job)
    applying.apply_unapplied()

    kept = Delivery.objects.get()
    assert (answer.status_code, answer.json()["detail"]) == (403, "IP address not in allowlist")
    assert answer.json()["details"] == {"address": OUTSIDE}
    assert (kept.state, kept.is_outside, kept.address, kept.proof, kept.event) == ("held", True, OUTSIDE, "signature", "completed")
    assert "log" not in json.dumps(kept.content)
    assert (Job.objects.get().state, logs.read(job), JobEvent.objects.count(), ProviderEvent.objects.count()) == ("queued", "", 0, 0)
    assert not JobProgress.objects.exclude(heard_at=None).exists()


def test_the_provider_is_asked_instead(job, monkeypatch, django_capture_on_commit_callbacks):
    asked = []
    monkeypatch.setattr(job_tasks.poll_job, "delay", lambda *, job_pk: asked.append(job_pk))

    with django_capture_on_commit_callbacks(execute=True):
        deliver(job)

    assert asked == [job.pk]


def test_released_it_is_applied_like_any(job, owner):
    deliver(job)
    held = Delivery.objects.get()

    releasing.release(caller_of(owner), held)
    applying.apply_unapplied()

    applied = Delivery.objects.get()
    assert (applied.state, applied.reason, applied.held_log, applied.moved_to) == ("applied", "", "", "completed")
    assert (Job.objects.get().state, Job.objects.get().cost, logs.read(job)) == ("completed", 97_988, LOG)
    assert JobProgress.objects.get().heard_at is not None
    assert dict(ProviderEvent.objects.values_list("event", "deliveries")) == {"completed": 1, "logs": 0}
    line = AuditLine.objects.get(event_type="webhook.released")
    assert (line.actor, line.target_id, line.after) == (owner.user.username, job.job_id, {"address": OUTSIDE})


def test_it_is_released_once(job, owner):
    deliver(job)
    held = Delivery.objects.select_related("job__team").get()
    releasing.release(caller_of(owner), held)
    stale = Delivery(pk=held.pk, state="held", job=job, webhook_id="msg_1")

    for delivery in (held, stale):
        with pytest.raises(releasing.NotHeld):
            releasing.release(caller_of(owner), delivery)

    assert AuditLine.objects.filter(event_type="webhook.released").count() == 1


def test_releasing_may_put_the_network_on_the_list_and_lets_go_what_else_came_from_there(job, owner):
    for number, address in enumerate([OUTSIDE, "203.0.113.8", "198.51.100.1"]):
        deliver(job, body_of("processing", logs=LOG * number), webhook_id=f"msg_{number}", address=address)

    releasing.release(caller_of(owner), Delivery.objects.get(webhook_id="msg_0"), allow="203.0.113.0/24")

    assert ProviderSettings.objects.get().webhook_allowed_ips == ["34.82.0.0/16", "35.185.0.0/16", "203.0.113.0/24"]
    assert dict(Delivery.objects.values_list("webhook_id", "state")) == {"msg_0": "received", "msg_1": "received", "msg_2": "held"}
    assert said(deliver(job, webhook_id="msg_9")) == (200, "received")


def test_a_repeat_from_outside_changes_nothing_and_one_from_inside_lets_it_in(job):
    body = body_of()
    deliver(job, body)

    repeated = deliver(job, body, at=datetime.now(UTC) - timedelta(seconds=5))
    still = Delivery.objects.get().state
    inside = deliver(job, body, address=INSIDE, at=datetime.now(UTC) - timedelta(seconds=9))
    applying.apply_unapplied()

    assert (said(repeated), still, said(inside)) == ((403, "ip_not_allowed"), "held", (200, "received"))
    assert (Delivery.objects.get().state, Delivery.objects.get().repeats, Job.objects.get().state) == ("applied", 2, "completed")
    assert logs.read(job) == LOG


def test_another_body_under_a_held_id_is_put_apart(job):
    deliver(job, body_of("processing"))

    inside = deliver(job, body_of("failed"), address=INSIDE)

    assert inside.status_code == 200
    assert sorted(Delivery.objects.values_list("state", flat=True)) == ["held", "quarantined"]


def test_what_is_held_is_not_applied_again_by_a_replay(job, owner):
    deliver(job)

    assert replaying.replay_all(caller_of(owner), inbox.of(job.team)) == 0
    assert not replaying.replay(Delivery.objects.get())
    with pytest.raises(replaying.NotReplayable):
        replaying.replay_one(caller_of(owner), Delivery.objects.get())
    assert Delivery.objects.get().state == "held"


# --- Observed ---------------------------------------------------------------------------------------------


def test_in_observe_mode_it_is_taken_and_marked(job):
    observe()

    answer = deliver(job)
    applying.apply_unapplied()

    taken = Delivery.objects.get()
    assert (said(answer), taken.state, taken.is_outside, Job.objects.get().state) == ((200, "received"), "applied", True, "completed")
    assert AuditLine.objects.get(event_type="webhook.drifted").after == {"address": OUTSIDE}
    assert not AuditLine.objects.filter(event_type="webhook.rejected").exists()


# --- Not proven -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["block", "observe"])
@pytest.mark.parametrize("requires", [True, False])
@pytest.mark.parametrize("headers", [{}, signed(body_of(), secret=OTHER_SECRET), {"webhook-signature": "v1,x"}])
def test_without_a_right_signature_nothing_from_outside_is_kept(job, headers, requires, mode):
    ProviderSettings.objects.update(webhook_address_mode=mode, webhook_require_signature=requires)

    answer = deliver(job, headers=headers)

    assert said(answer) == (403, "ip_not_allowed")
    assert AuditLine.objects.get(event_type="webhook.rejected").after == {"address": OUTSIDE}
    assert [model.objects.count() for model in (Delivery, OutsideAddress, Letter)] == [0, 0, 0]


@pytest.mark.parametrize("mode", ["block", "observe"])
@pytest.mark.parametrize("to", ["callback", "prediction"])
def test_another_teams_secret_is_never_enough(job, mode, to):
    ProviderSettings.objects.update(webhook_address_mode=mode)
    other = make_job(prediction_id="a" * 26)
    Credential.objects.filter(pk=other.credential.pk).update(signing_keys=OTHER_SECRET)
    foreign = body_of(id="a" * 26)
    paths = {"callback": address_of(job), "prediction": PATH}

    answers = [
        # Their secret on our job.
        deliver(job, secret=OTHER_SECRET, to=paths[to]),
        # Our job's address with their prediction, and the other way round.
        deliver(job, foreign, secret=OTHER_SECRET, to=address_of(job)),
        deliver(other, body_of(), to=address_of(other), address=INSIDE),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 401]
    assert not Delivery.objects.exists()


def test_another_teams_run_at_our_address_changes_nothing_even_when_we_signed_it(job, owner):
    other = make_job(prediction_id="a" * 26)

    deliver(job, body_of(id="a" * 26))
    releasing.release(caller_of(owner), Delivery.objects.get())
    applying.apply_unapplied()

    kept = Delivery.objects.get()
    assert (kept.state, kept.moved_to, kept.is_of_another_run) == ("applied", "", True)
    assert set(Job.objects.values_list("state", flat=True)) == {"queued"}
    assert (logs.read(job), logs.read(other)) == ("", "")


def test_strangers_from_outside_are_counted_and_slowed(job, settings):
    settings.RATE_LIMIT_CALLS = 1
    ProviderSettings.objects.update(webhook_rate_limit_max=2)

    answers = [deliver(job, headers={}).status_code for _ in range(3)]

    assert (answers, deliver(job).status_code) == ([403, 403, 429], 403)
    assert Delivery.objects.get().state == "held"


# --- Told -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["block", "observe"])
def test_the_owners_are_told_at_once_and_of_each_address_once_a_day(job, owner, mode, time_machine):
    MembershipFactory(team=job.team, role=Role.LEAD)
    ProviderSettings.objects.update(webhook_address_mode=mode)
    time_machine.move_to(timezone.now(), tick=False)
    for number in range(3):
        deliver(job, body_of("processing", logs="x" * number), webhook_id=f"msg_{number}")
    deliver(job, body_of("processing", logs="y"), webhook_id="msg_3", address="198.51.100.1")

    told = list(Letter.objects.order_by("pk").values_list("person", "event", "facts__address", "facts__is_held"))
    time_machine.shift(timedelta(hours=25))
    deliver(job, webhook_id="msg_4", at=datetime.now(UTC))

    is_held = int(mode == "block")
    assert told == [(owner.user.pk, "webhook_outside", address, is_held) for address in (OUTSIDE, "198.51.100.1")]
    assert Letter.objects.count() == 3


def test_the_mail_says_what_came_from_where(job, owner, settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"
    settings.PUBLIC_URL = "https://tunehouse.example.com"

    deliver(job)

    letters.send_waiting(now=timezone.now())
    (message,) = mail.outbox
    assert message.subject == f"A webhook for {job.team.name} is held: it came from {OUTSIDE}"
    assert f"https://tunehouse.example.com/t/{job.team.slug}/settings/webhooks/inbox/" in message.body


def test_every_one_that_is_held_leaves_a_line_and_of_those_taken_one_a_day(job):
    for number in range(2):
        deliver(job, body_of("processing", logs="x" * number), webhook_id=f"msg_{number}")
    observe()
    for number in range(2, 5):
        deliver(job, body_of("processing", logs="x" * number), webhook_id=f"msg_{number}")

    counts = [AuditLine.objects.filter(event_type=name).count() for name in ("webhook.rejected", "webhook.drifted")]
    assert counts == [2, 0]


def test_the_retries_of_one_that_is_held_leave_no_more_lines(job):
    body = body_of()
    for seconds in (9, 5, 1):
        deliver(job, body, at=datetime.now(UTC) - timedelta(seconds=seconds))

    assert AuditLine.objects.filter(event_type="webhook.rejected").count() == 1
    assert (Delivery.objects.get().repeats, OutsideAddress.objects.get().held) == (2, 3)


@pytest.mark.django_db(transaction=True)
def test_many_at_once_are_told_of_once_and_let_go_once(no_provider):
    job = make_job()
    owner = MembershipFactory(team=job.team, role=Role.OWNER)
    ProviderSettings.objects.create(team=job.team, webhook_allowed_ips=["34.82.0.0/16"])

    answers = race(lambda number: deliver(job, body_of("processing", logs="x" * number), webhook_id=f"msg_{number}").status_code, times=8)
    released = race(lambda number: releasing.release_all(caller_of(owner), Delivery.objects.of(job.team)), times=4)
    race(lambda number: applying.apply_unapplied(), times=4)

    assert (answers, sum(released), Letter.objects.count(), OutsideAddress.objects.get().held) == ([403] * 8, 8, 1, 8)
    assert set(Delivery.objects.values_list("state", "attempts")) == {("applied", 1)}
    assert (Job.objects.get().state, logs.read(job)) == ("running", "x" * 7)


# --- The report -------------------------------------------------------------------------------------------


def test_the_report_names_who_came_from_outside_and_what_of_the_list_is_unused(job):
    deliver(job, body_of("processing"), webhook_id="msg_1")
    observe()
    deliver(job, body_of("processing", logs="x"), webhook_id="msg_2")
    deliver(job, address=INSIDE, webhook_id="msg_3")

    found = inbox.drift(job.team, ["34.82.0.0/16", "35.185.0.0/16"], now=timezone.now())

    assert [(row.address, row.held, row.passed) for row in found.outside] == [(OUTSIDE, 1, 1)]
    assert found.outside[0].first_seen_at <= found.outside[0].last_seen_at
    assert found.unused == ["35.185.0.0/16"]


def test_an_address_that_is_on_the_list_by_now_is_no_drift(job):
    deliver(job)

    assert inbox.drift(job.team, ["203.0.113.0/24"], now=timezone.now()).outside == []
    assert inbox.drift(job.team, [], now=timezone.now()) == inbox.Drift([], [])


# --- The pace ---------------------------------------------------------------------------------------------


def test_a_list_costs_a_delivery_from_inside_no_query_more(job):
    def queries(number):
        with CaptureQueriesContext(connection) as ran:
            assert deliver(job, body_of("processing", logs="x" * number), webhook_id=f"msg_{number}", address=INSIDE).status_code == 200
        return len(ran)

    queries(0), queries(1)
    with_list = queries(2)
    ProviderSettings.objects.update(webhook_allowed_ips=[])

    assert with_list == queries(3)


def test_a_rehearsal_on_our_own_sandbox_comes_from_anywhere(job):
    Job.objects.update(provider="sandbox")

    assert said(deliver(job)) == (200, "received")
    assert (Delivery.objects.get().state, ID in Delivery.objects.get().content["id"]) == ("received", True)
