"""What the provider says of a job, in any order, doubled and late: states move forward, money is settled once, logs only grow."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from accounts.models import AuditLine
from accounts.roles import Role
from billing import ledger, prices
from billing.models import BilledTime, LedgerLine
from jobs.models import Job, JobProgress, LaunchIntent, LogChunk
from jobs.replicate import predictions
from jobs.services import cancelling, ending, logs, progress
from jobs.services.cancelling import InvalidJobState
from jobs.states import TERMINAL, State
from tests.billing.factories import PriceLineFactory
from tests.jobs.factories import JobFactory, hold_for, make_member
from tests.jobs.ready import caller_of

ID = "k3m8v0b5t1rgm0cqy7nsd2w4ez"
HELD = 3_568_500  # 3660 s at $0.000975
BEGAN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def launched(**fields):
    """A job of which the provider was asked for a prediction."""
    job = JobFactory(**({"state": State.UPLOADING, "started_at": None} | fields))
    hold_for(job, micros=HELD)
    LaunchIntent.objects.create(job=job, version="v", first_call_at=timezone.now(), called_at=timezone.now())
    return job


def said(status, *, seconds=None, **fields):
    """A prediction as Replicate sends it."""
    body = {"id": ID, "status": status, "version": "v", "created_at": BEGAN.isoformat(), "input": {}} | fields
    if seconds is not None:
        body["metrics"] = {"predict_time": seconds, "total_time": seconds + 60}
    return predictions.parse(body)


def now_of(job):
    return Job.objects.select_related("hold").get(pk=job.pk)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("starting", "queued"),
        ("processing", "running"),
        ("succeeded", "completed"),
        ("failed", "failed"),
        ("canceled", "cancelled"),
        ("aborted", "cancelled"),
        (" Error ", "failed"),
    ],
)
def test_each_of_the_providers_words_has_one_state_of_ours(status, state):
    job = launched()

    progress.record(job, said(status, seconds=1 if state in TERMINAL else None), cause="webhook")

    assert now_of(job).state == state
    assert job.events.get().cause == "webhook"


@pytest.mark.django_db
def test_a_whole_life_is_told_with_the_providers_own_times():
    job = launched()
    started, ended = BEGAN + timedelta(minutes=3), BEGAN + timedelta(minutes=13)

    progress.record(job, said("starting"), cause="launch")
    progress.record(job, said("processing", started_at=started.isoformat()), cause="webhook")
    progress.record(
        job,
        said(
            "succeeded", seconds=600, started_at=started.isoformat(), completed_at=ended.isoformat(), output=["x", "https://e.x/a"], logs=""
        ),
        cause="poll",
    )

    job = now_of(job)
    assert (job.created_at_provider, job.queued_at, job.started_at, job.ended_at) == (BEGAN, BEGAN, started, ended)
    assert (job.billed_seconds, job.cost, job.hold.charge, job.output_url) == (600, 585_000, 585_000, "https://e.x/a")
    assert list(job.events.values_list("state", "cause")) == [("queued", "launch"), ("running", "webhook"), ("completed", "poll")]
    assert job.archived_at is not None
    assert AuditLine.objects.get(event_type="job.completed").after == {"charge": 585_000, "cause": "poll", "flag": ""}


@pytest.mark.django_db
def test_a_job_may_jump_to_its_end():
    job = launched()

    progress.record(job, said("succeeded", seconds=10, started_at=BEGAN.isoformat()), cause="poll")

    job = now_of(job)
    assert (job.state, job.queued_at, job.started_at) == ("completed", BEGAN, BEGAN)


@pytest.mark.django_db
def test_old_news_does_not_reopen_a_job():
    job = launched()
    progress.record(job, said("failed", seconds=10, error="CUDA out of memory"), cause="webhook")
    before = Job.objects.values().get(pk=job.pk)

    for late in ("starting", "processing", "succeeded", "canceled", "failed"):
        progress.record(job, said(late, seconds=999), cause="webhook")

    assert Job.objects.values().get(pk=job.pk) == before
    assert list(LedgerLine.objects.order_by("sequence").values_list("kind", "amount")) == [
        ("hold", HELD), ("charge", 9750), ("release", HELD - 9750),
    ]  # fmt: skip


@pytest.mark.django_db
def test_an_unknown_word_keeps_the_state_and_raises_an_event_once():
    job = launched()
    progress.record(job, said("processing"), cause="webhook")

    progress.record(job, said("pondering"), cause="poll")
    progress.record(job, said("pondering"), cause="poll")

    job = now_of(job)
    assert (job.state, job.provider_status) == ("running", "pondering")
    assert [event.detail for event in job.events.filter(state="")] == ["The provider uses a word that we do not know: pondering"]


@pytest.mark.django_db
def test_another_predictions_news_are_not_taken():
    job = launched(prediction_id="a" * 26)

    progress.record(job, said("succeeded", seconds=1, logs="somebody else's"), cause="webhook")
    progress.hear(job, said("processing", logs="somebody else's"), now=timezone.now())

    assert (now_of(job).state, now_of(job).prediction_id, logs.read(job)) == ("uploading", "a" * 26, "")


@pytest.mark.django_db
def test_a_job_that_was_never_sent_takes_no_news():
    job = JobFactory(state=State.PENDING, started_at=None)

    progress.record(job, said("processing"), cause="webhook")

    assert (now_of(job).state, now_of(job).prediction_id) == ("pending", None)


@pytest.mark.django_db
def test_news_that_come_before_the_answer_tie_the_job_to_its_prediction():
    job = launched()

    progress.record(job, said("processing"), cause="webhook")

    assert (now_of(job).prediction_id, job.intent.__class__.objects.get().outcome) == (ID, "created")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "asked", "error"),
    [
        ({"deadline": "2026-11-23T12:10:00Z"}, False, ending.AT_THE_CEILING),
        ({"deadline": "2026-11-23T12:10:00Z"}, True, ""),
        ({"deadline": "2026-11-23T12:11:00Z"}, False, ""),
        ({}, False, ""),
    ],
)
def test_a_run_that_its_deadline_stopped_says_so_unless_somebody_had_asked_for_its_end(fields, asked, error):
    job = launched(cancel_requested_at=BEGAN if asked else None)

    progress.record(job, said("canceled", seconds=600, completed_at="2026-11-23T12:10:00.5Z", **fields), cause="poll")

    assert (now_of(job).state, now_of(job).error) == ("cancelled", error)


# --- Money ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("prediction", "charge", "flag"),
    [
        (said("succeeded", seconds=Decimal("0.000001")), 0, ""),
        (said("failed", seconds=Decimal("1000.5")), 975_488, ""),
        (said("canceled", seconds=100), 97_500, ""),
        (said("aborted", seconds=100), 0, ""),
        (said("failed"), 0, ""),
        (said("canceled", completed_at=BEGAN.isoformat()), 0, ""),
        (said("succeeded"), 3_510_000, ending.NO_METRICS),
        (said("failed", data_removed=True), 3_510_000, ending.NO_METRICS),
        (said("failed", started_at=BEGAN.isoformat(), completed_at="2026-11-23T12:10:00Z"), 585_000, ending.FROM_STAMPS),
        (said("failed", started_at=BEGAN.isoformat(), completed_at="2026-11-24T12:10:00Z"), 3_510_000, ending.FROM_STAMPS),
        (said("succeeded", seconds=4000), 3_900_000, "The provider billed more time than the ceiling allows."),
        # Half a micro-dollar goes to the even one: these are 19.5 and 58.5.
        (said("succeeded", seconds=Decimal("0.02")), 20, ""),
        (said("succeeded", seconds=Decimal("0.06")), 58, ""),
        (said("failed", data_removed=True, started_at=BEGAN.isoformat()), 3_510_000, ending.NO_METRICS),
        # The end before the beginning, and more time than any run can have: no figures to charge by.
        (said("failed", started_at=BEGAN.isoformat(), completed_at="2026-11-23T11:00:00Z"), 3_510_000, ending.NO_METRICS),
        (said("succeeded", seconds=Decimal("1e12")), 3_510_000, ending.NO_TIME),
    ],
)
def test_what_a_run_costs_by_what_the_provider_says_of_it(prediction, charge, flag):
    job = launched(ceiling_seconds=3600)

    progress.record(job, prediction, cause="poll")

    job = now_of(job)
    assert (job.cost, job.hold.charge, job.hold.flag) == (charge, charge, flag)
    assert job.hold.needs_a_look == bool(flag)
    lines = dict(job.hold.lines.values_list("kind", "amount"))
    assert lines["hold"] == lines["charge"] + lines["release"] == HELD
    assert lines["charge"] + lines.get("adjust", 0) == charge
    assert ledger.verify(job.team).valid
    if job.hold.billed_seconds is not None:
        assert prices.charge(usd_per_second=job.price_line.usd_per_second, seconds=job.hold.billed_seconds) == charge


@pytest.mark.django_db
def test_hardware_that_is_billed_for_its_whole_time_counts_queue_and_boot():
    line = PriceLineFactory(hardware="gpu-private", billed_time=BilledTime.INSTANCE)
    job = launched(price_line=line)

    progress.record(job, said("succeeded", seconds=100), cause="poll")

    assert (now_of(job).cost, now_of(job).hold.billed_seconds) == (156_000, 160)


@pytest.mark.django_db
def test_hardware_that_is_billed_for_its_whole_time_is_charged_by_its_stamps_from_creation_on():
    job = launched(price_line=PriceLineFactory(hardware="gpu-private", billed_time=BilledTime.INSTANCE))
    started, ended = BEGAN + timedelta(minutes=5), BEGAN + timedelta(minutes=10)

    progress.record(job, said("failed", started_at=started.isoformat(), completed_at=ended.isoformat()), cause="poll")

    assert (now_of(job).cost, now_of(job).hold.flag) == (585_000, ending.FROM_STAMPS)  # 600 s


@pytest.mark.django_db
def test_a_hold_knows_what_the_provider_calls_its_run_and_who_pays_for_it():
    job = launched(credential__account_username="acme")

    progress.record(job, said("starting"), cause="launch")

    hold = now_of(job).hold
    assert (hold.provider_reference, hold.provider_account, hold.billed_seconds) == (ID, "acme", None)


@pytest.mark.django_db
def test_a_run_that_was_lost_is_looked_for_on_the_invoices_of_its_account():
    job = launched(credential__account_username="acme")

    ending.lose(job, cause="search")

    hold = now_of(job).hold
    assert (hold.provider_reference, hold.provider_account, hold.charge, hold.needs_a_look) == ("", "acme", 3_510_000, True)


# --- Archive ----------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("prediction", "is_archived"),
    [
        (said("succeeded", seconds=1, logs="all"), True),
        (said("canceled", logs=None), True),
        (said("succeeded", seconds=1), False),
        (said("processing", logs="so far"), False),
        (said("succeeded", seconds=1, logs="", data_removed=True), False),
    ],
)
def test_a_log_is_archived_when_the_end_showed_the_whole_of_it(prediction, is_archived):
    job = launched()

    progress.record(job, prediction, cause="poll")

    assert (now_of(job).archived_at is not None) == is_archived
    assert (now_of(job).provider_forgot_at is not None) == prediction.data_removed


# --- Logs -------------------------------------------------------------------------------------------------


def test_only_what_is_new_is_written(db):
    job = launched()
    whole = "".join(f"line {number}\n" for number in range(30_000))

    lengths = [logs.append(job, whole[:end]) for end in (10, 1000, 500, 1000, len(whole), len(whole))]

    chunks = list(LogChunk.objects.values_list("start", "text"))
    assert lengths == [10, 990, 0, 0, len(whole) - 1000, 0]
    assert "".join(text for _, text in chunks) == logs.read(job) == whole
    assert sum(len(text) for _, text in chunks) == len(whole)
    assert max(len(text) for _, text in chunks) == logs.CHUNK_CHARACTERS
    assert (job.progress.__class__.objects.get().length, JobProgress.objects.get().lines) == (len(whole), 30_000)


def test_a_log_is_read_from_any_place_on(db):
    job = launched()
    whole = "é" * 70_000 + "end"
    logs.append(job, whole[:100])
    logs.append(job, whole)

    assert [logs.read(job, start=start, limit=limit) for start, limit in ((0, 3), (99, 2), (70_000, None), (80_000, None))] == [
        "ééé", "éé", "end", "",
    ]  # fmt: skip
    assert [line.number for line in logs.last_lines(job, 4)] == [1]


def test_progress_is_understood_as_the_log_grows(db):
    job = launched()
    bar = "Epoch 1/2 Steps:  12%|█▏        | 120/1000 [01:02<07:33,  1.94it/s, lr=1e-05, step_loss=0.12]\n"

    logs.append(job, bar[:40])
    half = JobProgress.objects.get().step
    logs.append(job, bar)

    found = JobProgress.objects.get()
    assert (half, found.step, found.total_steps, found.percent, found.loss) == (None, 120, 1000, 12, 0.12)
    assert list(job.series.values_list("step", "loss")) == [(120, 0.12)]


# --- Any order --------------------------------------------------------------------------------------------

STATUSES = ["starting", "processing", "succeeded", "failed", "canceled", "aborted", "pondering", ""]
LOG = "".join(f"Step {number} of 40\n" for number in range(1, 41))


class Life(RuleBasedStateMachine):
    """One job, to whom the provider and people say things in any order."""

    def __init__(self):
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.job = launched()
        self.lead = caller_of(make_member(self.job, Role.LEAD))
        self.seen = [self.job.state]
        self.length = 0
        self.end = None

    def teardown(self):
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    @rule(
        status=st.sampled_from(STATUSES),
        seconds=st.sampled_from([None, 0, 1, 100, 3600, 5000]),
        length=st.integers(0, len(LOG)),
        started=st.booleans(),
        removed=st.booleans(),
        cause=st.sampled_from(["webhook", "poll"]),
    )
    def provider_says(self, status, seconds, length, started, removed, cause):
        times = {"started_at": BEGAN.isoformat(), "completed_at": (BEGAN + timedelta(minutes=1)).isoformat()} if started else {}
        news = said(status, seconds=seconds, logs=LOG[:length], data_removed=removed, **times)
        progress.record(self.job, news, cause=cause)

    @rule(status=st.sampled_from(STATUSES))
    def somebody_else_says(self, status):
        if now_of(self.job).prediction_id:
            progress.record(self.job, said(status, id="z" * 26, seconds=7, logs="other"), cause="webhook")

    @rule()
    def a_lead_cancels(self):
        try:
            cancelling.cancel(self.job, caller=self.lead)
        except InvalidJobState:
            assert now_of(self.job).state in {State.COMPLETED, State.FAILED}

    @rule()
    def the_search_gives_up(self):
        if now_of(self.job).prediction_id is None:
            ending.lose(self.job, cause="search")

    @invariant()
    def states_move_forward_and_an_end_is_an_end(self):
        order = [State.UPLOADING, State.QUEUED, State.RUNNING]
        job = now_of(self.job)
        if self.end:
            assert (job.state, job.cost, job.hold.charge, job.hold.flag, job.ended_at) == self.end
        elif job.state in TERMINAL:
            self.end = (job.state, job.cost, job.hold.charge, job.hold.flag, job.ended_at)
        else:
            assert order.index(State(job.state)) >= order.index(State(self.seen[-1]))
        self.seen.append(job.state)

    @invariant()
    def money_is_settled_once_and_only_at_the_end(self):
        lines = list(LedgerLine.objects.filter(team=self.job.team).order_by("sequence"))
        kinds = [line.kind for line in lines if line.kind != "adjust"]
        job = now_of(self.job)
        assert kinds == (["hold", "charge", "release"] if job.state in TERMINAL else ["hold"])
        if job.state in TERMINAL:
            assert lines[1].amount + lines[2].amount == job.hold.amount == HELD
            assert sum(line.amount for line in lines[1:] if line.kind != "release") == job.cost == job.hold.charge
            assert job.cost <= HELD or job.hold.flag

    @invariant()
    def the_log_only_grows_and_is_the_providers(self):
        text = logs.read(self.job)
        assert len(text) >= self.length
        assert LOG.startswith(text)
        self.length = len(text)


def test_no_order_of_sayings_leaves_an_end_or_pays_twice(db):
    run_state_machine_as_test(Life, settings=hypothesis_settings(max_examples=30, stateful_step_count=15, deadline=None))
