"""Waiting for an approval: who has to wait and why, what deciding does to job and money, and that one decision wins."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.core import mail
from django.db import transaction
from django.utils import timezone, translation

from accounts import tasks as account_tasks
from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.models import APIToken, AuditLine, Letter
from accounts.roles import Role
from billing import ledger, totals
from billing.models import Hold, LimitAction, LimitPeriodKind
from billing.services import LimitReached
from jobs import tasks
from jobs.models import ApprovalRequest, Job, JobQuota
from jobs.models.admission import ApprovalState
from jobs.models.quotas import QuotaAction, QuotaKind, QuotaScope
from jobs.services import admission, approving, cancelling, dispatch, planning, submission
from jobs.services.approval_requests import LIFETIME
from jobs.services.quotas import QuotaReached
from jobs.specs import JobSpec
from jobs.templatetags.approvals import in_words
from tests.billing.factories import USD, PriceLineFactory, SpendLimitFactory, race
from tests.factories import MembershipFactory
from tests.jobs.approvals import blocked, caller, member, request_of, rule
from tests.jobs.ready import NAMED, make_ready

WORST = round(3660 * 0.000975 * USD)


@pytest.fixture
def asked(ready):
    """A request for a job of an hour."""
    return blocked(ready, max_seconds=3600)


@pytest.fixture
def mails(settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"

    def sent():
        account_tasks.send_mail()
        return mail.outbox

    return sent


def assert_books_are_right(team):
    assert ledger.verify(team).valid
    assert ledger.unbalanced_holds(team) == []
    assert totals.differences() == []


def kinds(job):
    return list(job.team.ledger_lines.filter(reference=job.reference).order_by("sequence").values_list("kind", "amount"))


# --- Who waits ------------------------------------------------------------------------------------------------


def test_a_job_that_a_rule_fits_waits_with_its_money_held(ready):
    its_rule = rule(ready.team, threshold="3", required_role=Role.OWNER)

    submitted = submission.submit(ready.caller, JobSpec(config_name=NAMED, max_seconds=3600))

    request, job = submitted.approval, submitted.job
    assert (job.state, job.waiting_reason, job.hold.amount) == ("blocked", "approval", WORST)
    assert (request.job, request.rule, request.required_role, request.state) == (job, its_rule, "owner", "pending")
    assert request.reason == "The rule 'Ask' asks for an approval: the job can cost up to $3.57, more than $3.00."
    assert request.expires_at - request.created_at == LIFETIME
    assert AuditLine.objects.get(event_type="job.submitted").after["approval"] == request.reason
    assert dispatch.dispatch() == []


def test_a_job_that_no_rule_fits_goes(ready):
    rule(ready.team, threshold="50")
    rule(ready.team, "hardware_type", "*h100*")
    rule(MembershipFactory().team)

    submitted = submission.submit(ready.caller, JobSpec(config_name=NAMED, max_seconds=3600))

    assert (submitted.job.state, submitted.approval) == ("pending", None)


def test_a_rule_of_the_platforms_speaks_to_every_team_and_the_higher_priority_decides(ready):
    rule(ready.team, name="ours", required_role=Role.LEAD)
    theirs = rule(None, name="theirs", priority=1, required_role=Role.OWNER)

    request = request_of(ready.submit())

    assert (request.rule, request.required_role) == (theirs, "owner")


def test_a_limit_that_asks_makes_a_job_wait_for_a_lead_without_any_rule(ready):
    SpendLimitFactory(team=ready.team, amount=1 * USD, action=LimitAction.REQUIRE_APPROVAL)

    request = request_of(ready.submit(max_seconds=3600))

    assert (request.rule, request.required_role) == (None, "lead")
    assert request.reason == (
        "The job can cost up to $3.57, and the team's monthly limit, beyond which somebody must approve, has $1.00 left."
    )


def test_rule_and_limit_together_give_both_reasons_and_the_rules_role(ready):
    rule(ready.team, required_role=Role.OWNER)
    SpendLimitFactory(team=ready.team, amount=1 * USD, action=LimitAction.REQUIRE_APPROVAL)

    request = request_of(ready.submit())

    assert (request.required_role, request.reason.startswith("The rule 'Ask'"), "has $1.00 left" in request.reason) == ("owner", True, True)


def test_a_refusal_leaves_no_request(ready):
    rule(ready.team)
    SpendLimitFactory(team=ready.team, amount=1 * USD)

    with pytest.raises(LimitReached):
        ready.submit(max_seconds=3600)

    assert (ApprovalRequest.objects.count(), Job.objects.count(), Letter.objects.count()) == (0, 0, 0)


def test_a_rehearsal_needs_no_approval(ready, settings):
    settings.SANDBOX_URL = settings.SANDBOX_CALLBACK_URL = "http://127.0.0.1:9"
    rule(ready.team)

    assert ready.submit(provider="sandbox").state == "pending"


def test_a_first_job_waits_and_so_does_a_second_one_as_long_as_none_went_through(ready):
    rule(ready.team, "first_job", "", exempt_roles=[Role.LEAD])
    lead = caller(ready)

    first, second = ready.submit(), ready.submit()
    approving.reject(lead, request_of(first))
    third = ready.submit()
    approving.approve(lead, request_of(third))
    fourth = ready.submit()

    assert [job.state for job in (first, second, third, fourth)] == ["blocked", "blocked", "blocked", "pending"]
    assert submission.submit(lead, JobSpec(config_name=NAMED)).job.state == "pending"


def test_jobs_of_a_day_are_counted_for_each_person_in_the_teams_zone(ready):
    ready.team.time_zone = "Asia/Tokyo"
    ready.team.save()
    rule(ready.team, "daily_jobs_exceed", "1")

    with time_machine.travel(datetime(2026, 11, 23, 14, 30, tzinfo=UTC), tick=False) as clock:
        today = [ready.submit().state, ready.submit().state]
        other = submission.submit(caller(ready), JobSpec(config_name=NAMED)).job.state
        clock.shift(timedelta(hours=1))
        tomorrow = ready.submit().state

    assert (today, other, tomorrow) == (["pending", "blocked"], "pending", "pending")


@pytest.mark.django_db(transaction=True)
def test_of_racing_submissions_no_more_go_unasked_than_the_rule_leaves(no_provider):
    ready = make_ready()
    rule(ready.team, "daily_jobs_exceed", "3")

    outcomes = race(lambda number: submission.submit(ready.caller, JobSpec(config_name=NAMED)).job.state, times=12)

    assert sorted(outcomes) == ["blocked"] * 9 + ["pending"] * 3


def test_a_dry_run_that_takes_admission_back_can_say_which_rule_asked(ready):
    its_rule = rule(ready.team)
    spec = JobSpec(config_name=NAMED)
    with transaction.atomic():
        found = admission.admit(ready.caller, spec, planning.plan(ready.caller, spec, now=timezone.now()), repeat=None, now=timezone.now())
        transaction.set_rollback(True)

    assert (found.approval.rule, found.approval.reason[:14]) == (its_rule, "The rule 'Ask'")
    assert (Job.objects.count(), ApprovalRequest.objects.count()) == (0, 0)


# --- Approving ------------------------------------------------------------------------------------------------


def test_an_approved_job_goes_on_and_everything_tells_of_it(ready, asked, django_capture_on_commit_callbacks, monkeypatch):
    rung = []
    monkeypatch.setattr(tasks.dispatch, "delay", lambda: rung.append(1))
    lead = caller(ready)

    with django_capture_on_commit_callbacks(execute=True):
        approving.approve(lead, asked, notes="Go on")

    asked.refresh_from_db()
    job = Job.objects.get()
    assert (job.state, job.waiting_reason, job.hold.amount) == ("pending", "turn", WORST)
    assert (asked.state, asked.reviewed_by, asked.review_notes) == ("approved", lead.user, "Go on")
    assert list(job.events.values_list("state", "cause")) == [("blocked", "submit"), ("pending", "approval")]
    line = AuditLine.objects.get(event_type="job.approved")
    assert (line.actor, line.target_id, line.reason, line.before) == (lead.user.username, job.job_id, "Go on", {"reason": asked.reason})
    assert rung == [1]
    assert kinds(job) == [("hold", WORST)]


def test_a_price_that_changed_meanwhile_is_held_from_then_on(ready, asked):
    limit = SpendLimitFactory(team=ready.team)
    old = asked.job
    line = PriceLineFactory(hardware="gpu-l40s", usd_per_second=Decimal("0.002"), effective_from=timezone.now())

    approving.approve(caller(ready), asked)

    job, dearer = Job.objects.get(), round(3660 * 0.002 * USD)
    assert (job.price_line, job.hold.amount, job.hold.replaces_id) == (line, dearer, old.hold_id)
    assert (job.estimate_low > old.estimate_low, job.estimate_high > old.estimate_high) == (True, True)
    assert kinds(job) == [("hold", WORST), ("charge", 0), ("release", WORST), ("hold", dearer)]
    assert limit.periods.get().held == dearer
    cancelling.cancel(job, caller=ready.caller)
    assert limit.periods.get().held == 0
    assert_books_are_right(ready.team)


def test_a_price_that_does_not_fit_any_more_is_refused_with_the_limits_and_the_request_waits_on(ready, asked):
    SpendLimitFactory(team=ready.team, amount=5 * USD)
    PriceLineFactory(hardware="gpu-l40s", usd_per_second=Decimal("0.002"), effective_from=timezone.now())

    with pytest.raises(LimitReached) as refused:
        approving.approve(caller(ready), asked)

    assert [row["requested_micros"] for row in refused.value.details["limits"]] == [round(3660 * 0.002 * USD)]
    asked.refresh_from_db()
    job = Job.objects.get()
    assert (asked.state, job.state, job.hold.amount, Hold.objects.count()) == ("pending", "blocked", WORST, 1)
    assert AuditLine.objects.filter(event_type="quota.exceeded").count() == 1
    assert_books_are_right(ready.team)


def test_a_limit_that_was_set_or_lowered_meanwhile_is_asked(ready, asked):
    SpendLimitFactory(team=ready.team, amount=1 * USD)

    with pytest.raises(LimitReached):
        approving.approve(caller(ready), asked)


@pytest.mark.parametrize("whose", ["everybody's", "the person's", "the team's"])
def test_a_quota_that_was_set_meanwhile_is_asked_and_the_request_waits_on(ready, asked, whose):
    submission.submit(ready.caller, JobSpec(config_name=NAMED))
    scope = {"everybody's": QuotaScope.EACH, "the person's": QuotaScope.PERSON, "the team's": QuotaScope.TEAM}[whose]
    user = ready.caller.user if scope == QuotaScope.PERSON else None
    quota = JobQuota.objects.create(team=ready.team, scope=scope, user=user, kind=QuotaKind.CONCURRENT_JOBS, limit_value=1)

    with pytest.raises(QuotaReached, match="Maximum 1 concurrent job allowed"):
        approving.approve(caller(ready), asked)

    asked.refresh_from_db()
    assert (asked.state, asked.job.state, AuditLine.objects.filter(event_type="quota.exceeded").count()) == ("pending", "blocked", 1)
    quota.limit_value = 2
    quota.save()
    assert approving.approve(caller(ready), asked).state == "approved"


def test_a_quota_that_asks_has_its_answer_in_the_approval(ready, asked):
    submission.submit(ready.caller, JobSpec(config_name=NAMED))
    JobQuota.objects.create(
        team=ready.team, scope=QuotaScope.EACH, kind=QuotaKind.CONCURRENT_JOBS, limit_value=1, action=QuotaAction.REQUIRE_APPROVAL
    )

    assert approving.approve(caller(ready), asked).state == "approved"


def test_a_role_that_changed_meanwhile_brings_its_quota(ready, asked):
    submission.submit(ready.caller, JobSpec(config_name=NAMED))
    JobQuota.objects.create(team=ready.team, scope=QuotaScope.ROLE, role=Role.VIEWER, kind=QuotaKind.CONCURRENT_JOBS, limit_value=1)
    ready.team.memberships.filter(user=ready.caller.user).update(role=Role.VIEWER)

    with pytest.raises(QuotaReached):
        approving.approve(caller(ready), asked)


def test_in_a_new_month_the_money_is_held_there(ready):
    monthly = SpendLimitFactory(team=ready.team)
    daily = SpendLimitFactory(team=ready.team, period=LimitPeriodKind.DAILY)
    with time_machine.travel(datetime(2026, 11, 30, 23, 0, tzinfo=UTC), tick=False) as clock:
        asked = blocked(ready, max_seconds=3600)
        clock.shift(timedelta(hours=2))

        approving.approve(caller(ready), asked)

    for limit in (monthly, daily):
        assert list(limit.periods.order_by("starts_at").values_list("held", flat=True)) == [0, WORST]
    assert_books_are_right(ready.team)


# --- Who decides ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decide", [approving.approve, approving.reject])
@pytest.mark.parametrize("role", [Role.LEAD, Role.OWNER])
def test_nobody_decides_on_their_own_job_whatever_their_role(db, no_provider, decide, role):
    ready = make_ready(role=role)
    ready.member.user.is_staff = True
    ready.member.user.save()
    asked = blocked(ready)

    with pytest.raises(approving.OwnJob):
        decide(ready.caller, asked)

    assert ApprovalRequest.objects.get().state == "pending"


def test_a_token_is_whoever_made_it(db, no_provider):
    ready = make_ready(role=Role.OWNER)
    asked = blocked(ready)
    token = APIToken.objects.get(team=ready.team)
    by_token = Caller(team=ready.team, user=token.made_by, role=token.role, rights=token.rights, token=token, address="")

    with pytest.raises(approving.OwnJob):
        approving.approve(by_token, asked)


@pytest.mark.parametrize(
    ("needed", "role", "refusal"),
    [
        (Role.LEAD, Role.RESEARCHER, NotPermitted),
        (Role.LEAD, Role.VIEWER, NotPermitted),
        (Role.OWNER, Role.LEAD, approving.RoleTooLow),
        (Role.OWNER, Role.OWNER, None),
        (Role.LEAD, Role.OWNER, None),
    ],
)
def test_who_decides_has_at_least_the_role_that_the_request_asks_for(ready, needed, role, refusal):
    rule(ready.team, required_role=needed)
    asked = blocked(ready)
    somebody = caller(ready, role)

    if refusal:
        with pytest.raises(refusal):
            approving.approve(somebody, asked)
    else:
        assert approving.approve(somebody, asked).state == "approved"


def test_a_request_keeps_the_role_it_was_made_with_when_its_rule_changes_or_goes(ready):
    its_rule = rule(ready.team, required_role=Role.OWNER)
    asked = blocked(ready)
    its_rule.delete()
    asked.refresh_from_db()

    with pytest.raises(approving.RoleTooLow):
        approving.approve(caller(ready), asked)

    assert (asked.rule, approving.approve(caller(ready, Role.OWNER), asked).state) == (None, "approved")


# --- The other ends -------------------------------------------------------------------------------------------


def test_a_rejected_job_is_cancelled_and_its_money_is_free_again(ready, asked):
    limit = SpendLimitFactory(team=ready.team)
    lead = caller(ready)

    approving.reject(lead, asked)

    asked.refresh_from_db()
    job = Job.objects.get()
    assert (job.state, job.cost, job.error) == ("cancelled", 0, f"Rejected by {lead.user.username}: No reason given")
    assert (asked.state, asked.review_notes, asked.reviewed_by) == ("rejected", "No reason given", lead.user)
    assert kinds(job) == [("hold", WORST), ("charge", 0), ("release", WORST)]
    assert AuditLine.objects.get(event_type="job.rejected").reason == "No reason given"
    assert limit.periods.count() == 0
    assert_books_are_right(ready.team)


def test_who_submitted_takes_the_request_back_and_the_job_with_it(ready, asked):
    approving.cancel(ready.caller, asked)

    asked.refresh_from_db()
    job = Job.objects.get()
    assert (job.state, asked.state, asked.reviewed_by, job.hold.charge) == ("cancelled", "cancelled", None, 0)
    assert AuditLine.objects.filter(event_type="job.cancelled", action__startswith="Took back").count() == 1


def test_a_colleague_cannot_take_it_back(ready, asked):
    with pytest.raises(NotPermitted):
        approving.cancel(caller(ready, Role.RESEARCHER), asked)


def test_cancelling_a_job_that_waits_cancels_its_request(ready, asked):
    cancelling.cancel(asked.job, caller=ready.caller)

    asked.refresh_from_db()
    assert (asked.state, asked.reviewed_at is not None) == ("cancelled", True)
    with pytest.raises(approving.AlreadyDecided):
        approving.approve(caller(ready), asked)


def test_a_request_that_nobody_decides_expires_once(ready):
    with time_machine.travel(datetime(2026, 11, 23, 12, 0, tzinfo=UTC), tick=False) as clock:
        asked = blocked(ready)
        clock.shift(LIFETIME - timedelta(seconds=1))
        tasks.expire_approvals()
        early = ApprovalRequest.objects.get().state
        clock.shift(timedelta(seconds=1))

        with pytest.raises(approving.AlreadyDecided):
            approving.approve(caller(ready), asked)
        tasks.expire_approvals()
        tasks.expire_approvals()

    asked.refresh_from_db()
    job = Job.objects.get()
    assert (early, asked.state, job.state, job.hold.charge, job.error) == (
        "pending", "expired", "cancelled", 0, "Nobody approved it in time.",
    )  # fmt: skip
    assert AuditLine.objects.filter(event_type="job.expired").count() == 1
    assert Letter.objects.filter(event="approval_ended").count() == 1


def test_expiring_for_one_team_leaves_the_others(ready):
    blocked(ready)
    ApprovalRequest.objects.update(expires_at=timezone.now())

    assert approving.expire(now=timezone.now(), team=MembershipFactory().team) == 0
    assert approving.expire(now=timezone.now(), team=ready.team) == 1


@pytest.mark.parametrize("state", [state for state in ApprovalState if state != ApprovalState.PENDING])
def test_what_was_decided_stays_decided(ready, asked, state):
    ApprovalRequest.objects.update(state=state, reviewed_at=timezone.now())
    lead = caller(ready)

    for decide in (approving.approve, approving.reject, approving.cancel):
        with pytest.raises(approving.AlreadyDecided) as refused:
            decide(lead, asked)
        assert refused.value.details["current_state"] == state


# --- Mail -----------------------------------------------------------------------------------------------------


def test_those_who_may_approve_are_told_and_nobody_else(ready, mails):
    rule(ready.team, required_role=Role.OWNER)
    owner, gone = member(ready, Role.OWNER), member(ready, Role.OWNER)
    gone.user.is_active = False
    gone.user.save()
    member(ready, Role.LEAD)

    asked = blocked(ready, max_seconds=3600)

    (message,) = mails()
    assert message.to == [owner.user.email]
    assert message.subject == f"{ready.member.user} asks for an approval in {ready.team}: at most $3.57"
    for word in (asked.job.job_id, asked.reason, "flux-lora on 1x L40S", "$3.57", f"{asked.expires_at:%H:%M} UTC"):
        assert word in message.body


def test_an_approver_reads_in_their_own_language_why_somebody_must_approve(ready, mails):
    JobQuota.objects.create(
        team=ready.team, scope=QuotaScope.TEAM, kind=QuotaKind.JOBS_PER_DAY, limit_value=1, action=QuotaAction.REQUIRE_APPROVAL
    )
    readers = {language: member(ready, Role.LEAD, user__language=language).user.email for language in ("en", "es")}
    ready.submit()

    ready.submit(max_seconds=3600)

    bodies = {message.to[0]: message.body for message in mails()}
    assert "Quota exceeded: Maximum 1 job per day allowed for the team; 1 now." in bodies[readers["en"]]
    assert "Una cuota está agotada: trabajos en 24 horas, 1 de 1 (el equipo en conjunto)." in bodies[readers["es"]]
    assert "3,57" in bodies[readers["es"]]


@pytest.mark.parametrize(
    ("condition", "threshold"),
    [
        ("cost_exceeds", "1"), ("hardware_type", "*"), ("provider", "replicate"), ("user_level", "owner"), ("daily_jobs_exceed", "0"),
        ("first_job", ""), ("config_pattern", "*"),
    ],
)  # fmt: skip
def test_each_reason_has_words_in_other_languages(ready, condition, threshold):
    rule(ready.team, condition, threshold, name="Ask first")
    asked = blocked(ready, max_seconds=3600)

    with translation.override("es"):
        said = in_words(asked.grounds, asked.reason)

    assert ("Ask first" in said, said == asked.reason) == (True, False)


@pytest.mark.parametrize(
    ("decide", "subject", "words"),
    [
        (lambda lead, asked: approving.approve(lead, asked, notes="Fine"), "Your job {job} is approved", "Fine"),
        (lambda lead, asked: approving.reject(lead, asked, notes="Too dear"), "Your job {job} is rejected", "Too dear"),
        (lambda lead, asked: approving.expire(now=asked.expires_at), "Nobody approved your job {job} in time", "free again"),
    ],
)
def test_whoever_submitted_is_told_what_came_of_it(ready, asked, mails, decide, subject, words):
    decide(caller(ready), asked)

    (message,) = [message for message in mails() if message.to == [ready.member.user.email]]
    assert (message.subject, words in message.body) == (subject.format(job=asked.job.job_id), True)
    assert message.body.rstrip().endswith(f"http://127.0.0.1:9{asked.job.get_absolute_url()}")


# --- Several at once --------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_of_racing_decisions_exactly_one_wins_and_the_others_are_told(no_provider):
    ready = make_ready()
    SpendLimitFactory(team=ready.team)
    leads = [caller(ready) for _ in range(6)]
    rule(ready.team)
    PriceLineFactory(hardware="gpu-l40s", usd_per_second=Decimal("0.001"), effective_from=timezone.now())
    for _ in range(4):
        asked = blocked(ready)

        def decide(number, asked=asked):
            doing = [approving.approve, approving.reject, approving.approve, approving.cancel][number % 4]
            return doing(leads[number % 6], ApprovalRequest.objects.get(pk=asked.pk))

        outcomes = race(decide, times=12)

        asked.refresh_from_db()
        job = Job.objects.get(pk=asked.job_id)
        won = [outcome for outcome in outcomes if isinstance(outcome, ApprovalRequest)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, approving.AlreadyDecided)]
        assert (len(won), len(lost), won[0].state) == (1, 11, asked.state)
        assert job.state == ("pending" if asked.state == "approved" else "cancelled")
        assert job.events.count() == 2
    assert_books_are_right(ready.team)


@pytest.mark.django_db(transaction=True)
def test_approvals_race_with_submissions_and_ends_and_no_limit_is_overspent(no_provider):
    ready = make_ready()
    limit = SpendLimitFactory(team=ready.team, amount=40 * USD)
    daily = SpendLimitFactory(team=ready.team, amount=40 * USD, period=LimitPeriodKind.DAILY)
    rule(ready.team, applies_to_role=Role.RESEARCHER)
    waiting = [blocked(ready, max_seconds=3600) for _ in range(8)]
    lead, other = caller(ready), caller(ready)
    PriceLineFactory(hardware="gpu-l40s", usd_per_second=Decimal("0.002"), effective_from=timezone.now())

    def work(number):
        if number % 3 == 0:
            return submission.submit(lead, JobSpec(config_name=NAMED, max_seconds=3600))
        if number % 3 == 1:
            return approving.approve(other, ApprovalRequest.objects.get(pk=waiting[number // 3].pk))
        return cancelling.cancel(Job.objects.get(pk=waiting[number // 3].job_id), caller=ready.caller)

    outcomes = race(work, times=24)

    allowed = LimitReached | approving.AlreadyDecided
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception) and not isinstance(outcome, allowed)] == []
    for each in (limit, daily):
        period = each.periods.get()
        assert period.settled + period.held <= 40 * USD
    assert_books_are_right(ready.team)
