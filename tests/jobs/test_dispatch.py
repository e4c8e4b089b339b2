"""Taking jobs off the queue: in which order, how many at a time, and what is said of those that wait."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Credential
from jobs.models import Job, QueueSettings
from jobs.services.dispatch import dispatch
from jobs.states import State
from tests.billing.factories import race
from tests.factories import CredentialFactory, TeamFactory, UserFactory
from tests.jobs.factories import SUBMITTED_AT, JobFactory


def waiting(**fields):
    return JobFactory(state=State.PENDING, started_at=None, **fields)


def reasons(*jobs):
    return [Job.objects.get(pk=job.pk).waiting_reason for job in jobs]


@pytest.mark.django_db
def test_jobs_go_by_priority_then_by_age():
    old = waiting(submitted_at=SUBMITTED_AT - timedelta(minutes=30))
    young = waiting()
    important = waiting(priority=20)
    lowered = waiting(priority=30, priority_override=5)

    gone = dispatch(now=SUBMITTED_AT)

    assert gone == [important, old, young, lowered]


@pytest.mark.django_db
def test_a_job_that_goes_is_uploading_and_says_when():
    job = waiting(waiting_reason="turn")
    now = timezone.now()

    dispatch(now=now)

    job.refresh_from_db()
    assert (job.state, job.waiting_reason, job.dispatched_at) == ("uploading", "", now)
    assert list(job.events.values_list("state", "cause", "at")) == [("uploading", "dispatch", now)]


@pytest.mark.django_db
def test_a_person_a_team_and_the_platform_run_no_more_than_they_may():
    QueueSettings.objects.create(team=None, max_concurrent=3, team_max_concurrent=2, user_max_concurrent=1, enable_fair_share=False)
    team, person = TeamFactory(), UserFactory()
    first = waiting(team=team, submitted_by=person, priority=9)
    same_person = waiting(team=team, submitted_by=person, priority=8)
    same_team = waiting(team=team, priority=7)
    third_of_the_team = waiting(team=team, priority=6)
    other_team = waiting(priority=5)
    one_too_many = waiting(priority=4)

    gone = dispatch()

    assert gone == [first, same_team, other_team]
    assert reasons(same_person, third_of_the_team, one_too_many) == ["person_full", "team_full", "platform_full"]


@pytest.mark.django_db
def test_jobs_at_the_provider_count():
    QueueSettings.objects.create(team=None, user_max_concurrent=1)
    running = JobFactory(state=State.RUNNING)
    job = waiting(team=running.team, submitted_by=running.submitted_by)

    held = dispatch()
    Job.objects.filter(pk=running.pk).update(state=State.COMPLETED)
    gone = dispatch()

    assert (held, gone) == ([], [job])


@pytest.mark.django_db
def test_a_team_has_numbers_of_its_own():
    team = TeamFactory()
    QueueSettings.objects.create(team=None, user_max_concurrent=5)
    QueueSettings.objects.create(team=team, user_max_concurrent=1)
    person = UserFactory()
    first, second = waiting(team=team, submitted_by=person, priority=20), waiting(team=team, submitted_by=person)

    assert dispatch() == [first]
    assert reasons(second) == ["person_full"]


@pytest.mark.django_db
def test_a_job_says_why_it_waits():
    paused_team, suspended_team = TeamFactory(), TeamFactory(suspended_at=timezone.now())
    QueueSettings.objects.create(team=paused_team, mode="paused")
    later = timezone.now() + timedelta(hours=1)
    jobs = {
        "paused": waiting(team=paused_team),
        "suspended": waiting(team=suspended_team),
        "later": waiting(not_before=later),
        "refused": waiting(credential=CredentialFactory(health="refused", checked_at=timezone.now())),
        "no credit": waiting(credential=CredentialFactory(health="no_credit", checked_at=timezone.now())),
    }

    gone = dispatch()

    assert (gone, reasons(*jobs.values())) == ([], ["paused", "paused", "not_before", "credential", "no_credit"])
    assert jobs["later"] in dispatch(now=later)


@pytest.mark.django_db
def test_a_paused_platform_lets_nothing_go():
    QueueSettings.objects.create(team=None, mode="paused")
    job = waiting()

    assert dispatch() == []
    QueueSettings.objects.update(mode="running")
    assert dispatch() == [job]


@pytest.mark.django_db
def test_a_new_token_frees_the_jobs_that_the_old_one_held():
    job = waiting()
    Credential.objects.update(health="refused", checked_at=timezone.now(), removed_at=timezone.now())
    assert dispatch() == []
    new = CredentialFactory(team=job.team)

    gone = dispatch()

    job.refresh_from_db()
    assert (gone, job.credential) == ([job], new)


@pytest.mark.django_db
def test_after_a_while_a_job_is_sent_to_find_out_whether_the_credit_is_back():
    job = waiting()
    Credential.objects.update(health="no_credit", checked_at=timezone.now())
    assert dispatch() == []

    assert dispatch(now=timezone.now() + timedelta(minutes=5, seconds=1)) == [job]


@pytest.mark.django_db
def test_blocked_and_ended_jobs_stay_where_they_are():
    JobFactory(state=State.BLOCKED)
    JobFactory(state=State.CANCELLED)

    assert dispatch() == []


@pytest.mark.django_db(transaction=True)
def test_several_dispatchers_at_once_take_no_job_twice_and_pass_no_limit():
    QueueSettings.objects.create(team=None, max_concurrent=12, team_max_concurrent=4, user_max_concurrent=4)
    teams = [TeamFactory() for _ in range(4)]
    for number in range(32):
        waiting(team=teams[number % 4], submitted_by=UserFactory())

    rounds = race(lambda number: [job.pk for job in dispatch()], times=12)

    taken = [pk for gone in rounds for pk in gone]
    launched = Job.objects.launched()
    assert (len(taken), len(set(taken)), launched.count()) == (12, 12, 12)
    assert max(launched.filter(team=team).count() for team in teams) <= 4
    assert all(job.events.filter(state="uploading").count() == 1 for job in launched)
