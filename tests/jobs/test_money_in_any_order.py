"""Jobs of two teams live random lives while prices, limits and the calendar change: the money always adds up."""

import contextlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

import pytest
import time_machine
from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from accounts.errors import Refusal
from accounts.roles import Role
from billing import ledger, reviews, top_ups, totals
from billing import services as billing
from billing.models import Hold, LimitAction, LimitPeriod, LimitPeriodKind, LimitScope, PriceLine, SpendLimit
from billing.services import LimitReached
from jobs.models import ApprovalRule, Job, LaunchIntent
from jobs.models.admission import QueueSettings
from jobs.replicate import predictions
from jobs.services import approving, cancelling, dispatch, ending, progress, stopping
from jobs.states import TERMINAL
from tests.billing.factories import USD, PriceLineFactory
from tests.factories import MembershipFactory
from tests.jobs.ready import caller_of, make_ready
from tests.thoroughness import FULL

BEGINNING = datetime(2026, 10, 23, 9, 0, tzinfo=UTC)
ZONES = ("Europe/Madrid", "America/Santiago")
anything = st.integers(0, 10_000)
teams = st.integers(0, len(ZONES) - 1)
ceilings = st.sampled_from([None, 60, 900, 3600, 20_000])
amounts = st.sampled_from([0, 3, 10, 50, 1000])
lives = count()


class Money(RuleBasedStateMachine):
    """`said` keeps all that the provider has said of each job, so that old news can come again."""

    def __init__(self):
        super().__init__()
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        cache.clear()
        self.clock = time_machine.travel(BEGINNING, tick=False)
        self.traveller = self.clock.__enter__()
        self.teams = [make_ready() for _ in ZONES]
        for ready, zone in zip(self.teams, ZONES, strict=True):
            ready.team.time_zone = zone
            ready.team.save()
        self.leads = [MembershipFactory(team=ready.team, role=Role.OWNER) for ready in self.teams]
        QueueSettings.objects.update_or_create(
            team=None, defaults={"max_concurrent": 500, "team_max_concurrent": 500, "user_max_concurrent": 500}
        )
        self.said: dict[int, list[predictions.Prediction]] = {}

    def teardown(self):
        try:
            for ready in self.teams:
                assert ledger.verify(ready.team).valid
        finally:
            self.clock.__exit__(None, None, None)
            transaction.set_rollback(True)
            self.rollback.__exit__(None, None, None)

    # --- What there is ---

    def one_of(self, jobs, which):
        found = list(jobs.select_related("team", "hold", "price_line", "submitted_by").order_by("pk"))
        return found[which % len(found)] if found else None

    def owner_of(self, job):
        return caller_of(next(lead for lead in self.leads if lead.team_id == job.team_id))

    def hear(self, job, status, **more):
        """The provider says something about a job."""
        known = self.said.setdefault(job.pk, [])
        now = timezone.now()
        created = known[0].created_at if known else now
        started = next((said.started_at for said in known if said.started_at), None)
        stamps = {"created_at": created, "started_at": started, **more.pop("stamps", {})}
        said = predictions.parse(
            {"id": f"prediction-{job.pk}", "status": status, **{name: at.isoformat() for name, at in stamps.items() if at}, **more}
        )
        known.append(said)
        progress.record(job, said, cause="webhook", now=now)

    # --- What people and the provider do ---

    @rule(
        team=teams, seconds=st.sampled_from([None, 60, 900, 3600, 20_000]), hardware=st.sampled_from(["", "h100"]), times=st.integers(6, 10)
    )
    def submit(self, team, seconds, hardware, times):
        for _ in range(times):
            next(lives)
            with contextlib.suppress(LimitReached):
                self.teams[team].submit(max_seconds=seconds, hardware_profile=hardware)

    @rule()
    def dispatch(self):
        dispatch.dispatch(now=timezone.now())

    @rule(which=anything)
    def launch(self, which):
        job = self.one_of(Job.objects.filter(state="uploading", intent=None), which)
        if job:
            now = timezone.now()
            LaunchIntent.objects.create(job=job, version="v", first_call_at=now, called_at=now)
            self.hear(job, "starting")

    @rule(which=anything)
    def start(self, which):
        job = self.one_of(Job.objects.filter(state="queued"), which)
        if job:
            self.hear(job, "processing", stamps={"started_at": timezone.now()})

    @rule(which=anything, status=st.sampled_from(["succeeded", "failed", "canceled"]), percent=st.integers(0, 130))
    def end_with_figures(self, which, status, percent):
        """Above 100 percent the provider bills more than the ceiling allows."""
        job = self.one_of(Job.objects.filter(state__in=("queued", "running")).exclude(prediction_id=None), which)
        if job:
            seconds = Decimal(job.ceiling_seconds * percent) / 100
            figures = {"predict_time": seconds, "total_time": seconds + 30}
            self.hear(job, status, metrics=figures, stamps={"completed_at": timezone.now()})

    @rule(which=anything, status=st.sampled_from(["succeeded", "failed", "canceled"]), forgotten=st.booleans())
    def end_without_figures(self, which, status, forgotten):
        job = self.one_of(Job.objects.filter(state__in=("queued", "running")).exclude(prediction_id=None), which)
        if job:
            self.hear(job, status, data_removed=forgotten)

    @rule(which=anything)
    def abort(self, which):
        job = self.one_of(Job.objects.filter(state="queued"), which)
        if job:
            self.hear(job, "aborted", stamps={"completed_at": timezone.now()})

    @rule(which=anything)
    def lose(self, which):
        job = self.one_of(Job.objects.filter(state="uploading", prediction_id=None).exclude(intent=None), which)
        if job:
            ending.lose(job, cause="search")

    @precondition(lambda self: self.said)
    @rule(which=anything, whose=anything)
    def say_it_again(self, which, whose):
        """An event comes late or once more, in any order."""
        job = self.one_of(Job.objects.filter(pk__in=self.said), whose)
        before = (Hold.objects.filter(pk=job.hold_id).values_list("charge", flat=True).get(), job.state)
        known = self.said[job.pk]
        progress.record(job, known[which % len(known)], cause="poll", now=timezone.now())
        job.refresh_from_db()
        if before[1] in TERMINAL:
            assert (Hold.objects.get(pk=job.hold_id).charge, job.state) == before

    @rule(which=anything)
    def cancel(self, which):
        job = self.one_of(Job.objects.exclude(state__in=TERMINAL), which)
        if job:
            cancelling.cancel(job, caller=self.owner_of(job))

    @rule(which=anything, percent=st.integers(0, 110))
    def move_the_stop_time(self, which, percent):
        job = self.one_of(Job.objects.exclude(state__in=TERMINAL), which)
        if job:
            with contextlib.suppress(Refusal):
                stopping.move(job, caller=self.owner_of(job), stop_after_seconds=job.ceiling_seconds * percent // 100)

    @rule()
    def watch(self):
        stopping.watch(now=timezone.now())

    @rule(which=anything, yes=st.booleans())
    def decide(self, which, yes):
        """An approval asks the limits of now once more."""
        job = self.one_of(Job.objects.filter(state="blocked"), which)
        if job:
            with contextlib.suppress(LimitReached, approving.AlreadyDecided):
                (approving.approve if yes else approving.reject)(self.owner_of(job), job.approval)

    @rule()
    def requests_expire(self):
        approving.expire(now=timezone.now())

    @rule(which=anything, cents=st.integers(-500, 500))
    def adjust(self, which, cents):
        hold = self.settled(which)
        if hold:
            with contextlib.suppress(Refusal):
                billing.adjust(hold=hold, amount=cents * USD // 100, reason="the invoice says so", by=None, now=timezone.now())

    @rule(which=anything, seconds=st.integers(0, 30_000))
    def settle_what_was_flagged(self, which, seconds):
        hold = self.settled(which, flagged=True)
        if hold:
            with contextlib.suppress(Refusal):
                reviews.settle_as(hold, seconds=Decimal(seconds), reason="looked at", by=None, now=timezone.now())

    def settled(self, which, *, flagged=False):
        found = Hold.objects.exclude(settled_at=None).select_related("team", "price_line").order_by("pk")
        found = list(found.exclude(flag="") if flagged else found)
        return found[which % len(found)] if found else None

    # --- What changes around them ---

    @rule(team=teams, usd=st.sampled_from([None, 0, 1, 20]))
    def approval_rule_changes(self, team, usd):
        ApprovalRule.objects.filter(team=self.teams[team].team).delete()
        if usd is not None:
            ApprovalRule.objects.create(team=self.teams[team].team, name="dear", condition="cost_exceeds", threshold=str(usd))

    @rule(which=anything, dollars=st.sampled_from([1, 5, 40]), hours=st.sampled_from([None, 1, 30]))
    def top_up(self, which, dollars, hours):
        limits = list(SpendLimit.objects.exclude(team=None).select_related("team", "user").order_by("pk"))
        if limits:
            limit = limits[which % len(limits)]
            lead = next(lead for lead in self.leads if lead.team_id == limit.team_id)
            ends = timezone.now() + timedelta(hours=hours) if hours else None
            with contextlib.suppress(Refusal):
                top_ups.add(caller_of(lead), limit, amount=dollars * USD, reason="release", expires_at=ends, now=timezone.now())

    @rule(hours=st.sampled_from([0.1, 1, 5, 24, 24 * 7, 24 * 31]))
    def time_passes(self, hours):
        self.traveller.shift(timedelta(hours=hours))

    @rule(rate=st.sampled_from(["0.000975", "0.002", "0.000000001", "0"]), hardware=st.sampled_from(["gpu-l40s", "gpu-h100"]))
    def price_changes(self, rate, hardware):
        if not PriceLine.objects.filter(hardware=hardware, effective_from=timezone.now()).exists():
            PriceLineFactory(hardware=hardware, usd_per_second=Decimal(rate), effective_from=timezone.now())

    @rule(
        team=teams,
        scope=st.sampled_from([LimitScope.PLATFORM, LimitScope.TEAM, LimitScope.PERSON]),
        period=st.sampled_from(list(LimitPeriodKind)),
        amount=amounts,
        action=st.sampled_from(list(LimitAction)),
        is_enabled=st.booleans(),
    )
    def limit_changes(self, team, scope, period, amount, action, is_enabled):
        ready = self.teams[team]
        SpendLimit.objects.update_or_create(
            scope=scope,
            team=None if scope == LimitScope.PLATFORM else ready.team,
            user=ready.member.user if scope == LimitScope.PERSON else None,
            token=None,
            name="any",
            period=period,
            defaults={"amount": amount * USD, "action": action, "is_enabled": is_enabled},
        )

    # --- What always holds ---

    @invariant()
    def stored_totals_are_the_sums_over_the_lines(self):
        assert totals.differences() == []

    @invariant()
    def every_settled_hold_is_charged_and_released(self):
        for ready in self.teams:
            assert ledger.unbalanced_holds(ready.team) == []

    @invariant()
    def a_job_that_is_over_holds_nothing(self):
        assert not Job.objects.filter(state__in=TERMINAL, hold__settled_at=None).exists()
        assert not Job.objects.exclude(state__in=TERMINAL).exclude(hold__settled_at=None).exists()

    @invariant()
    def what_is_charged_beyond_its_hold_is_flagged(self):
        assert not Hold.objects.filter(charge__gt=F("amount"), flag="").exists()

    @invariant()
    def no_blocking_limit_has_more_than_it_allows_and_what_was_flagged(self):
        assert not LimitPeriod.objects.filter(
            is_blocking=True, ceiling__lt=F("settled") + F("held") - F("overrun") - F("topped_up")
        ).exists()


@pytest.mark.parametrize("part", range(5))
def test_no_order_of_events_loses_or_makes_money(db, no_provider, part):
    """A fifth of 500 lives, or of 10,000 in a full run; parts, so that they are tried side by side. States have a machine of their own."""
    wanted = 2000 if FULL else 100
    begun = next(lives)
    while next(lives) - begun < wanted:
        run_state_machine_as_test(
            Money,
            settings=hypothesis_settings(
                max_examples=3, stateful_step_count=60, derandomize=False, suppress_health_check=list(HealthCheck)
            ),
        )
