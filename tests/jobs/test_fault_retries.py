"""The team's rule that runs a job again which a fault of the provider's platform ended: once for each job, within a number."""

import pytest
from django.utils import timezone

from accounts.models import APIToken, AuditLine, Membership
from accounts.roles import Role
from billing.models import Hold, LimitScope
from jobs import tasks
from jobs.models import FaultRetry, Job, LaunchIntent, ProviderSettings
from jobs.replicate import predictions
from jobs.services import cancelling, progress, retrying
from jobs.states import State
from tests.billing.factories import USD, SpendLimitFactory, race
from tests.factories import make_token
from tests.jobs.ready import make_ready

FAULT = "Prediction interrupted; please retry (code: PA)"


@pytest.fixture
def rule(ready):
    """Let the team's platform faults be retried twice."""
    return ProviderSettings.objects.create(team=ready.team, data_consent="allow", retries_platform_faults=2)


def at_work(job):
    """Let the provider have the job, as its prediction would say."""
    Job.objects.filter(pk=job.pk).update(state=State.UPLOADING)
    now = timezone.now()
    LaunchIntent.objects.create(job=job, version="v", first_call_at=now, called_at=now)
    return Job.objects.get(pk=job.pk)


def end(job, *, error=FAULT, status="failed"):
    """The provider says that the job's run has ended so."""
    said = {"id": f"p-{job.job_id}", "status": status, "error": error, "metrics": {"predict_time": 3}}
    progress.record(at_work(job), predictions.parse(said), cause="poll")
    return Job.objects.get(pk=job.pk)


def sweep():
    """What the sweep would do now."""
    return [retrying.decide(fault) for fault in retrying.due()]


def remarks(job):
    return list(job.events.filter(cause="rule", state="").values_list("detail", flat=True))


def test_a_platform_fault_makes_one_new_job_for_the_same_person(ready, rule):
    failed = end(ready.submit(run_name="night"))

    [again] = sweep()

    assert (failed.state, failed.error, again.state, again.parent, again.link) == ("failed", FAULT, "pending", failed, "retry")
    assert (again.submitted_by, again.config, again.run_name) == (failed.submitted_by, failed.config, "night")
    assert (again.ceiling_seconds, again.hold.amount) == (failed.ceiling_seconds, failed.hold.amount)
    assert remarks(failed) == [f"Retried automatically as {again.job_id} (1 of 2)."]
    line = AuditLine.objects.get(event_type="job.retried")
    assert (line.target_id, line.action.startswith("By the rule for platform faults: ")) == (again.job_id, True)
    assert sweep() == []


def test_the_sweep_rings_for_what_is_not_decided(ready, rule, monkeypatch):
    failed = end(ready.submit())
    rung = []
    for task in (tasks.retry_fault, tasks.archive):
        monkeypatch.setattr(task, "delay", lambda **given: rung.append(given))

    tasks.sweep()
    tasks.retry_fault(fault_pk=failed.fault_retry.pk)

    assert {"fault_pk": failed.fault_retry.pk} in rung
    assert FaultRetry.objects.get().retry is not None


def test_a_chain_of_retries_ends_at_the_rules_number(ready, rule):
    failed = end(ready.submit())
    chain = [failed]
    while made := [job for job in sweep() if job]:
        chain.append(end(made[0]))

    assert len(chain) == 3
    assert remarks(chain[1]) == [f"Retried automatically as {chain[2].job_id} (2 of 2)."]
    assert remarks(chain[2]) == ["Not retried automatically: The team's rule allows 2 automatic retries of a job, and this was number 2."]
    assert Job.objects.count() == 3


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("Out of memory (E1001)", "failed"),
        ("CUDA out of memory. Tried to allocate 1.50 GiB.", "failed"),
        ("The webhook's address was empty (E4875)", "failed"),
        ("No images were discovered", "failed"),
        ("Prediction interrupted (code: PA)", "canceled"),
    ],
)
def test_what_is_no_fault_of_the_platform_is_not_retried(ready, rule, error, status):
    end(ready.submit(), error=error, status=status)

    assert (sweep(), FaultRetry.objects.count()) == ([], 0)


@pytest.mark.parametrize("code", sorted(predictions.RETRYABLE_FAULTS))
def test_every_fault_that_may_pass_is_retried(ready, rule, code):
    end(ready.submit(), error=f"The platform failed ({code})")

    assert len(sweep()) == 1


def test_without_a_rule_nothing_happens(ready):
    end(ready.submit())

    assert (sweep(), FaultRetry.objects.count()) == ([], 0)


def test_a_job_that_somebody_cancelled_is_not_run_again(ready, rule):
    job = at_work(ready.submit())
    cancelling.cancel(job, caller=ready.caller)
    LaunchIntent.objects.all().delete()

    end(job)

    assert sweep() == []


def test_a_retry_that_a_limit_refuses_is_told_once_with_the_reason(ready, rule):
    failed = end(ready.submit())
    SpendLimitFactory(scope=LimitScope.TEAM, team=ready.team, amount=1 * USD)

    assert sweep() == [None]
    assert sweep() == []

    [remark] = remarks(failed)
    assert remark.startswith("Not retried automatically: ")
    assert "limit" in remark
    assert (Job.objects.count(), Hold.objects.open().count()) == (1, 0)
    assert AuditLine.objects.filter(event_type="quota.exceeded").count() == 1


def leaves(ready):
    Membership.objects.filter(pk=ready.member.pk).delete()


def may_only_look(ready):
    Membership.objects.filter(pk=ready.member.pk).update(role=Role.VIEWER)


def is_shut_out(ready):
    type(ready.member.user).objects.filter(pk=ready.member.user.pk).update(is_active=False)


@pytest.mark.parametrize("change", [leaves, may_only_look, is_shut_out])
def test_for_who_may_not_submit_any_more_nothing_is_run(ready, rule, change):
    failed = end(ready.submit())
    change(ready)

    assert sweep() == [None]
    assert remarks(failed) == [f"Not retried automatically: {ready.member.user.username} may not submit jobs in this team any more."]
    assert Job.objects.count() == 1


def test_a_suspended_team_runs_nothing_again(ready, rule):
    failed = end(ready.submit())
    type(ready.team).objects.filter(pk=ready.team.pk).update(suspended_at=timezone.now())

    assert sweep() == [None]
    assert "suspended" in remarks(failed)[0]


def test_a_tokens_job_is_run_again_by_the_token_as_long_as_it_works(ready, rule):
    token, key = make_token(ready.member)
    job_ids = [ready.post({"config_name_to_load": "flux-lora"}, key=key).json()["job_id"] for _ in range(2)]
    first, second = (Job.objects.get(job_id=job_id) for job_id in job_ids)

    end(first)
    [again] = sweep()
    end(second)
    APIToken.objects.filter(pk=token.pk).update(revoked_at=timezone.now())

    assert again.token == token
    assert sweep() == [None]
    assert remarks(second) == [f"Not retried automatically: The token {token.name} does not work any more."]


def test_whoever_was_faster_than_the_rule_has_run_it_again(ready, rule):
    failed = end(ready.submit())
    by_hand = retrying.retry(failed, caller=ready.caller).job

    assert sweep() == [None]
    assert remarks(failed) == ["Not retried automatically: Somebody has run it again already."]
    assert set(Job.objects.all()) == {failed, by_hand}


def test_a_rule_that_was_switched_off_meanwhile_runs_nothing(ready, rule):
    failed = end(ready.submit())
    ProviderSettings.objects.update(retries_platform_faults=0)

    assert sweep() == [None]
    assert remarks(failed) == ["Not retried automatically: The team's rule is switched off."]


def test_a_worker_that_dies_while_it_decides_leaves_the_decision_to_the_next(ready, rule, monkeypatch):
    end(ready.submit())

    def die(*_, **__):
        raise RuntimeError("killed")

    with monkeypatch.context() as dying:
        dying.setattr(FaultRetry, "save", die)
        with pytest.raises(RuntimeError):
            sweep()
    left = Job.objects.count()

    assert (left, len(sweep()), Job.objects.count()) == (1, 1, 2)


@pytest.mark.django_db(transaction=True)
def test_many_workers_make_one_retry_of_a_job(no_provider):
    ready = make_ready()
    ProviderSettings.objects.create(team=ready.team, data_consent="allow", retries_platform_faults=3)
    faults = [end(ready.submit()).fault_retry for _ in range(3)]

    outcomes = race(lambda number: retrying.decide(FaultRetry.objects.get(pk=faults[number % 3].pk)), times=18)

    assert [each for each in outcomes if isinstance(each, Exception)] == []
    assert sorted(job.parent_id for job in outcomes if job) == sorted(fault.job_id for fault in faults)
    assert Job.objects.count() == 6


def test_the_timeline_of_both_jobs_tells_of_it(ready, rule, client):
    failed = end(ready.submit())
    [again] = sweep()
    client.force_login(ready.member.user)

    pages = [client.get(job.get_absolute_url()).content.decode() for job in (failed, again)]

    assert f"Retried automatically as {again.job_id} (1 of 2)." in pages[0]
    assert failed.job_id in pages[1]
