"""Jobs live random lives between people, the dispatcher and a provider whose answers come late, twice, out of order or never.

Whatever happens: states only go forward, an end is an end, money adds up, and no job is ever run twice.
"""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import time_machine
from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from accounts import audit
from accounts.errors import Refusal
from accounts.roles import Role
from billing import ledger, prices, totals
from billing.models import Hold, LedgerLine, LimitAction, LimitPeriod, LimitPeriodKind, LimitScope, SpendLimit
from jobs import tasks
from jobs.models import ApprovalRule, Job, JobEvent, LogChunk, QueueSettings
from jobs.replicate import predictions
from jobs.services import (
    approving,
    cancelling,
    dispatch,
    launching,
    polling,
    progress,
    provider,
    results,
    retrying,
    stopping,
    submission,
)
from jobs.specs import JobSpec
from jobs.states import NEXT, State
from tests.billing.factories import USD
from tests.factories import MembershipFactory
from tests.jobs.pretended import ENDS, MOODS, Pretended
from tests.jobs.ready import NAMED, caller_of, make_ready
from tests.thoroughness import FULL
from webhooks import applying, receiving, replaying
from webhooks.models import Delivery
from webhooks.receiving import Arrival

BEGINNING = datetime(2026, 10, 23, 9, 0, tzinfo=UTC)
BEGINNINGS = frozenset({State.PENDING, State.BLOCKED})
LOADED = ("team", "credential", "hold", "price_line", "submitted_by")
# Half of all calls are answered.
moods = st.sampled_from(["answers"] * len(MOODS) + list(MOODS))
anything = st.integers(0, 10_000)
tally = {"lives": 0, "steps": 0, "jobs": 0}


class Lives(RuleBasedStateMachine):
    """`ends` keeps how each job ended when that was first seen; it must stay so."""

    def __init__(self):
        super().__init__()
        tally["lives"] += 1
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        cache.clear()
        self.clock = time_machine.travel(BEGINNING, tick=False)
        self.traveller = self.clock.__enter__()
        self.replicate = Pretended()
        self.usual_gateway, provider.gateway = provider.gateway, self.replicate.gateway
        self.ready = make_ready()
        self.team = self.ready.team
        self.lead = caller_of(MembershipFactory(team=self.team, role=Role.OWNER))
        QueueSettings.objects.update_or_create(
            team=None, defaults={"max_concurrent": 50, "team_max_concurrent": 4, "user_max_concurrent": 3}
        )
        for action, amount in ((LimitAction.BLOCK, 60), (LimitAction.WARN, 5)):
            SpendLimit.objects.create(
                scope=LimitScope.TEAM, team=self.team, name=action, period=LimitPeriodKind.DAILY, amount=amount * USD, action=action
            )
        self.ends: dict[int, tuple] = {}

    def teardown(self):
        try:
            self.calm_down()
            assert ledger.verify(self.team).valid
            assert audit.verify(self.team).valid
        finally:
            tally["jobs"] += Job.objects.count()
            provider.gateway = self.usual_gateway
            self.clock.__exit__(None, None, None)
            transaction.set_rollback(True)
            self.rollback.__exit__(None, None, None)

    # --- What there is ---

    def jobs(self, **which):
        return Job.objects.filter(**which).select_related(*LOADED).order_by("pk")

    def one_of(self, rows, which):
        found = list(rows)
        return found[which % len(found)] if found else None

    def job_of(self, run):
        return self.jobs(job_id=run.marker).first()

    @contextlib.contextmanager
    def in_mood(self, mood):
        """The provider is so, for these calls."""
        self.replicate.mood = mood
        try:
            yield
        finally:
            self.replicate.mood = "answers"

    # --- People ---

    @initialize(lengths=st.lists(st.sampled_from([None, 60, 900]), min_size=1, max_size=4), sent=st.integers(0, 3))
    def begin(self, lengths, sent):
        """A life with jobs under way shows more than one that begins with nothing."""
        for seconds in lengths:
            self.submit(seconds, False)
        if sent:
            self.dispatch()
        for _ in range(sent):
            self.launch(0, "answers", 0)

    @rule(seconds=st.sampled_from([None, 60, 900, 3600, 20_000]), by_lead=st.booleans())
    def submit(self, seconds, by_lead):
        with contextlib.suppress(Refusal):
            submission.submit(self.lead if by_lead else self.ready.caller, JobSpec(config_name=NAMED, max_seconds=seconds))

    @rule(which=anything)
    def cancel(self, which):
        job = self.one_of(self.jobs(), which)
        if job:
            with contextlib.suppress(cancelling.InvalidJobState):
                cancelling.cancel(job, caller=self.lead)

    @rule(which=anything)
    def delete(self, which):
        job = self.one_of(self.jobs(), which)
        if job:
            may_go = job.is_terminal or job.cancel_requested_at
            try:
                cancelling.hide(job, caller=self.lead)
            except cancelling.InvalidJobState:
                assert not may_go
            else:
                assert may_go

    @rule(which=anything)
    def retry(self, which):
        job = self.one_of(self.jobs(state__in=retrying.RETRIED, deleted_at=None), which)
        if job:
            with contextlib.suppress(Refusal):
                retrying.retry(job, caller=self.lead)

    @rule(which=anything, percent=st.integers(0, 110))
    def move_the_stop_time(self, which, percent):
        job = self.one_of(self.jobs(), which)
        if job:
            with contextlib.suppress(Refusal):
                stopping.move(job, caller=self.lead, stop_after_seconds=job.ceiling_seconds * percent // 100)

    @rule(which=anything, yes=st.booleans())
    def decide(self, which, yes):
        job = self.one_of(self.jobs(state=State.BLOCKED), which)
        if job:
            with contextlib.suppress(Refusal):
                (approving.approve if yes else approving.reject)(self.lead, job.approval)

    @rule(is_on=st.booleans())
    def approval_rule_changes(self, is_on):
        ApprovalRule.objects.filter(team=self.team).delete()
        if is_on:
            ApprovalRule.objects.create(team=self.team, name="dear", condition="cost_exceeds", threshold="1")

    @rule(which=anything, priority=st.sampled_from([None, 0, 5, 30]))
    def priority_changes(self, which, priority):
        job = self.one_of(self.jobs(state=State.PENDING), which)
        if job:
            Job.objects.filter(pk=job.pk).update(priority_override=priority)

    @rule()
    def a_good_token_is_saved(self):
        provider.note_acceptance(self.ready.credential.__class__.objects.get(pk=self.ready.credential.pk))

    # --- Our own clockwork; each bell may ring at any time, twice, or not at all ---

    @rule()
    def dispatch(self):
        dispatch.dispatch(now=timezone.now())

    @rule(which=anything, mood=moods, lag=st.sampled_from([0, 20, 90]))
    def launch(self, which, mood, lag):
        """Also the search after a lost answer, while the new run stays out of the provider's list for `lag` seconds."""
        self.replicate.lag = timedelta(seconds=lag)
        job = self.one_of(self.jobs(state=State.UPLOADING), which)
        if job:
            with self.in_mood(mood):
                launching.launch(job)

    @rule(
        which=anything,
        is_made=st.booleans(),
        lag=st.sampled_from([0, 90, 90]),
        pauses=st.lists(st.sampled_from([6, 6, 20, 130]), min_size=2, max_size=4),
    )
    def an_answer_is_lost_and_the_run_looked_for(self, which, is_made, lag, pauses):
        """The search may come before the list shows the run; what was made must never be made again."""
        self.replicate.lag = timedelta(seconds=lag)
        self.submit(60, False)
        self.dispatch()
        job = self.one_of(self.jobs(state=State.UPLOADING, prediction_id=None), which)
        if job:
            with self.in_mood("made_and_lost" if is_made else "lost"):
                launching.launch(job)
            for seconds in pauses:
                self.time_passes(seconds)
                launching.launch(self.jobs(pk=job.pk).get())

    @rule(which=anything, mood=moods)
    def poll(self, which, mood):
        job = self.one_of(self.jobs(prediction_id__isnull=False), which)
        if job:
            with self.in_mood(mood):
                polling.poll(job)

    @rule(mood=moods)
    def sweep(self, mood):
        stopping.watch(now=timezone.now())
        cancelling.send_due()
        with self.in_mood(mood):
            for job in self.jobs(cancel_requested_at__isnull=False):
                cancelling.send(job)

    @rule()
    def requests_expire(self):
        approving.expire(now=timezone.now())

    @rule(which=anything, mood=moods)
    def archive(self, which, mood):
        job = self.one_of(self.jobs(), which)
        if job:
            with self.in_mood(mood):
                results.archive(job)

    # --- The provider ---

    @rule(which=anything, what=st.sampled_from(["start", "log", "say", *ENDS]))
    def the_run_goes_on(self, which, what):
        run = self.one_of(self.replicate.runs, which)
        if run is None:
            return
        now = timezone.now()
        if what == "start":
            run.start(now=now)
        elif what == "log":
            run.go_on()
        elif what in ENDS:
            run.end(what, now=now)
        run.say()

    @rule(which=anything, what=st.sampled_from(["forgets", "loses"]))
    def the_provider_drops(self, which, what):
        """It forgets the data of a run that is over, or all about a run."""
        run = self.one_of(self.replicate.runs, which)
        if run and what == "forgets" and run.is_over:
            run.is_forgotten = True
        elif run and what == "loses" and which % 5 == 0:
            run.is_gone = True

    @precondition(lambda self: any(run.sayings for run in self.replicate.runs))
    @rule(whose=anything, which=anything, is_applied=st.booleans())
    def a_webhook_comes(self, whose, which, is_applied):
        """Any of what was ever said, in any order, and the same one as often as it likes."""
        run = self.one_of([run for run in self.replicate.runs if run.sayings], whose)
        job = self.job_of(run)
        number = which % len(run.sayings)
        body = json.dumps(run.sayings[number]).encode()
        delivery, _ = receiving.receive(webhook_id=f"msg_{run.id}_{number}", job=job, body=body, arrival=Arrival(address=""))
        if is_applied:
            applying.apply(delivery)

    @rule(is_replay=st.booleans(), which=anything)
    def the_inbox_is_worked_off(self, is_replay, which):
        delivery = self.one_of(Delivery.objects.select_related("job__team").order_by("pk"), which)
        if is_replay and delivery:
            replaying.replay(delivery)
        applying.apply_unapplied()
        assert not Delivery.objects.unapplied().exists()

    @precondition(lambda self: self.replicate.runs)
    @rule(
        whose=anything,
        status=st.sampled_from(["starting", "processing", "succeeded", "failed", "canceled", "aborted", "napping", "", " SUCCEEDED "]),
        changed=st.sampled_from(
            [{}, {"logs": ""}, {"logs": None}, {"logs": "other"}, {"data_removed": True}, {"metrics": {"predict_time": 9e9}}]
        ),
    )
    def a_lie_comes(self, whose, status, changed):
        """Something that the provider would never say of this run now: another end, a word that is new, a log that shrank."""
        run = self.one_of(self.replicate.runs, whose)
        run.was_lied_about = True
        said = predictions.parse(json.dumps(run.body() | {"status": status} | changed))
        progress.record(self.job_of(run), said, cause="poll", now=timezone.now())

    @precondition(lambda self: self.replicate.runs)
    @rule(whose=anything)
    def news_of_another_run_come(self, whose):
        """A job takes news of its own prediction only."""
        job = self.one_of(self.jobs(), whose)
        said = predictions.parse({"id": "somebody-elses", "status": "succeeded"})
        if job and job.prediction_id:
            before = (job.state, job.prediction_id)
            progress.record(job, said, cause="webhook", now=timezone.now())
            job.refresh_from_db()
            assert (job.state, job.prediction_id) == before

    @rule(seconds=st.sampled_from([1, 30, 130, 130, 700, 3700, 90_000]))
    def time_passes(self, seconds):
        self.traveller.shift(timedelta(seconds=seconds))
        for run in self.replicate.runs:
            run.pass_time(now=timezone.now())

    # --- What always holds ---

    @invariant()
    def it_always_holds(self):
        tally["steps"] += 1
        self.states_only_go_forward()
        self.an_end_is_an_end()
        self.no_job_is_run_twice()
        self.what_is_over_holds_nothing_and_what_is_not_holds_all()
        self.each_job_is_charged_once()
        self.limits_add_up()
        self.nothing_is_deleted_that_goes_on()
        self.a_log_has_no_gaps()

    def states_only_go_forward(self):
        paths: dict[int, list[str]] = {}
        for pk, state in JobEvent.objects.exclude(state="").order_by("pk").values_list("job_id", "state"):
            paths.setdefault(pk, []).append(state)
        for pk, state in Job.objects.values_list("pk", "state"):
            path = paths[pk]
            assert path[0] in BEGINNINGS
            assert all(later in NEXT.get(State(earlier), ()) for earlier, later in pairwise(path))
            assert path[-1] == state

    def an_end_is_an_end(self):
        for pk, *end in Job.objects.terminal().values_list("pk", "state", "ended_at", "error", "cost", "hold__charge", "hold__settled_at"):
            assert self.ends.setdefault(pk, tuple(end)) == tuple(end)
        assert set(self.ends) <= set(Job.objects.terminal().values_list("pk", flat=True))

    def no_job_is_run_twice(self):
        for job_id in Job.objects.values_list("job_id", flat=True):
            assert len(self.replicate.of(job_id)) <= 1
        marked = {run.id: run.marker for run in self.replicate.runs}
        for job_id, prediction_id in Job.objects.exclude(prediction_id=None).values_list("job_id", "prediction_id"):
            assert marked[prediction_id] == job_id

    def what_is_over_holds_nothing_and_what_is_not_holds_all(self):
        assert not Job.objects.terminal().filter(hold__settled_at=None).exists()
        assert not Job.objects.active().exclude(hold__settled_at=None).exists()

    def each_job_is_charged_once(self):
        lines: dict[int, dict[str, int]] = {}
        for hold, kind, amount in LedgerLine.objects.values_list("hold", "kind", "amount"):
            assert kind not in lines.setdefault(hold, {})
            lines[hold][kind] = amount
        for hold in Hold.objects.exclude(settled_at=None):
            assert lines[hold.pk]["hold"] == lines[hold.pk]["charge"] + lines[hold.pk]["release"]
            assert lines[hold.pk]["charge"] == hold.charge
        for hold in Hold.objects.filter(settled_at=None):
            assert lines[hold.pk] == {"hold": hold.amount}
        assert ledger.unbalanced_holds(self.team) == []

    def limits_add_up(self):
        assert totals.differences() == []
        assert not LimitPeriod.objects.filter(is_blocking=True, ceiling__lt=F("settled") + F("held") - F("overrun")).exists()

    def nothing_is_deleted_that_goes_on(self):
        assert not Job.objects.active().exclude(deleted_at=None).filter(cancel_requested_at=None).exists()

    def a_log_has_no_gaps(self):
        ends: dict[int, int] = {}
        for job, start, text in LogChunk.objects.order_by("job", "start").values_list("job", "start", "text"):
            assert start == ends.get(job, 0)
            ends[job] = start + len(text)

    # --- And at last everything comes to an end ---

    def calm_down(self):
        """Nothing goes wrong any more: then each job ends, as the provider says it did, and for what it bills."""
        approving.expire(now=timezone.now())
        for job in self.jobs(state=State.BLOCKED):
            cancelling.cancel(job, caller=self.lead)
        for _ in range(30):
            if not Job.objects.active().exists():
                break
            self.one_quiet_round()
            self.it_always_holds()
        assert not Job.objects.active().exists()
        for job in self.jobs(prediction_id__isnull=False):
            self.agrees_with_the_provider(job)

    def one_quiet_round(self):
        self.time_passes(400)
        self.a_good_token_is_saved()
        applying.apply_unapplied()
        dispatch.dispatch(now=timezone.now())
        for job in self.jobs(state=State.UPLOADING):
            launching.launch(job)
        for run in self.replicate.runs:
            run.start(now=timezone.now())
        self.time_passes(7)
        stopping.watch(now=timezone.now())
        cancelling.send_due()
        for run in self.replicate.runs:
            run.end("succeeded", now=timezone.now())
        for job in self.jobs(prediction_id__isnull=False):
            polling.poll(job)
        if all(self.replicate.found(run.id) is None for run in self.replicate.runs if not self.job_of(run).is_terminal):
            # What nobody knows any more is waited for until no run can be left.
            self.time_passes(30_000)

    def agrees_with_the_provider(self, job):
        run = next(run for run in self.replicate.runs if run.id == job.prediction_id)
        if run.was_lied_about or run.is_gone:
            return
        assert job.state == predictions.STATES[run.status]
        if not job.hold.flag:
            assert job.hold.charge == prices.charge(usd_per_second=job.price_line.usd_per_second, seconds=run.seconds)


@pytest.fixture
def silent_bells(monkeypatch):
    """Nobody hears the bells; each rule rings for itself."""
    for task in (tasks.cancel, tasks.launch, tasks.dispatch, tasks.archive, tasks.poll_job):
        monkeypatch.setattr(task, "delay", lambda **_: None)


@pytest.mark.parametrize("part", range(4))
def test_in_no_order_of_events_does_a_job_go_back_run_twice_or_cost_too_much(db, no_provider, silent_bells, part):
    """A quarter of 24 lives, or of 400 in a full run; parts, so that they are tried side by side."""
    run_state_machine_as_test(
        Lives,
        settings=hypothesis_settings(
            max_examples=100 if FULL else 6,
            stateful_step_count=50,
            derandomize=False,  # or each part would live the same lives
            database=None,
            # A life that fails is told as it was lived: to shorten it would take minutes.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"So far {tally}")
