"""Job quotas at the door of a submission: what counts, for whom, and what each action does."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.utils import timezone

from accounts.models import AuditLine
from accounts.roles import Role
from billing.models import Hold
from jobs.models import Job, JobQuota
from jobs.models.quotas import MONEY, QuotaAction, QuotaKind, QuotaScope
from jobs.services import approving, quota_standings
from jobs.services.quotas import CostQuotaReached
from jobs.states import State
from tests.billing.factories import USD, PriceLineFactory, SpendLimitFactory, hold
from tests.factories import TeamFactory, make_token
from tests.jobs.approvals import blocked
from tests.jobs.approvals import caller as approver
from tests.jobs.factories import ArtifactFactory, JobFactory, make_member
from tests.jobs.ready import NAMED, make_ready

BODY = {"config_name_to_load": NAMED}


def quota(team, kind=QuotaKind.CONCURRENT_JOBS, limit=1, action=QuotaAction.BLOCK, scope=QuotaScope.EACH, **more):
    return JobQuota.objects.create(team=team, kind=kind, limit_value=limit, action=action, scope=scope, **more)


def job_of(ready, *, ago=timedelta(0), state=State.RUNNING, by=None, **fields):
    """A job that was let in some time ago."""
    return JobFactory(
        team=ready.team,
        submitted_by=by or ready.member.user,
        credential=ready.credential,
        state=state,
        submitted_at=timezone.now() - ago,
        **fields,
    )


# --- Money of each person of a role -----------------------------------------------------------------------

# An hour and the margin on one L40S, in micro-dollars.
HOUR = 3_568_500


def of_money(ready, limit, **more):
    return quota(ready.team, **{"kind": QuotaKind.COST_DAILY, "scope": QuotaScope.ROLE, "role": Role.RESEARCHER, "limit": limit, **more})


def test_what_a_level_may_spend_refuses_with_402_and_leaves_nothing(ready):
    of_money(ready, 2 * HOUR - 1)
    ready.submit(max_seconds=3600)

    answer = ready.post({**BODY, "max_seconds": 3600})

    said = answer.json()
    assert (answer.status_code, said["code"], Job.objects.count(), Hold.objects.count()) == (402, "cost_quota_exceeded", 1, 1)
    assert said["detail"] == ("Quota exceeded: $3.57 of $7.14 daily for each person of the role, and the job can cost up to $3.57.")
    [limit] = said["details"]["limits"]
    assert {name: limit[name] for name in ("scope", "window", "action", "binding", "limit_micros", "used_micros", "held_micros")} == {
        "scope": "role", "window": "daily", "action": "block", "binding": True, "limit_micros": 2 * HOUR - 1, "used_micros": 0,
        "held_micros": HOUR,
    }  # fmt: skip
    assert (limit["left_micros"], limit["requested_micros"]) == (HOUR - 1, HOUR)


def test_what_a_level_may_spend_may_be_spent_whole(ready):
    of_money(ready, 2 * HOUR)
    ready.submit(max_seconds=3600)

    assert ready.post({**BODY, "max_seconds": 3600}).status_code == 200


def test_what_was_spent_in_another_period_or_by_others_or_in_a_rehearsal_is_not_counted(ready):
    of_money(ready, HOUR)
    other = make_member(ready.team)
    for more in ({"user": other.user}, {"now": timezone.now() - timedelta(days=2)}, {"is_rehearsal": True}):
        hold(ready.team, 3, **{"user": ready.member.user, "now": timezone.now(), **more})

    assert ready.post({**BODY, "max_seconds": 3600}).status_code == 200


def test_a_limit_of_ones_own_comes_before_that_of_the_level(ready):
    of_money(ready, 1)
    SpendLimitFactory(scope="person", team=ready.team, user=ready.member.user, period="daily", amount=HOUR)

    assert ready.post({**BODY, "max_seconds": 3600}).status_code == 200
    assert ready.post({**BODY, "max_seconds": 3600}).json()["code"] == "cost_limit_exceeded"


@pytest.mark.parametrize(
    ("action", "status", "warns"), [("warn", "pending", True), ("require_approval", "blocked", True), ("notify", "pending", False)]
)
def test_a_level_beyond_its_money_is_warned_waits_or_is_told_of(ready, action, status, warns):
    of_money(ready, HOUR - 1, action=action)

    said = ready.post({**BODY, "max_seconds": 3600}).json()

    assert (said["status"], any("daily for each person of the role" in warning for warning in said["quota_warnings"])) == (status, warns)


def test_a_price_that_rose_meanwhile_is_asked_of_the_level_when_the_job_is_approved(ready):
    asked = blocked(ready, max_seconds=3600)
    of_money(ready, HOUR)
    PriceLineFactory(hardware="gpu-l40s", usd_per_second=Decimal("0.001"), effective_from=timezone.now())

    with pytest.raises(CostQuotaReached):
        approving.approve(approver(ready), asked)

    JobQuota.objects.update(limit_value=3660 * USD // 1000)
    assert approving.approve(approver(ready), asked).state == "approved"


# --- What each action does --------------------------------------------------------------------------------


def test_without_a_quota_nothing_is_said(ready):
    said = ready.post(BODY).json()

    assert (said["success"], said["quota_warnings"], said["requires_approval"]) == (True, [], False)


def test_a_blocking_quota_refuses_in_the_documented_words_and_leaves_nothing(ready):
    quota(ready.team, limit=5)
    for _ in range(5):
        job_of(ready)

    answer = ready.post({**BODY, "idempotency_key": "ci-1"})

    said = answer.json()
    assert (answer.status_code, said["code"], said["success"]) == (429, "quota_exceeded", False)
    assert said["detail"] == "Quota exceeded: Maximum 5 concurrent jobs allowed for each person; 5 now."
    assert answer.headers["Retry-After"] == "60"
    assert said["details"]["quotas"] == [{"quota_type": "concurrent_jobs", "scope": "each", "action": "block", "limit": 5, "current": 5}]
    assert (Job.objects.count(), Hold.objects.count()) == (5, 0)
    line = AuditLine.objects.get(event_type="quota.exceeded")
    assert (line.actor_id, line.after) == (ready.member.user.pk, {"code": "quota_exceeded"})

    Job.objects.update(state=State.COMPLETED)
    assert ready.post({**BODY, "idempotency_key": "ci-1"}).status_code == 200


def test_a_warning_quota_lets_the_job_go_and_warns(ready):
    quota(ready.team, QuotaKind.JOBS_PER_DAY, 1, QuotaAction.WARN)
    job_of(ready)

    said = ready.post(BODY).json()

    assert (said["status"], said["requires_approval"]) == ("pending", False)
    assert said["quota_warnings"] == ["Quota exceeded: Maximum 1 job per day allowed for each person; 1 now."]


def test_who_comes_close_to_the_end_is_warned_before(ready):
    quota(ready.team, limit=5)
    for _ in range(3):
        job_of(ready)

    said = ready.post(BODY).json()

    assert said["quota_warnings"] == ["Approaching quota: 4 of 5 concurrent jobs for each person."]


def test_a_quota_can_make_the_job_wait_for_approval(ready):
    quota(ready.team, action=QuotaAction.REQUIRE_APPROVAL)
    job_of(ready)

    said = ready.post(BODY).json()

    assert (said["status"], said["requires_approval"]) == ("blocked", True)
    reached = "Quota exceeded: Maximum 1 concurrent job allowed for each person; 1 now."
    assert said["quota_warnings"] == [reached, f"It waits for approval. {reached}"]


def test_a_quota_that_only_tells_tells_the_owners_and_not_who_submits(ready):
    quota(ready.team, action=QuotaAction.NOTIFY)
    job_of(ready)

    said = ready.post(BODY).json()

    assert (said["status"], said["quota_warnings"]) == ("pending", [])
    line = AuditLine.objects.get(event_type="quota.exceeded")
    assert (line.target_id, line.after["limit"], line.after["current"]) == (said["job_id"], 1, 1)


# --- What counts ------------------------------------------------------------------------------------------

COUNTS = [
    (QuotaKind.CONCURRENT_JOBS, {"state": State.RUNNING}, True),
    (QuotaKind.CONCURRENT_JOBS, {"state": State.BLOCKED}, True),
    (QuotaKind.CONCURRENT_JOBS, {"state": State.PENDING}, True),
    (QuotaKind.CONCURRENT_JOBS, {"state": State.RUNNING, "deleted_at": datetime(2026, 11, 23, tzinfo=UTC)}, True),
    (QuotaKind.CONCURRENT_JOBS, {"state": State.COMPLETED}, False),
    (QuotaKind.CONCURRENT_JOBS, {"provider": "sandbox"}, False),
    (QuotaKind.CONCURRENT_JOBS, {"metadata": {"imported": True}}, False),
    (QuotaKind.QUEUED_JOBS, {"state": State.PENDING}, True),
    (QuotaKind.QUEUED_JOBS, {"state": State.BLOCKED}, True),
    (QuotaKind.QUEUED_JOBS, {"state": State.UPLOADING}, False),
    (QuotaKind.JOBS_PER_HOUR, {"ago": timedelta(seconds=3599), "state": State.FAILED}, True),
    (QuotaKind.JOBS_PER_HOUR, {"ago": timedelta(seconds=3600)}, False),
    (QuotaKind.JOBS_PER_DAY, {"ago": timedelta(seconds=86_399), "state": State.CANCELLED}, True),
    (QuotaKind.JOBS_PER_DAY, {"ago": timedelta(seconds=86_400)}, False),
    (QuotaKind.LOCAL_GPUS, {}, False),
]


@pytest.mark.parametrize(("kind", "fields", "counts"), COUNTS)
def test_what_a_quota_counts(ready, kind, fields, counts):
    quota(ready.team, kind)
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=False):
        job_of(ready, **fields)

        answer = ready.post(BODY)

    assert answer.status_code == (429 if counts else 200)


@pytest.mark.parametrize(("zone", "counts"), [("UTC", False), ("America/New_York", True)])
def test_a_month_is_the_calendars_in_the_teams_zone(ready, zone, counts):
    type(ready.team).objects.filter(pk=ready.team.pk).update(time_zone=zone)
    quota(ready.team, QuotaKind.JOBS_PER_MONTH)
    with time_machine.travel(datetime(2026, 12, 1, 2, tzinfo=UTC), tick=False):
        job_of(ready, ago=timedelta(hours=3))

        answer = ready.post(BODY)

    # In New York it is still November, and so it was three hours before.
    assert answer.status_code == (429 if counts else 200)
    assert answer.headers.get("Retry-After") == ("10800" if counts else None)


def test_a_refusal_says_when_there_is_room_again(ready):
    quota(ready.team, QuotaKind.JOBS_PER_HOUR, 2)
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=False):
        for minutes in (50, 30, 10):
            job_of(ready, ago=timedelta(minutes=minutes))

        answer = ready.post(BODY)

    # Of three two must leave the hour, the second in half an hour.
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1800")


def test_a_rehearsal_is_not_asked_about_quotas(ready, settings):
    settings.SANDBOX_URL, settings.SANDBOX_CALLBACK_URL = "http://127.0.0.1:9", "http://127.0.0.1:8"
    quota(ready.team)
    job_of(ready)

    answer = ready.post(BODY, path="/api/cloud/jobs/submit?provider=sandbox")

    assert answer.status_code == 200


def test_a_repeat_of_a_job_that_was_let_in_is_not_asked_again(ready):
    quota(ready.team)
    first = ready.post({**BODY, "idempotency_key": "ci-1"}).json()

    again = ready.post({**BODY, "idempotency_key": "ci-1"}).json()

    assert (again["job_id"], again["idempotent_hit"]) == (first["job_id"], True)


# --- For whom ---------------------------------------------------------------------------------------------


def test_others_jobs_and_other_teams_count_for_nobody_else(ready):
    quota(ready.team)
    job_of(ready, by=make_member(ready.team).user)
    JobFactory(submitted_by=ready.member.user)

    assert ready.post(BODY).status_code == 200
    assert ready.post(BODY).status_code == 429


def test_the_nearest_quota_of_a_person_decides(ready):
    each = quota(ready.team, limit=1)
    role = quota(ready.team, limit=2, scope=QuotaScope.ROLE, role=Role.RESEARCHER)
    quota(ready.team, limit=9, scope=QuotaScope.ROLE, role=Role.LEAD)
    own = quota(ready.team, limit=3, scope=QuotaScope.PERSON, user=ready.member.user)
    quota(ready.team, limit=9, scope=QuotaScope.PERSON, user=make_member(ready.team).user)

    def limit():
        [standing] = quota_standings.standings(team=ready.team, user=ready.member.user, role=ready.member.role, now=timezone.now())
        return standing.limit

    limits = []
    for row in (own, role, each):
        limits.append(limit())
        row.delete()
    assert limits == [3, 2, 1]


def test_the_platforms_default_holds_until_the_team_has_one(ready):
    quota(None, limit=1)
    job_of(ready)
    assert ready.post(BODY).status_code == 429

    quota(ready.team, limit=5)

    assert ready.post(BODY).status_code == 200


def test_the_teams_total_counts_everybody_beside_the_persons_own(ready):
    quota(ready.team, limit=5)
    quota(ready.team, limit=2, scope=QuotaScope.TEAM)
    for _ in range(2):
        job_of(ready, by=make_member(ready.team).user)

    said = ready.post(BODY).json()

    assert said["detail"] == "Quota exceeded: Maximum 2 concurrent jobs allowed for the team; 2 now."


def test_the_platforms_total_counts_all_teams(ready):
    quota(None, limit=2, scope=QuotaScope.PLATFORM)
    JobFactory.create_batch(2)

    answer = ready.post(BODY)

    assert (answer.status_code, answer.json()["details"]["quotas"][0]["scope"]) == (429, "platform")


def test_a_token_counts_for_its_maker_with_the_makers_role(ready):
    quota(ready.team, limit=1, scope=QuotaScope.ROLE, role=Role.OWNER)
    owner = make_member(ready.team, Role.OWNER)
    _, key = make_token(owner)

    answers = [ready.post(BODY, key=key).status_code for _ in range(2)]

    assert (answers, ready.post(BODY).status_code) == ([200, 429], 200)


def test_a_total_that_blocks_lowers_the_quota_below_it(ready):
    quota(ready.team, limit=5, action=QuotaAction.WARN)
    quota(ready.team, limit=2, scope=QuotaScope.TEAM)

    person, team = quota_standings.standings(team=ready.team, user=ready.member.user, role=ready.member.role, now=timezone.now())

    assert (person.limit, person.ceiling) == (2, quota_standings.Ceiling("team", 2, is_bound=True))
    assert (team.limit, team.ceiling) == (2, None)


def test_asking_how_they_stand_takes_as_many_questions_for_many_jobs(ready, django_assert_num_queries):
    for kind in QuotaKind:
        quota(ready.team, kind, limit=100)
        if kind not in MONEY:
            quota(ready.team, kind, limit=100, scope=QuotaScope.TEAM)

    def ask():
        return quota_standings.standings(team=ready.team, user=ready.member.user, role=ready.member.role, now=timezone.now())

    for _ in range(2):
        job_of(ready)
        with django_assert_num_queries(10):
            found = ask()
    assert {standing.current for standing in found if standing.kind == QuotaKind.CONCURRENT_JOBS} == {2}


# --- Storage ----------------------------------------------------------------------------------------------


def test_a_full_storage_refuses_no_job_and_is_told_of(ready):
    quota(ready.team, QuotaKind.STORAGE_BYTES, 1024, scope=QuotaScope.TEAM)
    ArtifactFactory(job=job_of(ready), size_bytes=2048)

    said = ready.post(BODY).json()

    [warning] = said["quota_warnings"]
    assert said["success"] is True
    assert warning.startswith("Quota exceeded: Maximum 1.00 KiB of storage allowed for the team; ")
    assert warning.endswith(" now. The result will be kept all the same.")


def test_foreign_bytes_are_not_counted(ready):
    other = make_ready()
    ArtifactFactory(job=job_of(other), size_bytes=5000)
    mine = quota_standings.stored_bytes("team", ready.team, None)

    ArtifactFactory(job=job_of(ready), size_bytes=100)
    ArtifactFactory(job=job_of(ready, by=make_member(ready.team).user), size_bytes=10)

    assert quota_standings.stored_bytes("team", ready.team, None) == mine + 110
    assert quota_standings.stored_bytes("person", ready.team, ready.member.user) == mine + 100
    assert quota_standings.stored_bytes("team", TeamFactory(), None) == 0
