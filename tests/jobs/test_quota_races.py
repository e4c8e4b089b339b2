"""Real threads on real connections: of submissions and uploads at once, none passes a quota."""

import pytest

from accounts.roles import Role
from billing import ledger
from billing.models import LimitPeriod
from jobs.models import DatasetVersion, Job, JobQuota
from jobs.models.quotas import QuotaKind, QuotaScope
from jobs.services import cancelling, datasets, quota_standings, submission
from jobs.services.admission import Submitted
from jobs.services.quotas import QuotaReached
from jobs.services.storage_quotas import StorageQuotaReached
from jobs.specs import JobSpec
from tests.billing.factories import USD, SpendLimitFactory, race
from tests.jobs.factories import make_member
from tests.jobs.ready import NAMED, caller_of, files, make_ready
from tests.jobs.sandbox.servers import picture
from tests.watching import Watching

pytestmark = pytest.mark.django_db(transaction=True)

SPEC = JobSpec(config_name=NAMED)


@pytest.fixture
def team(no_provider):
    return make_ready()


def quota(team, kind, limit, **more):
    return JobQuota.objects.create(team=team, kind=kind, limit_value=limit, **{"scope": QuotaScope.EACH, **more})


def admitted(outcomes, kind=Submitted, refusal=QuotaReached):
    """Those that were let in; every other outcome must be the refusal, not a deadlock or a fault."""
    assert [outcome for outcome in outcomes if not isinstance(outcome, kind | refusal)] == []
    return [outcome for outcome in outcomes if isinstance(outcome, kind)]


@pytest.mark.parametrize("kind", [QuotaKind.CONCURRENT_JOBS, QuotaKind.QUEUED_JOBS, QuotaKind.JOBS_PER_DAY, QuotaKind.JOBS_PER_MONTH])
def test_racing_submissions_of_one_person_cannot_pass_a_quota(team, kind):
    quota(team.team, kind, 3)

    outcomes = race(lambda _number: submission.submit(team.caller, SPEC), times=12)

    assert (len(admitted(outcomes)), Job.objects.count()) == (3, 3)


def test_racing_submissions_of_one_person_cannot_spend_more_than_their_level_may(team):
    quota(team.team, QuotaKind.COST_MONTHLY, 10 * USD, scope=QuotaScope.ROLE, role=team.member.role)

    outcomes = race(lambda _number: submission.submit(team.caller, JobSpec(config_name=NAMED, max_seconds=3600)), times=12)

    # Each can cost $3.57 at most.
    assert (len(admitted(outcomes)), Job.objects.count()) == (2, 2)


def test_racing_submissions_under_many_quotas_and_limits_neither_pass_one_nor_lock_each_other_out(team):
    people = [team.member, *(make_member(team.team, role) for role in (Role.LEAD, Role.OWNER))]
    # Keys run against the scopes, so that only the order of locking keeps the submissions from a deadlock.
    for person in people:
        SpendLimitFactory(scope="person", team=team.team, user=person.user, amount=1000 * USD)
        quota(team.team, QuotaKind.JOBS_PER_HOUR, 50, scope=QuotaScope.PERSON, user=person.user)
    quota(None, QuotaKind.CONCURRENT_JOBS, 8, scope=QuotaScope.PLATFORM)
    quota(team.team, QuotaKind.CONCURRENT_JOBS, 7, scope=QuotaScope.TEAM)
    quota(team.team, QuotaKind.CONCURRENT_JOBS, 4)
    SpendLimitFactory(team=team.team, amount=1000 * USD)

    outcomes = race(lambda number: submission.submit(caller_of(people[number % 3]), SPEC), times=24)

    by_person = [Job.objects.filter(submitted_by=person.user).count() for person in people]
    assert (len(admitted(outcomes)), sum(by_person)) == (7, 7)
    assert max(by_person) <= 4
    assert ledger.verify(team.team).valid


def test_places_that_come_free_meanwhile_are_taken_once(team):
    quota(team.team, QuotaKind.CONCURRENT_JOBS, 3)
    SpendLimitFactory(team=team.team, amount=1000 * USD)

    def live(_number):
        """Submit, and end the job at once."""
        submitted = submission.submit(team.caller, SPEC)
        cancelling.cancel(submitted.job, caller=team.caller)
        return submitted

    with Watching(lambda: [quota_standings.counted().active().count()]) as watching:
        outcomes = race(live, times=24)

    assert len(admitted(outcomes)) >= 3
    assert max(watching.seen) <= 3
    assert Job.objects.active().count() == 0
    assert LimitPeriod.objects.get().held == 0


def test_racing_uploads_cannot_pass_a_quota_of_storage(team):
    pictures = [picture(width=65 + number) for number in range(12)]
    limit = quota_standings.stored_bytes("team", team.team, None) + 3 * max(map(len, pictures))
    quota(team.team, QuotaKind.STORAGE_BYTES, limit, scope=QuotaScope.TEAM)

    def add(number):
        return datasets.create(team.caller, name=f"set {number}", files=files({"a.jpg": pictures[number]}))

    outcomes = race(add, times=12)

    assert len(admitted(outcomes, DatasetVersion, StorageQuotaReached)) == 3
    assert quota_standings.stored_bytes("team", team.team, None) <= limit
