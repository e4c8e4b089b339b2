"""Submitting a job: what is asked for, what is refused and how, and that a refusal leaves nothing."""

import json
import threading
from datetime import timedelta

import pytest
import time_machine
from django.apps import apps
from django.utils import timezone

from accounts.models import AuditHead, AuditLine, Credential
from accounts.roles import Role, Scope
from billing.models import Hold, LedgerLine
from jobs.models import Dataset, IdempotencyKey, Job, ProviderSettings, QueueSettings, TrainingConfig
from jobs.models.admission import QueueMode
from jobs.services import dispatch, submission
from jobs.services.repeats import Repeat
from jobs.specs import JobSpec
from tests.billing.factories import USD, SpendLimitFactory, race
from tests.factories import MembershipFactory, TeamFactory, make_token
from tests.jobs.ready import CONFIG, DATASET, NAMED, SUBMIT, make_ready, post

TEN = [
    "success", "job_id", "status", "error", "data_uploaded", "upload_id",
    "cost_limit_warning", "quota_warnings", "idempotent_hit", "requires_approval",
]  # fmt: skip
NAMED_BODY = {"config_name_to_load": NAMED}
INLINE = {"config": CONFIG, "config_name": "inline", "dataset": DATASET}


def rows():
    """How many rows every table of ours has, but for the audit trail."""
    ours = [model for label in ("accounts", "billing", "jobs", "webhooks") for model in apps.get_app_config(label).get_models()]
    return {model.__name__: model._default_manager.count() for model in ours if model not in (AuditLine, AuditHead)}


def test_a_submission_answers_the_ten_fields_at_once(ready):
    answer = ready.post({**NAMED_BODY, "tracker_run_name": "spring", "upload_id": "8c6a", "snapshot_name": "v1"})

    job = Job.objects.get()
    said = answer.json()
    assert (answer.status_code, sorted(said)) == (200, sorted(TEN))
    assert said == {
        "success": True, "job_id": job.job_id, "status": "pending", "error": None, "data_uploaded": False, "upload_id": "8c6a",
        "cost_limit_warning": None, "quota_warnings": [], "idempotent_hit": False, "requires_approval": False,
    }  # fmt: skip
    assert (job.state, job.team, job.submitted_by, job.run_name) == ("pending", ready.team, ready.member.user, "spring")
    assert (job.dataset_version, job.packing_path, job.destination) == (ready.version, "archive", "local")
    assert job.metadata == {"snapshot": {"name": "v1", "message": ""}}


def test_an_admitted_job_holds_the_most_that_it_can_cost_and_leaves_its_trace(ready):
    ready.post({**NAMED_BODY, "max_seconds": 3600})

    job = Job.objects.select_related("hold").get()
    # One minute beyond the ceiling, since cancelling takes the provider a moment that is billed.
    assert (job.ceiling_seconds, job.stop_after_seconds, job.hold.amount) == (3600, 3600, round(3660 * 0.000975 * USD))
    assert (job.hold.reference, job.hold.settled_at) == (f"job:{job.job_id}", None)
    assert list(LedgerLine.objects.values_list("kind", "amount", "reference")) == [("hold", job.hold.amount, f"job:{job.job_id}")]
    assert list(job.events.values_list("state", "cause")) == [("pending", "submit")]
    line = AuditLine.objects.get(event_type="job.submitted")
    assert (line.target_id, line.actor, line.token_prefix) == (job.job_id, ready.member.user.username, ready.key[:11])


@pytest.mark.parametrize(
    "path", [SUBMIT, SUBMIT + "/", SUBMIT + "?provider=replicate", "/api/cloud/replicate/submit", "/api/cloud/replicate/submit/"]
)
def test_every_documented_path_takes_a_submission(ready, path):
    answer = ready.post(NAMED_BODY, path=path)

    assert (answer.status_code, answer.json()["status"]) == (200, "pending")


@pytest.mark.parametrize("headers", [{"X_API_Key": "{key}"}, {"Authorization": "Bearer {key}"}, {"Authorization": "ApiKey {key}"}])
def test_a_token_comes_in_any_of_the_documented_headers(ready, headers):
    answer = post(SUBMIT, NAMED_BODY, **{name: value.format(key=ready.key) for name, value in headers.items()})

    assert answer.status_code == 200


def test_json_is_read_whatever_the_content_type_says(ready, client):
    headers = {"Authorization": f"Bearer {ready.key}"}

    answer = client.post(SUBMIT, json.dumps(NAMED_BODY), content_type="application/x-www-form-urlencoded", headers=headers)

    assert answer.status_code == 200


def test_hosted_data_needs_no_dataset(ready):
    hosted = [{"id": "cats", "type": "huggingface", "dataset_name": "acme/cats", "caption_strategy": "huggingface"}]

    answer = ready.post({"config": CONFIG, "dataloader_config": hosted})

    job = Job.objects.get()
    assert (answer.status_code, job.packing_path, job.dataloader, job.dataset_version) == (200, "hosted", hosted, None)


def test_an_inline_config_keeps_its_numbers_and_its_name(ready):
    with_dashes = {f"--{key}": value for key, value in CONFIG.items()} | {"--learning_rate": 1e-4}

    answer = ready.post({**INLINE, "config": with_dashes})

    job = Job.objects.get()
    assert answer.status_code == 200
    assert (job.config_name, job.config["learning_rate"], job.config["max_train_steps"]) == ("inline", 0.0001, 20)


def test_a_version_of_a_dataset_can_be_named(ready):
    answer = ready.post({**NAMED_BODY, "dataset": f"{DATASET}@1"})

    assert (answer.status_code, Job.objects.get().dataset_version) == (200, ready.version)


@pytest.mark.parametrize("profile", ["h100", " H100 ", "1xH100", "1x-h100", "h100-x1", "advanced_trainer_h100", "advanced-trainer-h100"])
def test_a_hardware_profile_has_several_spellings(ready, profile):
    answer = ready.post({**NAMED_BODY, "hardware_profile": profile})

    assert (answer.status_code, Job.objects.get().trainer.profile) == (200, "h100")


def _no_credential(ready):
    Credential.objects.all().delete()


def _foreign_dataset(ready):
    other = make_ready()
    Dataset.objects.filter(pk=other.version.dataset.pk).update(name="foreign")
    assert Dataset.objects.filter(name="foreign").exists()


def _foreign_config(ready):
    TrainingConfig.objects.create(team=TeamFactory(), name="foreign", config=CONFIG)


def _denied(ready):
    ProviderSettings.objects.create(team=ready.team, data_consent="deny")


REFUSED = {
    "unknown config key": (
        {**INLINE, "config": CONFIG | {"lerning_rate": 1}},
        400,
        "invalid_config",
        "Unknown config key 'lerning_rate'. Did you mean 'learning_rate'?",
        "config.lerning_rate",
    ),
    "wrong type of a config key": (
        {**INLINE, "config": CONFIG | {"max_train_steps": "many"}},
        400,
        "invalid_config",
        "'max_train_steps' must be a whole number such as 100, but the text \"many\" was given.",
        "config.max_train_steps",
    ),
    "a secret in the config": (
        {**INLINE, "config": CONFIG | {"hub_token": "hf_abcdefghijkl"}},
        400,
        "invalid_config",
        None,
        "config.hub_token",
    ),
    "wrong type of the config": (
        {"config": "flux"},
        400,
        "invalid_input",
        None,
        "config",
    ),
    "wrong type of a field": (
        {**NAMED_BODY, "tracker_run_name": {"a": 1}},
        400,
        "invalid_input",
        None,
        "tracker_run_name",
    ),
    "no config": (
        {},
        400,
        "invalid_config",
        "No configuration provided.",
        None,
    ),
    "unknown config name": (
        {"config_name_to_load": "nope"},
        404,
        "config_not_found",
        "Config not found: nope",
        "config_name_to_load",
    ),
    "another team's config": (
        {"config_name_to_load": "foreign"},
        404,
        "config_not_found",
        "Config not found: foreign",
        "config_name_to_load",
    ),
    "no dataset": (
        {"config": CONFIG},
        422,
        "no_dataset",
        "The job has no dataset.",
        "dataset",
    ),
    "only local data": (
        {"config": CONFIG, "dataloader_config": [{"id": "x", "type": "local"}]},
        422,
        "no_dataset",
        "A dataloader of type 'local' finds no data at the provider.",
        "dataloader_config",
    ),
    "keys in the dataloader": (
        {"config": CONFIG, "dataloader_config": [{"id": "x", "type": "aws", "aws_secret_access_key": "pLaNtEd"}]},
        400,
        "invalid_input",
        "dataloader_config: A dataloader must not hold keys or tokens: everybody who may see the job at the provider can read it. "
        "Upload the images as a dataset, or name a place that needs no key.",
        "dataloader_config",
    ),
    "unknown dataset": (
        {**NAMED_BODY, "dataset": "nope"},
        404,
        "not_found",
        "Dataset not found: nope",
        "dataset",
    ),
    "unknown version": (
        {**NAMED_BODY, "dataset": f"{DATASET}@99999999999999999999"},
        404,
        "not_found",
        None,
        "dataset",
    ),
    "no number behind the @": (
        {**NAMED_BODY, "dataset": f"{DATASET}@x"},
        404,
        "not_found",
        f"Dataset not found: {DATASET}@x",
        "dataset",
    ),
    "another team's dataset": (
        {**NAMED_BODY, "dataset": "foreign"},
        404,
        "not_found",
        "Dataset not found: foreign",
        "dataset",
    ),
    "no credential": (
        NAMED_BODY,
        409,
        "missing_token",
        "REPLICATE_API_TOKEN not set",
        None,
    ),
    "consent denied": (
        NAMED_BODY,
        409,
        "consent_denied",
        "The team does not allow its data to be uploaded.",
        None,
    ),
    "no destination": (
        NAMED_BODY,
        422,
        "no_destination",
        "The result has no destination, and the trainer's own copy is gone when the run ends.",
        "destination",
    ),
    "unknown destination": (
        {**NAMED_BODY, "destination": "moon"},
        400,
        "invalid_input",
        "Unknown destination 'moon'. Valid ones: local, hub, s3.",
        "destination",
    ),
    "no token for the Hub": (
        {**NAMED_BODY, "hub_model_id": "acme/lora"},
        422,
        "no_destination",
        None,
        "hub_model_id",
    ),
    "unknown hardware": (
        {**NAMED_BODY, "hardware_profile": "a100"},
        400,
        "invalid_input",
        None,
        "hardware_profile",
    ),
    "ceiling beyond a day": (
        {**NAMED_BODY, "max_seconds": 86_401},
        400,
        "invalid_input",
        "max_seconds must lie between 60 and 86400.",
        "max_seconds",
    ),
    "not JSON": (
        "{",
        400,
        "invalid_payload",
        None,
        None,
    ),
    "NaN": (
        '{"config": {"learning_rate": NaN}}',
        400,
        "invalid_payload",
        None,
        None,
    ),
    "endlessly nested": (
        "[" * 100_000,
        400,
        "invalid_payload",
        None,
        None,
    ),
    "a list": (
        "[1]",
        400,
        "invalid_input",
        "The body must be a JSON object.",
        None,
    ),
    "a character that no database keeps": (
        '{"config_name_to_load": "a\\u0000b"}',
        400,
        "invalid_payload",
        None,
        None,
    ),
    "half a character": (
        '{"config_name_to_load": "a\\ud800b"}',
        400,
        "invalid_payload",
        None,
        None,
    ),
    "somebody else's webhook": (
        {**NAMED_BODY, "webhook_url": "https://elsewhere.example"},
        400,
        "invalid_config",
        "webhook_url must be the public address of this server.",
        "webhook_url",
    ),
    "our address as a beginning only": (
        {**NAMED_BODY, "webhook_url": "http://127.0.0.1:9.elsewhere.example"},
        400,
        "invalid_config",
        None,
        "webhook_url",
    ),
}
PREPARED = {
    "no credential": _no_credential,
    "another team's dataset": _foreign_dataset,
    "another team's config": _foreign_config,
    "consent denied": _denied,
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_has_its_status_and_sentence_and_leaves_nothing_but_its_audit_line(ready, settings, case):
    body, status, code, sentence, field = REFUSED[case]
    if case in PREPARED:
        PREPARED[case](ready)
    if case == "no destination":
        settings.PUBLIC_URL = ""
    before = rows()
    audited = AuditLine.objects.count()

    answer = ready.post(body)

    said = answer.json()
    assert (answer.status_code, said["code"], said["field"]) == (status, code, field), said
    assert sentence is None or said["detail"] == sentence
    assert (said["success"], said["status_code"], said["error"]) == (False, status, said["detail"])
    assert rows() == before
    assert AuditLine.objects.count() - audited <= 1


def test_unknown_hardware_is_answered_with_what_there_is(ready):
    said = ready.post({**NAMED_BODY, "hardware_profile": "a100"}).json()

    assert said["detail"].startswith("Unknown hardware profile 'a100'. Valid ones: ")
    assert {"advanced-trainer", "h100"} <= set(said["detail"].rpartition(": ")[2].rstrip(".").split(", "))


def test_every_problem_of_a_config_is_named(ready):
    said = ready.post({**INLINE, "config": CONFIG | {"nope": 1, "resolution": "big"}}).json()

    assert [(error["field"], error["type"]) for error in said["errors"]] == [
        ("config.resolution", "wrong_type"), ("config.nope", "unknown"),
    ]  # fmt: skip


def test_a_refusal_is_audited_with_its_code(ready):
    ready.post({"config_name_to_load": "nope"})

    line = AuditLine.objects.get(event_type="job.refused")
    assert (line.target_id, line.after, line.actor) == ("nope", {"code": "config_not_found"}, ready.member.user.username)


def test_a_job_over_the_limit_is_refused_with_every_limit(ready):
    SpendLimitFactory(team=ready.team, amount=1 * USD, name="small")
    before = rows()

    answer = ready.post({**NAMED_BODY, "max_seconds": 3600})

    said = answer.json()
    limit = said["details"]["limits"][0]
    assert (answer.status_code, said["code"]) == (402, "cost_limit_exceeded")
    assert said["detail"].startswith("Cost limit exceeded: Training flux-lora on 1x L40S can cost up to $3.57")
    assert (limit["name"], limit["left"], limit["left_micros"], limit["requested_micros"], limit["binding"]) == (
        "small",
        "1.000000",
        1_000_000,
        3_568_500,
        True,
    )
    assert rows() == before
    assert AuditLine.objects.get(event_type="quota.exceeded").after == {"code": "cost_limit_exceeded"}


def test_a_limit_that_only_warns_lets_the_job_pass_with_a_sentence(ready):
    SpendLimitFactory(team=ready.team, amount=1 * USD, action="warn")

    said = ready.post({**NAMED_BODY, "max_seconds": 3600}).json()

    assert (said["success"], said["cost_limit_warning"]) == (True, "Spending limit exceeded: $3.57 / $1.00 (monthly)")


def test_a_limit_that_asks_for_approval_blocks_the_job_with_its_money_held(ready):
    SpendLimitFactory(team=ready.team, amount=1 * USD, action="require_approval")

    said = ready.post({**NAMED_BODY, "max_seconds": 3600}).json()

    job = Job.objects.get()
    assert (said["status"], said["requires_approval"]) == ("blocked", True)
    assert (job.state, job.waiting_reason, job.hold.settled_at) == ("blocked", "approval", None)


# --- Who may ----------------------------------------------------------------------------------------------


def test_a_viewer_may_not_submit(ready):
    _, key = make_token(MembershipFactory(team=ready.team, role=Role.VIEWER))

    answer = ready.post(NAMED_BODY, key=key)

    assert (answer.status_code, answer.json()["details"]) == (403, {"required_permission": "job.submit"})
    assert not Job.objects.exists()


def test_a_token_without_the_scope_may_not_submit_whatever_its_maker_may(ready):
    _, key = make_token(ready.member, scopes=[Scope.READ])

    assert ready.post(NAMED_BODY, key=key).status_code == 403


def test_a_token_of_another_team_sees_its_own_team_only(ready):
    other = make_ready()
    TrainingConfig.objects.filter(team=other.team).delete()

    answer = ready.post(NAMED_BODY, key=other.key)

    assert (answer.status_code, answer.json()["code"]) == (404, "config_not_found")


@pytest.mark.parametrize("key", ["", "th_wrong"])
def test_nobody_may_not_submit(ready, key):
    answer = post(SUBMIT, NAMED_BODY, key=key)

    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


# --- Repeats ----------------------------------------------------------------------------------------------


def test_a_repeat_with_the_same_key_answers_the_first_job(ready):
    body = {**NAMED_BODY, "idempotency_key": "ci-1"}
    first = ready.post(body).json()

    again = ready.post(body).json()

    assert (again["job_id"], again["idempotent_hit"], again["quota_warnings"]) == (first["job_id"], True, [])
    assert (Job.objects.count(), Hold.objects.count()) == (1, 1)


def test_a_repeat_that_asks_for_something_else_answers_the_first_job_and_names_the_fields(ready):
    first = ready.post({**NAMED_BODY, "idempotency_key": "ci-1", "tracker_run_name": "a"}).json()

    again = ready.post({**NAMED_BODY, "idempotency_key": "ci-1", "tracker_run_name": "b", "max_seconds": 600}).json()

    assert (again["success"], again["job_id"]) == (True, first["job_id"])
    assert again["quota_warnings"] == [
        "The idempotency key was used before with other values of: max_seconds, tracker_run_name. The first job stands."
    ]


def test_the_header_is_strict(ready):
    first = ready.post(NAMED_BODY, Idempotency_Key="ci-1").json()

    same = ready.post(NAMED_BODY, Idempotency_Key="ci-1")
    other = ready.post({**NAMED_BODY, "max_seconds": 600}, Idempotency_Key="ci-1")

    assert (same.status_code, same.json()["job_id"], same.json()["idempotent_hit"]) == (200, first["job_id"], True)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert other.json()["details"] == {"job_id": first["job_id"], "fields": ["max_seconds"]}


def test_a_key_in_the_header_is_as_short_as_one_in_the_body(ready):
    answers = [ready.post(NAMED_BODY, Idempotency_Key="k" * 257), ready.post({**NAMED_BODY, "idempotency_key": "k" * 257})]

    assert [(answer.status_code, answer.json()["field"]) for answer in answers] == [(400, "idempotency_key")] * 2


def test_a_key_is_free_again_after_a_day(ready):
    body = {**NAMED_BODY, "idempotency_key": "ci-1"}
    first = ready.post(body).json()

    with time_machine.travel(timezone.now() + timedelta(hours=23, minutes=59), tick=False):
        within = ready.post(body).json()
    with time_machine.travel(timezone.now() + timedelta(hours=24, seconds=1), tick=False):
        after = ready.post(body).json()

    assert (within["job_id"], within["idempotent_hit"]) == (first["job_id"], True)
    assert (after["job_id"] == first["job_id"], after["idempotent_hit"]) == (False, False)


def test_a_refusal_burns_no_key(ready):
    SpendLimitFactory(team=ready.team, amount=0, name="closed")
    refused = ready.post({**NAMED_BODY, "idempotency_key": "ci-1"})
    ready.team.spend_limits.all().delete()

    admitted = ready.post({**NAMED_BODY, "idempotency_key": "ci-1"})

    assert (refused.status_code, admitted.status_code, admitted.json()["idempotent_hit"]) == (402, 200, False)


def test_teams_do_not_share_keys(ready):
    other = make_ready()

    answers = [team.post({**NAMED_BODY, "idempotency_key": "ci-1"}).json() for team in (ready, other)]

    assert [answer["idempotent_hit"] for answer in answers] == [False, False]


def test_what_was_asked_is_kept_as_hashes_beside_the_key(ready):
    ready.post({**INLINE, "idempotency_key": "ci-1", "tracker_run_name": "pLaNtEd", "hf_token": "pLaNtEd"})

    kept = IdempotencyKey.objects.get()
    assert sorted(kept.body) == sorted([*INLINE, "tracker_run_name"])
    assert "pLaNtEd" not in json.dumps(kept.body)


# --- At once ----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_twenty_repeats_at_once_make_one_job(no_provider):
    ready = make_ready()
    repeat = Repeat(key="ci-1", body={"config_name_to_load": NAMED})

    outcomes = race(lambda number: submission.submit(ready.caller, JobSpec(config_name=NAMED), repeat=repeat), times=20)

    assert {outcome.job.pk for outcome in outcomes} == {Job.objects.get().pk}
    assert sorted(outcome.is_repeat for outcome in outcomes) == [False] + [True] * 19
    assert (Hold.objects.count(), AuditLine.objects.filter(event_type="job.submitted").count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_twenty_submissions_at_once_do_not_pass_the_limit(no_provider):
    ready = make_ready()
    limit = SpendLimitFactory(team=ready.team, amount=50 * USD)
    # $4.00 at $0.000975 a second, with the minute beyond the ceiling.
    spec = JobSpec(config_name=NAMED, max_seconds=4042)

    outcomes = race(lambda number: submission.submit(ready.caller, spec), times=20)

    admitted = [outcome for outcome in outcomes if isinstance(outcome, submission.Submitted)]
    refused = [outcome for outcome in outcomes if getattr(outcome, "status", 0) == 402]
    period = limit.periods.get()
    assert (len(admitted), len(refused)) == (12, 8)
    assert period.settled + period.held == sum(outcome.job.hold.amount for outcome in admitted) <= 50 * USD
    assert (Job.objects.count(), Hold.objects.count()) == (12, 12)
    assert AuditLine.objects.filter(event_type="quota.exceeded").count() == 8


@pytest.mark.django_db(transaction=True)
def test_a_submission_is_queued_even_while_the_broker_is_away(no_provider, settings, monkeypatch):
    ready = make_ready()
    rung = threading.Event()

    def broken(**_):
        rung.set()
        raise OSError("no broker")

    monkeypatch.setattr("jobs.tasks.dispatch.delay", broken)

    answer = ready.post(NAMED_BODY)

    assert (answer.status_code, rung.is_set(), Job.objects.get().state) == (200, True, "pending")


def test_nothing_is_asked_of_the_provider_before_the_answer(at_provider, account):
    before = account.sandbox.control("predictions").json()

    answer = at_provider.post(NAMED_BODY)

    assert (answer.status_code, account.sandbox.control("predictions").json()) == (200, before)
    assert account.http.get("/v1/files").json()["results"] == []


@pytest.mark.parametrize("is_of_the_platform", [True, False])
def test_a_queue_that_runs_dry_takes_nothing_new_and_lets_what_waits_go(ready, is_of_the_platform):
    waiting = ready.post(NAMED_BODY).json()["job_id"]
    QueueSettings.objects.update_or_create(team=None if is_of_the_platform else ready.team, defaults={"mode": QueueMode.DRAINING})

    answer = ready.post(NAMED_BODY)

    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "queue_draining", "60")
    assert list(Job.objects.values_list("job_id", flat=True)) == [waiting]
    assert [job.job_id for job in dispatch.dispatch()] == [waiting]
