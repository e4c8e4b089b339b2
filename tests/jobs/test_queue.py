"""The order of the queue: nobody starves, teams take turns, and places and starts are told by the same order."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import AuditLine
from accounts.roles import Role
from jobs.models import Job, QueueSettings
from jobs.services import queue, queue_changes, queue_places
from jobs.services.dispatch import dispatch
from jobs.services.queue import Waiting
from jobs.specs import JobSpec
from jobs.states import State
from tests.factories import CredentialFactory, TeamFactory, UserFactory
from tests.jobs.factories import SUBMITTED_AT, JobFactory, make_member
from tests.jobs.ready import caller_of

HOUR = timedelta(hours=1)


def waiting(**fields):
    return JobFactory(state=State.PENDING, started_at=None, **fields)


def order(*, now, is_fair=True):
    return [job.pk for job in queue.in_line(now=now, running=queue.running_by_team(), is_fair=is_fair)]


def row(number, *, team=1, rank=10):
    return Waiting(number, team, 1, "replicate", 1, None, "", rank)


# --- Priority and age -------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("waited", "asked", "rank"), [(59, 10, 10), (60, 10, 20), (125, 10, 30), (125, 45, 50), (300, 0, 50), (6000, 0, 50)]
)
def test_a_job_gains_ten_with_each_full_hour_up_to_fifty(waited, asked, rank):
    job = waiting(priority=10, priority_override=asked, submitted_at=SUBMITTED_AT)

    assert queue.effective_priority(job, now=SUBMITTED_AT + timedelta(minutes=waited)) == rank


@pytest.mark.django_db
def test_after_five_hours_nothing_that_comes_later_passes_a_job_whatever_its_priority():
    lowest = waiting(priority=0, submitted_at=SUBMITTED_AT)
    later = [waiting(team=lowest.team, priority=50, submitted_at=SUBMITTED_AT + number * HOUR) for number in range(1, 7)]

    at_first = order(now=SUBMITTED_AT + 2 * HOUR)
    at_last = order(now=SUBMITTED_AT + 5 * HOUR)

    assert at_first[-1] == lowest.pk
    assert at_last == [lowest.pk, *(job.pk for job in later)]


@pytest.mark.django_db
def test_a_job_that_may_not_start_yet_stands_last_and_ages_from_its_start_on():
    start = SUBMITTED_AT + 10 * HOUR
    later = waiting(priority=50, submitted_at=SUBMITTED_AT, not_before=start)
    other = waiting(team=later.team, priority=0, submitted_at=SUBMITTED_AT + 9 * HOUR)

    assert order(now=start - HOUR) == [other.pk, later.pk]
    assert order(now=start) == [later.pk, other.pk]
    assert queue.effective_priority(waiting(priority=0, submitted_at=SUBMITTED_AT, not_before=start), now=start + HOUR) == 10


def test_each_priority_has_a_name():
    said = [queue.name_of(rank) for rank in (0, 9, 10, 19, 20, 29, 30, 39, 40, 50)]

    assert said == ["low", "low", "normal", "normal", "high", "high", "urgent", "urgent", "critical", "critical"]


# --- Turns ------------------------------------------------------------------------------------------------


@given(teams=st.lists(st.integers(1, 5), max_size=40), running=st.dictionaries(st.integers(1, 5), st.integers(0, 6)))
def test_taking_turns_is_always_giving_the_next_place_to_who_has_the_fewest(teams, running):
    jobs = [row(number, team=team) for number, team in enumerate(teams)]

    taken = queue.in_turn(jobs, Counter(running))

    counts, left = Counter(running), list(jobs)
    for job in taken:
        fewest = min(counts[other.team_id] for other in left)
        first = next(other for other in left if counts[other.team_id] == fewest)
        assert job == first
        counts[job.team_id] += 1
        left.remove(job)
    assert left == []


@given(teams=st.lists(st.integers(1, 5), min_size=1, max_size=40), places=st.integers(1, 40))
def test_of_any_number_of_places_teams_with_jobs_left_get_the_same_give_or_take_one(teams, places):
    taken = queue.in_turn([row(number, team=team) for number, team in enumerate(teams)], Counter())

    counts, left = Counter(job.team_id for job in taken[:places]), {job.team_id for job in taken[places:]}

    assert all(counts[team] <= counts[other] + 1 for team in counts for other in left)


@pytest.mark.django_db
def test_the_place_goes_to_the_team_with_the_fewest_running_and_by_priority_alone_where_staff_say_so():
    busy = JobFactory(state=State.RUNNING).team
    theirs = waiting(team=busy, priority=50)
    ours = waiting(priority=0)
    QueueSettings.objects.create(team=None, max_concurrent=2)

    assert order(now=SUBMITTED_AT) == [ours.pk, theirs.pk]
    assert order(now=SUBMITTED_AT, is_fair=False) == [theirs.pk, ours.pk]
    assert dispatch(now=SUBMITTED_AT) == [ours]


@pytest.mark.django_db
def test_what_runs_elsewhere_is_nobodys_turn():
    imported = JobFactory(state=State.RUNNING, metadata={"imported": True})
    theirs, ours = waiting(team=imported.team, priority=20), waiting(priority=10)

    assert order(now=SUBMITTED_AT) == [theirs.pk, ours.pk]


@pytest.mark.django_db
def test_the_dispatcher_goes_along_the_line_that_it_shows():
    teams = [TeamFactory() for _ in range(3)]
    for number in range(12):
        waiting(team=teams[number % 5 % 3], priority=number * 7 % 40, submitted_at=SUBMITTED_AT + timedelta(minutes=number))
    now = SUBMITTED_AT + HOUR
    QueueSettings.objects.create(team=None, max_concurrent=7)
    shown = list(queue_places.line(now=now))

    gone = dispatch(now=now)

    assert [job.pk for job in gone] == shown[:7]


# --- Places and starts ------------------------------------------------------------------------------------


def ran(minutes, **fields):
    ended = SUBMITTED_AT - HOUR
    return JobFactory(state=State.COMPLETED, dispatched_at=ended - timedelta(minutes=minutes), ended_at=ended, **fields)


@pytest.mark.django_db
def test_a_place_counts_all_teams_and_a_start_rests_on_recent_runs_and_free_places():
    QueueSettings.objects.create(team=None, max_concurrent=2)
    ran(20), ran(40)
    JobFactory(state=State.RUNNING, dispatched_at=SUBMITTED_AT - timedelta(minutes=10))
    jobs = [waiting(submitted_at=SUBMITTED_AT + timedelta(seconds=number)) for number in range(4)]

    found = queue_places.standings(jobs, now=SUBMITTED_AT + timedelta(seconds=5))

    places = [found[job.pk].place for job in jobs]
    minutes = [round(found[job.pk].seconds / 60) for job in jobs]
    # One place is free; the run has another 20 of the usual 30 minutes; each job then keeps its place for 30.
    assert (places, minutes) == ([1, 2, 3, 4], [0, 20, 30, 50])


@pytest.mark.django_db
def test_nothing_is_said_of_a_start_where_nothing_is_known():
    QueueSettings.objects.create(team=None, max_concurrent=1)
    first, second = waiting(), waiting(submitted_at=SUBMITTED_AT + timedelta(seconds=1))
    paused = waiting(waiting_reason="paused", submitted_at=SUBMITTED_AT + timedelta(seconds=2))

    found = queue_places.standings([first, second, paused], now=SUBMITTED_AT)

    assert [found[job.pk].seconds for job in (first, second, paused)] == [0.0, None, None]


@pytest.mark.django_db
def test_jobs_that_are_held_stand_behind_those_that_pass_them_by():
    paused = waiting(priority=50)
    QueueSettings.objects.create(team=paused.team, mode="paused")
    poor = CredentialFactory(health="no_credit", checked_at=timezone.now())
    without_credit = waiting(priority=40, waiting_reason="no_credit", credential=poor)
    later = waiting(priority=40, not_before=SUBMITTED_AT + HOUR)
    ready = waiting(priority=0)

    places = {pk: found.place for pk, found in queue_places.line(now=SUBMITTED_AT).items()}

    assert places == {ready.pk: 1, paused.pk: 2, without_credit.pk: 3, later.pk: 4}
    assert dispatch(now=SUBMITTED_AT) == [ready]


@pytest.mark.django_db
def test_a_start_is_never_before_its_time_nor_before_the_person_has_a_place():
    QueueSettings.objects.create(team=None, user_max_concurrent=1)
    ran(30)
    running = JobFactory(state=State.RUNNING, dispatched_at=SUBMITTED_AT - timedelta(minutes=10))
    same = waiting(team=running.team, submitted_by=running.submitted_by)
    later = waiting(not_before=SUBMITTED_AT + 2 * HOUR)

    found = queue_places.standings([same, later], now=SUBMITTED_AT)

    assert [found[job.pk].seconds / 60 for job in (same, later)] == [20, 120]


@pytest.mark.django_db
def test_a_job_that_does_not_wait_has_no_place_and_costs_no_question(django_assert_num_queries):
    running = JobFactory()

    with django_assert_num_queries(0):
        assert queue_places.standings([running], now=SUBMITTED_AT) == {}
    assert queue_places.place_of(running, now=SUBMITTED_AT) is None


# --- The dispatcher ---------------------------------------------------------------------------------------


def queries_of_a_round(jobs):
    dispatch(now=SUBMITTED_AT)  # the first one makes the platform's rows
    QueueSettings.objects.filter(team=None, provider="").update(max_concurrent=1)
    if not Job.objects.launched().exists():
        JobFactory(state=State.RUNNING)
    for _ in range(jobs):
        waiting(waiting_reason="turn")
    with CaptureQueriesContext(connection) as asked:
        dispatch(now=SUBMITTED_AT)
    return len(asked)


@pytest.mark.django_db
def test_a_round_asks_as_often_for_many_that_wait_as_for_two():
    assert queries_of_a_round(2) == queries_of_a_round(20)


@pytest.mark.django_db
def test_a_paused_provider_holds_its_jobs_and_no_others():
    QueueSettings.objects.create(team=None, provider="sandbox", mode="paused", reason="new version")
    rehearsal, real = waiting(provider="sandbox"), waiting()

    gone = dispatch(now=SUBMITTED_AT)

    rehearsal.refresh_from_db()
    assert (gone, rehearsal.waiting_reason) == ([real], "provider_paused")
    assert [row.reason for row in queue_places.standings([rehearsal], now=SUBMITTED_AT)[rehearsal.pk].pauses] == ["new version"]


@pytest.mark.django_db
def test_a_team_that_lowers_its_numbers_runs_no_more_than_that():
    team = TeamFactory()
    QueueSettings.objects.create(team=team, own_team_max=1, team_max_concurrent=3)
    first = waiting(team=team)
    second = waiting(team=team, submitted_at=SUBMITTED_AT + timedelta(seconds=1))

    gone = dispatch(now=SUBMITTED_AT + timedelta(seconds=2))

    second.refresh_from_db()
    assert (gone, second.waiting_reason) == ([first], "team_full")


# --- Start not before -------------------------------------------------------------------------------------


def test_a_job_is_submitted_for_later_and_goes_then(ready):
    start = timezone.now() + 2 * HOUR

    job = ready.submit(not_before=start)

    assert (job.not_before, job.waiting_reason) == (start, "not_before")
    assert dispatch() == []
    assert dispatch(now=start) == [job]


@pytest.mark.parametrize("ahead", [timedelta(seconds=-1), timedelta(days=30, hours=1)])
def test_a_start_lies_in_the_next_thirty_days(ready, ahead):
    with pytest.raises(queue_changes.StartOutOfBounds):
        ready.submit(not_before=timezone.now() + ahead)

    assert not Job.objects.exists()


def test_whoever_may_cancel_a_job_moves_its_start_while_it_waits(ready):
    job = ready.submit()
    start = timezone.now() + HOUR

    moved = queue_changes.set_not_before(job, caller=ready.caller, not_before=start)
    freed = queue_changes.set_not_before(job, caller=ready.caller, not_before=None)

    assert (moved.not_before, freed.not_before) == (start, None)
    assert AuditLine.objects.filter(event_type="job.start_moved").count() == 2
    dispatch()
    with pytest.raises(queue_changes.InvalidJobState):
        queue_changes.set_not_before(job, caller=ready.caller, not_before=start)
    stranger = caller_of(make_member(ready.team, Role.RESEARCHER))
    with pytest.raises(queue_changes.NotPermitted):
        queue_changes.set_not_before(job, caller=stranger, not_before=start)


def test_whoever_has_no_place_free_is_told_so(ready):
    QueueSettings.objects.create(team=None, user_max_concurrent=1)
    assert queue_places.has_place_for(ready.team, ready.member.user, now=timezone.now())

    JobFactory(team=ready.team, submitted_by=ready.member.user)

    assert not queue_places.has_place_for(ready.team, ready.member.user, now=timezone.now())
    assert queue_places.has_place_for(ready.team, UserFactory(), now=timezone.now())
    assert JobSpec().not_before is None
