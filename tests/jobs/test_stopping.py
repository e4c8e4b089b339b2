"""The stop time: moved up to the ceiling, warned of once, kept by the watchdog; and whoever comes second is told."""

from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Thread

import pytest
import time_machine
from django.core import mail
from django.db import transaction
from django.urls import reverse

from accounts import tasks as mailing
from accounts.errors import InvalidInput, NotPermitted
from accounts.models import AuditLine, Letter, Membership
from accounts.roles import Role
from jobs import tasks
from jobs.models import FaultRetry, Job
from jobs.services import cancelling, stopping
from jobs.services.cancelling import InvalidJobState
from jobs.services.stopping import StopTimeOutOfBounds
from jobs.states import State
from tests.billing.factories import race, wait_for_a_lock
from tests.factories import make_token
from tests.jobs.factories import JobFactory, hold_for, make_member
from tests.jobs.ready import caller_of
from tests.mail import link_in

CREATED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW = CREATED + timedelta(minutes=20)
RATE = 975


@pytest.fixture
def rung(monkeypatch):
    """The jobs for which the provider was to be told, in order."""
    found = []
    monkeypatch.setattr(tasks.cancel, "delay", lambda *, job_pk: found.append(job_pk))
    return found


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


def running(**fields):
    """A job that has run for twenty minutes, is stopped after 30 and must end after 60."""
    at_provider = {"prediction_id": "p" * 26, "created_at_provider": CREATED, "started_at": CREATED}
    job = JobFactory(**{"ceiling_seconds": 3600, "stop_after_seconds": 1800} | at_provider | fields)
    make_member_of(job)
    hold_for(job, micros=3660 * RATE)
    return job


def make_member_of(job):
    Membership.objects.create(team=job.team, user=job.submitted_by, role=Role.RESEARCHER)


def submitter(job):
    return caller_of(Membership.objects.get(team=job.team, user=job.submitted_by))


# --- One that fails -----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_job_whose_stop_fails_keeps_no_other_job_and_no_other_work_from_its_turn(rung, clock, monkeypatch):
    broken, sound = running(), running(prediction_id="q" * 26)
    fault = FaultRetry.objects.create(job=JobFactory(state=State.FAILED))
    decided = []
    monkeypatch.setattr(tasks.retry_fault, "delay", lambda *, fault_pk: decided.append(fault_pk))
    stop = stopping._stop
    monkeypatch.setattr(stopping, "_stop", lambda job, *, now: 1 / 0 if job == broken else stop(job, now=now))
    clock.move_to(CREATED + timedelta(minutes=31))

    tasks.sweep()

    asked = Job.objects.exclude(cancel_requested_at=None)
    assert (list(asked), decided) == ([sound], [fault.pk])


# --- Moving -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_moving_the_stop_time_holds_nothing_more_and_leaves_its_traces(clock):
    job = running()

    moved = stopping.move(job, caller=submitter(job), stop_after_seconds=3600)

    assert (moved.stop_after_seconds, moved.stop_at, moved.hold.amount) == (3600, CREATED + timedelta(hours=1), 3660 * RATE)
    assert list(job.events.values_list("cause", "detail")) == [("person", "Stop time moved from 30 min to 60 min after creation.")]
    line = AuditLine.objects.get(event_type="job.stop_time_moved")
    assert (line.target_id, line.actor, line.before, line.after) == (
        job.job_id, job.submitted_by.username, {"stop_after_seconds": 1800}, {"stop_after_seconds": 3600},
    )  # fmt: skip


@pytest.mark.django_db
def test_moving_it_to_a_moment_or_to_where_it_is(clock):
    job = running()

    moved = stopping.move(job, caller=submitter(job), stop_at=CREATED + timedelta(minutes=25))
    stopping.move(job, caller=submitter(job), stop_after_seconds=1500)

    assert moved.stop_after_seconds == 1500
    assert job.events.count() == AuditLine.objects.filter(event_type="job.stop_time_moved").count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        (3601, "The stop time cannot lie beyond the ceiling of the job, 60 min after its creation: "),
        (2**40, "The stop time cannot lie beyond the ceiling"),
        (1259, "The stop time must lie at least a minute ahead"),
        (0, "The stop time must lie at least a minute ahead"),
        (-5, "The stop time must lie at least a minute ahead"),
    ],
)
def test_it_lies_a_minute_ahead_at_least_and_within_the_ceiling(clock, seconds, sentence):
    job = running()

    with pytest.raises(StopTimeOutOfBounds, match=sentence) as refused:
        stopping.move(job, caller=submitter(job), stop_after_seconds=seconds)

    assert (refused.value.status, refused.value.field) == (422, "stop_after_seconds")
    assert Job.objects.get().stop_after_seconds == 1800
    assert stopping.move(job, caller=submitter(job), stop_after_seconds=1260).stop_after_seconds == 1260


@pytest.mark.django_db
def test_up_to_the_ceiling_is_allowed_in_the_last_minute_before_it(clock):
    job = running(ceiling_seconds=1230, stop_after_seconds=1210)

    assert stopping.move(job, caller=submitter(job), stop_after_seconds=1230).stop_after_seconds == 1230


@pytest.mark.django_db
def test_a_job_that_is_not_at_the_provider_yet_has_a_length_and_no_moment(clock):
    job = running(state=State.PENDING, prediction_id=None, created_at_provider=None, started_at=None)

    moved = stopping.move(job, caller=submitter(job), stop_after_seconds=60)
    with pytest.raises(InvalidJobState, match="not at the provider yet"):
        stopping.move(job, caller=submitter(job), stop_at=NOW + timedelta(minutes=10))

    assert (moved.stop_after_seconds, moved.stop_at) == (60, None)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"cancel_requested_at": NOW}, "is being stopped already; its stop time cannot be moved any more."),
        ({"state": State.COMPLETED, "ended_at": NOW}, "is completed; its stop time cannot be moved any more."),
        ({"metadata": {"imported": True}}, "was started elsewhere, so no stop time is kept for it."),
    ],
)
def test_what_is_over_or_on_its_way_there_cannot_be_moved(clock, fields, sentence):
    job = running(**fields)

    with pytest.raises(InvalidJobState, match=sentence) as refused:
        stopping.move(job, caller=submitter(job), stop_after_seconds=3600)

    assert (refused.value.status, job.events.count()) == (409, 0)


@pytest.mark.django_db
def test_researchers_move_their_own_jobs_and_leads_any(clock):
    job = running()

    for other in (make_member(job), make_member(job, Role.VIEWER)):
        with pytest.raises(NotPermitted):
            stopping.move(job, caller=caller_of(other), stop_after_seconds=3600)

    assert stopping.move(job, caller=caller_of(make_member(job, Role.LEAD)), stop_after_seconds=3600).stop_after_seconds == 3600


@pytest.mark.django_db
@pytest.mark.parametrize("asked", [{}, {"stop_after_seconds": 3600, "stop_at": NOW}])
def test_one_of_the_two_is_given(clock, asked):
    job = running()

    with pytest.raises(InvalidInput, match="Give either stop_after_seconds or stop_at"):
        stopping.move(job, caller=submitter(job), **asked)


# --- The watchdog -------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_watchdog_stops_a_job_at_its_stop_time_once(rung, django_capture_on_commit_callbacks):
    late, other = running(), running(prediction_id="q" * 26, stop_after_seconds=1860)
    now = CREATED + timedelta(minutes=30)

    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            stopping.watch(now=now)

    assert rung == [late.pk]
    assert ("watchdog", "The stop time has come.") in late.events.values_list("cause", "detail")
    assert [Job.objects.get(pk=job.pk).cancel_requested_at for job in (late, other)] == [now, None]


@pytest.mark.django_db
def test_the_sweep_keeps_the_stop_times(rung, clock, django_capture_on_commit_callbacks):
    job = running(stop_after_seconds=1100)

    with django_capture_on_commit_callbacks(execute=True):
        tasks.sweep()

    assert job.pk in rung


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"imported": True}},
        {"created_at_provider": None},
        {"state": State.COMPLETED},
        {"cancel_requested_at": CREATED},
    ],
)
def test_the_watchdog_leaves_alone_what_is_not_its_own(rung, fields, django_capture_on_commit_callbacks):
    job = running(**fields)

    with django_capture_on_commit_callbacks(execute=True):
        stopping.watch(now=CREATED + timedelta(days=1))

    assert (rung, job.events.count(), Letter.objects.count()) == ([], 0, 0)


# --- The warning --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_at_80_percent_the_submitter_is_told_once(settings, django_capture_on_commit_callbacks):
    settings.EMAIL_BACKEND, settings.PUBLIC_URL = "tests.mail.EmailBackend", "https://ours.test"
    job = running(run_name="spring")
    job.team.time_zone = "Europe/Madrid"
    job.team.save()

    stopping.watch(now=CREATED + timedelta(seconds=1439))
    before = Letter.objects.count()
    for seconds in (1440, 1500, 1799):
        stopping.watch(now=CREATED + timedelta(seconds=seconds))
    with time_machine.travel(CREATED + timedelta(seconds=1500), tick=False):
        Letter.objects.update(written_at=CREATED)
        mailing.send_mail()

    assert (before, Letter.objects.count(), Job.objects.get().cancel_requested_at) == (0, 1, None)
    assert list(job.events.values_list("cause", "detail")) == [
        ("watchdog", "80 % of its time is over: it is stopped at 2026-11-23 13:30 CET.")
    ]
    (message,) = mail.outbox
    assert (message.to, message.subject) == ([job.submitted_by.email], "spring is stopped in 6 min")
    assert "So far it has cost about $1.40; at its stop time it will be $1.76." in message.body
    assert "up to the ceiling of the job, Nov 23, 2026, 14:00 CET" in message.body
    assert link_in(message) == f"https://ours.test/t/{job.team.slug}/jobs/{job.job_id}/stop-time/"


@pytest.mark.django_db
def test_a_stop_time_that_is_the_ceiling_is_warned_of_as_one_that_cannot_be_moved(settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"
    running(stop_after_seconds=3600)

    stopping.watch(now=CREATED + timedelta(seconds=2880))
    with time_machine.travel(CREATED + timedelta(seconds=2890), tick=False):
        Letter.objects.update(written_at=CREATED)
        mailing.send_mail()

    assert "it cannot be moved. To train longer, submit a new job." in mail.outbox[0].body


@pytest.mark.django_db
def test_a_moved_stop_time_is_warned_of_anew(clock):
    job = running(stop_after_seconds=1500)
    stopping.watch(now=NOW)

    stopping.move(job, caller=submitter(job), stop_after_seconds=3000)
    stopping.watch(now=NOW)
    quiet = Letter.objects.count()
    stopping.watch(now=CREATED + timedelta(seconds=2400))

    assert (quiet, Letter.objects.count()) == (1, 2)


@pytest.mark.django_db
def test_who_has_left_the_team_gets_no_mail(clock):
    job = running(stop_after_seconds=1500)
    Membership.objects.filter(user=job.submitted_by).delete()

    stopping.watch(now=NOW)

    assert (Letter.objects.count(), job.events.count()) == (0, 1)


# --- Races --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", ["the watchdog", "the person"])
def test_of_the_watchdog_and_a_person_the_first_decides(rung, first):
    """The second waits for the row, and finds it as the first left it."""
    with time_machine.travel(NOW):
        job = running(stop_after_seconds=1199)
        caller, outcomes = submitter(job), []
        with transaction.atomic():
            Job.objects.select_for_update().get(pk=job.pk)
            if first == "the watchdog":
                Job.objects.filter(pk=job.pk).update(cancel_requested_at=NOW)
                second = partial(stopping.move, job, caller=caller, stop_after_seconds=3600)
            else:
                Job.objects.filter(pk=job.pk).update(stop_after_seconds=3600)
                second = partial(stopping._stop, job, now=NOW)
            waiting = Thread(target=lambda: outcomes.extend(race(lambda _: second(), times=1, threads=1)))
            waiting.start()
            wait_for_a_lock()
        waiting.join()

    job = Job.objects.get()
    if first == "the watchdog":
        assert isinstance(outcomes[0], InvalidJobState)
        assert (job.stop_after_seconds, job.cancel_requested_at) == (1199, NOW)
    else:
        assert (outcomes, job.stop_after_seconds, job.cancel_requested_at, rung) == ([None], 3600, None, [])


@pytest.mark.django_db(transaction=True)
def test_watchdog_people_and_the_end_at_once_leave_one_story(rung):
    with time_machine.travel(NOW):
        jobs = [running(prediction_id=f"{number:026d}", stop_after_seconds=1199) for number in range(8)]
        callers = [submitter(job) for job in jobs]

        def work(number):
            job, caller = jobs[number // 3], callers[number // 3]
            if number % 3 == 0:
                return stopping.watch()
            if number % 3 == 1:
                return stopping.move(job, caller=caller, stop_after_seconds=3600)
            return cancelling.cancel(job, caller=caller)

        outcomes = race(work, times=24)

    assert [outcome for outcome in outcomes if isinstance(outcome, Exception) and not isinstance(outcome, InvalidJobState)] == []
    for job in Job.objects.all():
        # Each was stopped by the old time or moved before that; the cancel came in any case, and one story is told of it.
        assert job.cancel_requested_at is not None
        assert job.events.filter(detail__in=["The stop time has come.", "Cancel requested."]).count() == 1
        moved = job.events.filter(detail__startswith="Stop time moved").count()
        assert (job.stop_after_seconds == 3600) == (moved == 1)


# --- The API ------------------------------------------------------------------------------------------------------


@pytest.fixture
def post(client):
    def send(job, body, *, key=None, slash=""):
        key = key or make_token(Membership.objects.get(user=job.submitted_by))[1]
        path = f"/api/cloud/jobs/{job.job_id}/stop-time{slash}"
        return client.post(path, body, content_type="application/json", headers={"Authorization": f"Bearer {key}"})

    return send


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body", [{"stop_after_seconds": 2700}, {"stop_at": "2026-11-23T12:45:00Z"}, {"stop_at": "2026-11-23T13:45:00+01:00"}]
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_call_moves_it_and_the_job_tells(clock, client, post, body, slash):
    job = running()

    said = post(job, body, slash=slash)

    assert said.status_code == 200
    assert said.json() == {
        "success": True,
        "job_id": job.job_id,
        "stop_after_seconds": 2700,
        "stop_at": "2026-11-23T12:45:00+00:00",
        "ceiling_seconds": 3600,
        "ceiling_at": "2026-11-23T13:00:00+00:00",
        "cost_at_stop": "2.632500",
        "cost_at_stop_micros": 2_632_500,
    }
    _, key = make_token(Membership.objects.get(user=job.submitted_by))
    found = client.get(f"/api/cloud/jobs/{job.job_id}", headers={"Authorization": f"Bearer {key}"}).json()["job"]
    assert [found[name] for name in ("stop_after_seconds", "seconds_until_stop", "cost_at_stop_micros", "cost_usd_micros")] == [
        2700, 1500, 2_632_500, 1_170_000,
    ]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"stop_after_seconds": 3601}, 422, "stop_time_out_of_bounds", "stop_after_seconds"),
        ({"stop_after_seconds": "soon"}, 400, "validation_error", "stop_after_seconds"),
        ({"stop_at": "tomorrow"}, 400, "validation_error", "stop_at"),
        ({}, 400, "invalid_input", "stop_after_seconds"),
        ([], 400, "invalid_input", None),
    ],
)
def test_a_call_that_cannot_be_followed_says_why(clock, post, body, status, code, field):
    answer = post(running(), body)

    said = answer.json()
    assert (answer.status_code, said["field"]) == (status, field)
    assert said["detail"].endswith(".")
    assert Job.objects.get().stop_after_seconds == 1800


@pytest.mark.django_db
def test_a_call_after_the_cancel_is_told_so(clock, post):
    job = running(cancel_requested_at=NOW)

    answer = post(job, {"stop_after_seconds": 3600})

    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_job_state")
    assert answer.json()["detail"] == f"Job {job.job_id} is being stopped already; its stop time cannot be moved any more."


# --- The pages ----------------------------------------------------------------------------------------------------


def at(job, name="detail"):
    return reverse(f"jobs:{name}", args=[job.team.slug, job.job_id])


@pytest.mark.django_db
def test_the_jobs_page_says_when_it_is_stopped_and_what_that_costs_and_moves_it_by_one_click(clock, client):
    job = running()
    client.force_login(job.submitted_by)

    page = client.get(at(job)).content.decode()
    answer = client.post(at(job, "stop_time"), {"stop_after_seconds": "3600"})

    assert "<dt>Minutes left</dt><dd>10</dd>" in page
    assert 'title="1.755000 USD">$1.76' in page
    assert 'form="stop-time-form" name="stop_after_seconds" value="3600">To the ceiling' in page
    assert "Replicate itself ends the run at the ceiling, which nobody can move:" in page
    assert f'href="/t/{job.team.slug}/jobs/new/?continue={job.job_id}"' in page
    assert (answer.status_code, answer["Location"], Job.objects.get().stop_after_seconds) == (302, at(job), 3600)


@pytest.mark.django_db
def test_buttons_go_only_where_the_ceiling_lets_them(clock, client):
    job = running(ceiling_seconds=9000)
    client.force_login(job.submitted_by)

    offered = [seconds for _, seconds in client.get(at(job, "stop_time")).context["stop"].later]
    Job.objects.update(stop_after_seconds=9000)
    at_the_ceiling = client.get(at(job, "stop_time")).context["stop"].later

    assert (offered, at_the_ceiling) == ([3600, 5400, 9000], [])


@pytest.mark.django_db
def test_an_exact_time_is_in_the_teams_zone(clock, client):
    job = running()
    job.team.time_zone = "Europe/Madrid"
    job.team.save()
    client.force_login(job.submitted_by)

    page = client.get(at(job, "stop_time")).content.decode()
    answer = client.post(at(job, "stop_time"), {"stop_at": "2026-11-23T13:45"})

    assert 'value="2026-11-23T13:30"' in page
    assert (answer.status_code, Job.objects.get().stop_after_seconds) == (302, 2700)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"stop_at": "2026-11-23T13:00:01"}, "The stop time cannot lie beyond the ceiling of the job, 60 min after its creation"),
        ({"stop_at": "2026-11-23T12:20"}, "The stop time must lie at least a minute ahead"),
        ({"stop_at": "soon"}, "Enter a valid date/time."),
        ({"stop_at": ""}, "Say when."),
        ({"stop_after_seconds": "99999"}, "The stop time cannot lie beyond the ceiling"),
    ],
)
def test_the_page_says_what_is_wrong_with_a_time(clock, client, fields, sentence):
    job = running()
    client.force_login(job.submitted_by)

    page = client.post(at(job, "stop_time"), fields).content.decode()

    assert sentence in page
    assert Job.objects.get().stop_after_seconds == 1800


@pytest.mark.django_db
def test_near_the_end_the_page_warns_with_the_minutes_that_are_left(client):
    job = running()
    client.force_login(job.submitted_by)

    with time_machine.travel(CREATED + timedelta(seconds=1500), tick=False):
        movable = client.get(at(job)).content.decode()
        Job.objects.update(ceiling_seconds=1800)
        fixed = client.get(at(job)).content.decode()

    assert "It is stopped in 5 minutes unless the stop time is moved." in movable
    assert "It is stopped in 5 minutes, and that cannot be moved." in fixed


@pytest.mark.django_db
def test_others_see_the_stop_time_and_have_no_buttons(clock, client):
    job = running()
    client.force_login(make_member(job).user)

    page = client.get(at(job)).content.decode()

    assert "<dt>Minutes left</dt><dd>10</dd>" in page
    assert "stop-time-form" not in page
    assert client.get(at(job, "stop_time")).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"state": State.COMPLETED, "ended_at": NOW}, "This job is over, so there is nothing to stop."),
        ({"cancel_requested_at": NOW}, "This job is being stopped already."),
        ({"metadata": {"imported": True}}, "This run was started elsewhere, so no stop time is kept for it here."),
    ],
)
def test_the_page_of_what_cannot_be_moved_says_why(clock, client, fields, sentence):
    job = running(**fields)
    client.force_login(job.submitted_by)

    page = client.get(at(job, "stop_time")).content.decode()
    sent = client.post(at(job, "stop_time"), {"stop_after_seconds": "3600"}).content.decode()

    assert sentence in page
    assert "its stop time cannot be moved any more" in sent or "no stop time is kept for it" in sent
