"""A provider that does not answer is left alone for a while; jobs wait, and nothing that saves money does."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
import time_machine
from django.db import OperationalError, connection
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditLine, CredentialKind
from jobs.models import Breaker, Job, ProviderSettings
from jobs.models.breakers import BreakerState
from jobs.outbound import Reason, Trouble
from jobs.replicate.gateway import CreditExhausted, OutcomeUnknown, Rejected, Retries, Unauthorized, Unavailable
from jobs.services import breakers, cancelling, launching, polling, provider, stopping
from jobs.services.dispatch import dispatch
from tests.billing.factories import race
from tests.factories import CredentialFactory, MembershipFactory, UserFactory, make_token
from tests.jobs.ready import caller_of, make_ready
from tests.jobs.sandbox.servers import free_port
from tests.signing_in import sign_in

ADDRESS = "https://provider.example"
AWAY = Unavailable("away", trouble=Trouble(Reason.REFUSED, host="provider.example"))
ONCE = Retries(attempts=1)


@pytest.fixture
def credential(db):
    return CredentialFactory()


@pytest.fixture
def way(credential):
    """One call after another by the credential's breaker: each with the error in which it ends, None for an answer."""

    def call(*ends, is_urgent=False, of=credential, address=ADDRESS):
        for end in ends:
            watcher = breakers.Watcher(of, address=address, is_urgent=is_urgent)
            watcher.before()
            watcher.after(end)

    return call


def state():
    return Breaker.objects.get().state


@pytest.fixture
def opened(way):
    """A breaker that has just opened."""
    way(*[AWAY] * 5)
    return Breaker.objects.get()


def test_five_failures_in_a_row_open_it_and_nothing_goes_out_any_more(way):
    way(*[AWAY] * 4)
    before = state()
    way(AWAY)

    with pytest.raises(Unavailable, match="left alone") as closed_door:
        way(None)

    assert (before, state()) == ("closed", "open")
    assert 0 < closed_door.value.retry_after <= 30


def test_an_answer_in_between_begins_the_count_anew(way):
    way(*[AWAY] * 4, None, *[AWAY] * 4)

    assert (state(), Breaker.objects.get().failures) == ("closed", 4)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (AWAY, True),
        (Unavailable("x", trouble=Trouble(Reason.TIMEOUT)), True),
        (Unavailable("x", status=503), True),
        (OutcomeUnknown("x", status=500), True),
        (OutcomeUnknown("x", trouble=Trouble(Reason.BROKEN)), True),
        (Unavailable("x", status=429), False),
        (Unauthorized("x", status=401), False),
        (CreditExhausted("x", status=402), False),
        (Rejected("x", status=422), False),
        (Unavailable("x", trouble=Trouble(Reason.PROXY_LOGIN)), False),
        (Unavailable("x", trouble=Trouble(Reason.CERTIFICATE)), False),
        (OutcomeUnknown("an answer that cannot be read"), False),
    ],
)
def test_only_what_speaks_of_the_provider_counts(way, error, counts):
    way(*[error] * 5)

    assert Breaker.objects.filter(state="open").exists() == counts


def test_a_healthy_way_writes_nothing(way, django_assert_num_queries):
    with django_assert_num_queries(1):
        way(None)

    assert not Breaker.objects.exists()


def test_after_its_rest_two_answers_close_it(way, opened):
    with time_machine.travel(opened.opened_at + timedelta(seconds=31)):
        way(None)
        half = state()
        way(None)

    closed = Breaker.objects.get()
    assert (half, closed.state, closed.failures, closed.opened_at) == ("half_open", "closed", 0, None)


def test_a_failed_trial_opens_it_again_for_another_rest(way, opened):
    later = opened.opened_at + timedelta(seconds=31)
    with time_machine.travel(later, tick=False):
        way(AWAY)

    again = Breaker.objects.get()
    assert (again.state, again.opened_at) == ("open", later)


def test_another_kind_of_provider_rests_a_minute(way, db):
    rehearsal = CredentialFactory(kind=CredentialKind.SANDBOX)
    way(*[AWAY] * 5, of=rehearsal)
    row = Breaker.objects.get()

    with time_machine.travel(row.opened_at + timedelta(seconds=59), tick=False), pytest.raises(Unavailable):
        way(None, of=rehearsal)
    with time_machine.travel(row.opened_at + timedelta(seconds=61)):
        way(None, of=rehearsal)

    assert state() == "half_open"


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_tries_after_the_rest():
    credential = CredentialFactory()
    rested = timezone.now() - timedelta(seconds=31)
    Breaker.objects.create(address=ADDRESS, credential=credential, state=BreakerState.OPEN, failures=5, opened_at=rested)

    outcomes = race(lambda number: breakers.Watcher(credential, address=ADDRESS, is_urgent=False).before(), times=8)

    assert sorted(type(each).__name__ for each in outcomes) == ["NoneType", *["Unavailable"] * 7]


def test_a_trial_whose_worker_died_is_over_after_a_while(opened, credential):
    later = opened.opened_at + timedelta(seconds=31)
    with time_machine.travel(later):
        breakers.Watcher(credential, address=ADDRESS, is_urgent=False).before()
        with pytest.raises(Unavailable):
            breakers.Watcher(credential, address=ADDRESS, is_urgent=False).before()
    with time_machine.travel(later + timedelta(seconds=61)):
        breakers.Watcher(credential, address=ADDRESS, is_urgent=False).before()


def test_another_credential_and_another_address_have_breakers_of_their_own(way, opened):
    way(None, of=CredentialFactory())
    way(None, address="https://elsewhere.example")


def test_an_urgent_call_goes_out_all_the_same_and_its_answer_counts(way, opened):
    way(AWAY, is_urgent=True)
    still = state()
    way(None, None, is_urgent=True)

    assert (still, Breaker.objects.get().state) == ("open", "closed")


def test_what_cannot_be_counted_is_no_reason_to_fail(credential):
    watcher = breakers.Watcher(credential, address=ADDRESS, is_urgent=False)
    watcher.before()

    def refuse(execute, sql, params, many, context):
        raise OperationalError("gone")

    with connection.execute_wrapper(refuse):
        watcher.after(AWAY)

    assert not Breaker.objects.exists()


# --- At its places ----------------------------------------------------------------------------------------


@pytest.fixture
def away(at_provider, settings):
    """The address of a provider that is not there, whose breaker for the team's credential is open."""
    settings.REPLICATE_BASE_URL = f"http://127.0.0.1:{free_port()}"
    now = timezone.now()
    Breaker.objects.create(
        address=settings.REPLICATE_BASE_URL, credential=at_provider.credential, state=BreakerState.OPEN, failures=5, opened_at=now
    )
    return settings.REPLICATE_BASE_URL


def failures():
    return Breaker.objects.get().failures


def test_a_job_waits_without_a_call_and_goes_on_when_the_breaker_lets_it(at_provider, account, settings, fresh, away):
    job = at_provider.submit()
    dispatch()

    launching.launch(fresh(job))
    waiting = fresh(job)
    settings.REPLICATE_BASE_URL = account.sandbox.url
    Breaker.objects.update(address=account.sandbox.url, opened_at=timezone.now() - timedelta(seconds=31))
    Job.objects.update(try_after=None)
    launching.launch(fresh(job))

    assert (waiting.state, waiting.waiting_reason, hasattr(waiting, "intent")) == ("uploading", "provider_down", False)
    assert 20 < (waiting.try_after - timezone.now()).total_seconds() <= 30
    assert (fresh(job).prediction_id is not None, state()) == (True, "closed")


def test_a_submission_is_admitted_while_it_is_open(at_provider, away):
    answer = at_provider.post({"config_name_to_load": "flux-lora"})

    assert (answer.status_code, answer.json()["status"], failures()) == (200, "pending", 5)


@pytest.fixture
def running(at_provider, account, fresh):
    account.rule(queue_seconds=1_000_000)
    job = at_provider.submit(max_seconds=3600)
    dispatch()
    launching.launch(fresh(job))
    return fresh(job)


def opens(job):
    way = {"address": provider.address_of(job.credential), "credential": job.credential}
    Breaker.objects.create(**way, state=BreakerState.OPEN, failures=5, opened_at=timezone.now())


def test_a_poll_waits_and_does_no_harm(running, fresh, account):
    opens(running)
    account.http.post(f"/v1/predictions/{running.prediction_id}/cancel")

    polling.poll(fresh(running))
    waiting = fresh(running).state
    Breaker.objects.update(opened_at=timezone.now() - timedelta(seconds=31))
    polling.poll(fresh(running))

    assert (waiting, fresh(running).state) == ("queued", "cancelled")


def test_a_cancel_is_sent_through_an_open_breaker(running, fresh, at_provider):
    opens(running)

    cancelling.cancel(running, caller=at_provider.caller)
    cancelling.send(fresh(running))

    assert fresh(running).state == "cancelled"


def test_the_watchdogs_stop_is_sent_through_an_open_breaker(running, fresh):
    opens(running)
    stopping.watch(now=running.stop_at + timedelta(seconds=1))

    cancelling.send(fresh(running))

    assert fresh(running).state == "cancelled"


def test_a_search_goes_through_an_open_breaker(at_provider, account, fresh):
    account.rule(queue_seconds=1_000_000)
    account.rule(create_answer="reset_after", times=1)
    job = at_provider.submit()
    dispatch()
    launching.launch(fresh(job))
    doubtful = fresh(job)
    Breaker.objects.update(state=BreakerState.OPEN, opened_at=timezone.now())
    Job.objects.update(try_after=None)

    launching.launch(fresh(job))

    assert (doubtful.waiting_reason, fresh(job).state, fresh(job).intent.outcome) == ("uncertain", "queued", "adopted")


def test_a_person_who_validates_a_token_is_answered(at_provider, running):
    opens(running)

    validation = provider.validate(at_provider.caller)

    assert validation.valid


def ask(team, credential):
    """Ask a provider that is not there whose token it is, once."""
    with provider.gateway(team=team, credential=credential, retries=ONCE) as replicate, pytest.raises(Unavailable):
        replicate.account()


def test_a_provider_that_goes_away_opens_it_by_the_calls_themselves(at_provider, settings):
    settings.REPLICATE_BASE_URL = f"http://127.0.0.1:{free_port()}"

    for _ in range(5):
        ask(at_provider.team, at_provider.credential)

    assert (state(), failures()) == ("open", 5)


def test_a_team_that_goes_its_own_way_does_not_close_the_shared_credential_for_others(at_provider, settings):
    settings.REPLICATE_BASE_URL = f"http://127.0.0.1:{free_port()}"
    shared = CredentialFactory(team=None)
    ProviderSettings.objects.create(team=at_provider.team, http_timeout="0.01")

    for _ in range(5):
        ask(at_provider.team, shared)

    assert not Breaker.objects.exists()


# --- Shown ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/cloud/circuit-breakers", "/api/metrics/circuit-breakers/"])
def test_a_caller_sees_the_breakers_of_the_credentials_that_they_may_use(ready, settings, path):
    settings.SHARE_INSTALLATION_CREDENTIALS = True
    at = settings.REPLICATE_BASE_URL
    colleague = MembershipFactory(team=ready.team)
    own, shared = CredentialFactory(team=ready.team, user=ready.member.user), CredentialFactory(team=None)
    CredentialFactory(team=ready.team, user=colleague.user)
    make_ready()  # another team with a credential of its own
    opened_at = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    failed = {"state": BreakerState.OPEN, "failures": 5, "opened_at": opened_at, "last_failure_at": opened_at, "last_failure": "r8_secret"}
    Breaker.objects.create(address=at, credential=ready.credential, **failed)

    with time_machine.travel(opened_at + timedelta(seconds=10), tick=False):
        # Not by token: tokens are older than this moment.
        shown = [row for row in breakers.of_caller(ready.caller) if row.pk]
        left = shown[0].seconds_left(timezone.now())
    answer = ready.get(path).json()

    assert (len(shown), left) == (1, 20.0)
    assert list(answer) == ["circuit_breakers", "total"]
    assert {row["name"] for row in answer["circuit_breakers"]} == {f"replicate-{each.pk}" for each in (ready.credential, own, shared)}
    assert answer["total"] == 3
    [first] = [row for row in answer["circuit_breakers"] if row["failure_count"]]
    assert {name: first[name] for name in ("state", "success_count", "last_failure")} == {
        "state": "open" if timezone.now() < opened_at + timedelta(seconds=30) else "half_open",
        "success_count": 0,
        "last_failure": opened_at.timestamp(),
    }
    assert "r8_" not in ready.get(path).content.decode()


def test_staff_close_one_now_and_the_audit_trail_knows(client, opened):
    sign_in(client, UserFactory(is_staff=True, is_superuser=True))
    page = reverse("admin:jobs_breaker_changelist")

    client.post(page, {"action": "close_now", "_selected_action": [opened.pk]})

    line = AuditLine.objects.get(event_type="breaker.closed")
    assert (state(), line.team, line.target_id) == ("closed", opened.credential.team, opened.name)
    assert client.get(page).status_code == httpx.codes.OK


def test_staff_who_are_no_superusers_only_look(client, opened):
    sign_in(client, UserFactory(is_staff=True))

    client.post(reverse("admin:jobs_breaker_changelist"), {"action": "close_now", "_selected_action": [opened.pk]})

    assert (state(), AuditLine.objects.filter(event_type="breaker.closed").exists()) == ("open", False)


def test_a_token_sees_what_its_maker_may_use(ready):
    _, key = make_token(ready.member)

    assert [row.credential for row in breakers.of_caller(caller_of(ready.member))] == [ready.credential]
    assert ready.get("/api/cloud/circuit-breakers", key=key).json()["total"] == 1
