"""The dry run: the verdict of the submission that follows, and no row left but a line in the audit trail."""

import random

import pytest
from django.apps import apps
from django.test import Client

from accounts.models import AuditHead, AuditLine
from accounts.roles import Role
from billing.models import LimitAction, LimitPeriodKind, LimitScope, SpendLimit
from jobs.models import ApprovalRule, Job, JobQuota, QueueSettings
from jobs.models.admission import QueueMode
from jobs.models.quotas import QuotaAction
from jobs.services import cancelling
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import MembershipFactory, make_token
from tests.jobs.ready import CONFIG, DATASET, NAMED, SUBMIT, caller_of, make_ready
from tests.thoroughness import FULL

TRY = f"{SUBMIT}?dry_run=true"


def rows():
    """How many rows every table of ours has, but for the audit trail."""
    ours = [model for label in ("accounts", "billing", "jobs", "webhooks") for model in apps.get_app_config(label).get_models()]
    return {model.__name__: model._default_manager.count() for model in ours if model not in (AuditLine, AuditHead)}


def test_a_dry_run_says_everything_that_decides_and_leaves_one_audit_line(ready):
    SpendLimitFactory(team=ready.team, amount=50 * USD, name="month")
    before, lines = rows(), AuditLine.objects.count()

    answer = ready.post({"config_name_to_load": NAMED, "max_seconds": 3600}, path=TRY)

    said = answer.json()
    assert answer.status_code == 200
    assert (said["dry_run"], said["verdict"], said["success"], said["status"]) == (True, "admitted", True, "pending")
    assert (said["job_id"], said["requires_approval"], said["idempotent_hit"], said["error"]) == (None, False, False, None)
    assert (said["worst_case"], said["worst_case_micros"], said["ceiling_seconds"]) == (3.5685, 3_568_500, 3600)
    assert said["estimate"]["low_micros"] < said["estimate"]["high_micros"]
    assert said["estimate"]["source"]
    assert [(limit["name"], limit["left"], limit["requested"], limit["binding"]) for limit in said["limits"]] == [
        ("month", "50.000000", "3.568500", False)
    ]
    assert (said["packing_path"], said["destination"], said["dataset"], said["queue_place"]) == ("archive", "local", f"{DATASET}@1", 1)
    assert (said["hardware_profile"], said["lint"]) == ("advanced-trainer", {"errors": [], "warnings": [], "suggestions": []})
    assert rows() == before
    line = AuditLine.objects.latest("pk")
    assert (AuditLine.objects.count() - lines, line.event_type, line.after["verdict"]) == (1, "job.dry_run", "admitted")


@pytest.mark.parametrize("said", [True, "true"])
def test_a_trial_can_be_asked_for_in_the_body_as_well_and_a_misspelt_one_submits_nothing(ready, said):
    tried = ready.post({"config_name_to_load": NAMED, "dry_run": said})
    misspelt = ready.post({"config_name_to_load": NAMED, "dry_run": "perhaps"})

    assert (tried.json()["verdict"], misspelt.status_code, misspelt.json()["field"]) == ("admitted", 400, "dry_run")
    assert not Job.objects.exists()


def test_a_dry_run_that_would_be_refused_names_the_limit_that_binds(ready):
    SpendLimitFactory(team=ready.team, amount=1 * USD, name="month")
    before = rows()

    said = ready.post({"config_name_to_load": NAMED, "max_seconds": 3600}, path=TRY).json()

    assert (said["verdict"], said["success"], said["status_code"], said["code"]) == ("refused", False, 402, "cost_limit_exceeded")
    assert [(limit["name"], limit["binding"]) for limit in said["limits"]] == [("month", True)]
    assert (said["worst_case_micros"], said["status"], said["queue_place"]) == (3_568_500, None, None)
    assert rows() == before


def test_a_dry_run_of_what_cannot_be_planned_says_why_and_prices_nothing(ready):
    said = ready.post({"config_name_to_load": "nothing"}, path=TRY).json()

    assert (said["verdict"], said["status_code"], said["code"]) == ("refused", 404, "config_not_found")
    assert (said["error"], said["worst_case"], said["limits"]) == ("Config not found: nothing", None, [])


def test_a_dry_run_says_that_a_limit_would_ask_for_approval(ready):
    SpendLimitFactory(team=ready.team, amount=1 * USD, action=LimitAction.REQUIRE_APPROVAL)

    said = ready.post({"config_name_to_load": NAMED, "max_seconds": 3600}, path=TRY).json()

    assert (said["verdict"], said["requires_approval"], said["status"], said["queue_place"]) == ("needs_approval", True, "blocked", None)


def test_a_dry_run_with_a_used_key_names_the_job_that_stands(ready):
    body = {"config_name_to_load": NAMED, "idempotency_key": "nightly"}
    first = ready.post(body).json()["job_id"]

    said = ready.post({**body, "max_seconds": 600}, path=TRY).json()

    assert (said["verdict"], said["job_id"], said["idempotent_hit"]) == ("repeat", first, True)
    assert "max_seconds" in said["quota_warnings"][0]


def test_a_dry_run_burns_no_key(ready):
    body = {"config_name_to_load": NAMED, "idempotency_key": "nightly"}

    ready.post(body, path=TRY)

    assert ready.post(body).json()["idempotent_hit"] is False


def test_the_place_in_the_queue_counts_who_goes_before(ready):
    ready.submit()
    lead = MembershipFactory(team=ready.team, role=Role.LEAD)

    places = [ready.post({"config_name_to_load": NAMED}, path=TRY, key=key).json()["queue_place"] for key in (None, make_token(lead)[1])]

    assert places == [2, 1]


@pytest.mark.parametrize("word", ["tru", "2", "on please"])
def test_a_misspelt_dry_run_submits_nothing(ready, word):
    answer = ready.post({"config_name_to_load": NAMED}, path=f"{SUBMIT}?dry_run={word}")

    assert (answer.status_code, answer.json()["detail"]) == (400, "dry_run must be true or false.")
    assert not Job.objects.exists()


def test_who_may_not_submit_may_not_try_either(ready):
    viewer = MembershipFactory(team=ready.team, role=Role.VIEWER)

    assert ready.post({"config_name_to_load": NAMED}, path=TRY, key=make_token(viewer)[1]).status_code == 403


class Chance:
    """Random requests and random changes of what decides about them, the same for the same seed."""

    def __init__(self, ready, seed):
        self.dice = random.Random(seed)
        self.ready = ready
        self.http = Client()
        people = [MembershipFactory(team=ready.team, role=role) for role in (Role.RESEARCHER, Role.LEAD, Role.OWNER)]
        self.canceller = caller_of(people[-1])
        self.keys = [ready.key, *(make_token(person)[1] for person in people)]

    def post(self, path, body, key, headers):
        return self.http.post(path, body, content_type="application/json", headers={"Authorization": f"Bearer {key}", **headers})

    def request(self):
        dice = self.dice
        body = dice.choice(
            [
                {"config_name_to_load": NAMED},
                {"config_name_to_load": NAMED, "dataset": dice.choice([DATASET, f"{DATASET}@1", f"{DATASET}@9", "nothing"])},
                {"config_name_to_load": dice.choice(["nothing", ""])},
                {"config": {**CONFIG, "max_train_steps": dice.choice([0, 20, 1000, 30_000])}, "dataset": DATASET},
                {"config": {**CONFIG, "model_family": dice.choice(["flux", "sdxl", "llama"])}, "dataset": DATASET, "config_name": "mine"},
            ]
        )
        asked = {
            "max_seconds": dice.choice([None, None, 30, 60, 600, 3600, 86_400, 90_000]),
            "hardware_profile": dice.choice(["", "", "", "h100", "1xH100", "abacus"]),
            "destination": dice.choice(["", "", "", "local", "s3", "hub", "moon"]),
            "hub_model_id": dice.choice(["", "", "", "", "acme/lora"]),
            "idempotency_key": dice.choice([None, None, None, *(f"key-{number}" for number in range(5))]),
        }
        headers = {"Idempotency-Key": f"strict-{dice.randrange(5)}"} if dice.random() < 0.1 else {}
        return dice.choice(self.keys), body | asked, headers

    def change_something(self):
        changes = [self.set_a_limit, self.set_a_quota, self.set_a_rule, self.cancel_some, self.cancel_some, self.drain]
        self.dice.choice(changes)()

    def set_a_limit(self):
        dice = self.dice
        scope = dice.choice([LimitScope.PLATFORM, LimitScope.TEAM, LimitScope.PERSON])
        SpendLimit.objects.update_or_create(
            scope=scope,
            team=None if scope == LimitScope.PLATFORM else self.ready.team,
            user=self.ready.member.user if scope == LimitScope.PERSON else None,
            token=None,
            name="chance",
            period=dice.choice(LimitPeriodKind.values),
            defaults={
                "amount": dice.choice([0, 5, 40, 200, 2000]) * USD,
                "action": dice.choice(LimitAction.values),
                "is_enabled": dice.random() < 0.7,
            },
        )

    def set_a_quota(self):
        dice = self.dice
        JobQuota.objects.filter(team=self.ready.team).delete()
        if dice.random() < 0.6:
            kind, action = dice.choice(["concurrent_jobs", "queued_jobs", "jobs_per_day"]), dice.choice(QuotaAction.values)
            JobQuota.objects.create(team=self.ready.team, scope="each", kind=kind, limit_value=dice.choice([1, 5, 20]), action=action)

    def set_a_rule(self):
        dice, team = self.dice, self.ready.team
        ApprovalRule.objects.filter(team=team).delete()
        if dice.random() < 0.6:
            condition, threshold = dice.choice(
                [("cost_exceeds", "20"), ("first_job", ""), ("hardware_type", "*h100*"), ("user_level", "lead")]
            )
            ApprovalRule.objects.create(team=team, name="chance", condition=condition, threshold=threshold, exempt_roles=["owner"])

    def cancel_some(self):
        waiting = list(Job.objects.filter(state__in=("pending", "blocked")).select_related("team"))
        for job in self.dice.sample(waiting, len(waiting) // 2):
            cancelling.cancel(job, caller=self.canceller)

    def drain(self):
        mode = self.dice.choice([QueueMode.RUNNING, QueueMode.RUNNING, QueueMode.DRAINING])
        QueueSettings.objects.update_or_create(team=self.ready.team, defaults={"mode": mode})


def verdict_of(answer):
    """What a submission's answer says, in the words of a dry run."""
    said = answer.json()
    if answer.status_code != 200:
        return "refused", answer.status_code, said["code"], said["detail"], said["details"].get("limits", []) if said["details"] else []
    if said["idempotent_hit"]:
        return "repeat", said["job_id"], said["status"], said["quota_warnings"]
    job = Job.objects.select_related("hold").get(job_id=said["job_id"])
    verdict = "needs_approval" if said["requires_approval"] else "admitted"
    return verdict, said["status"], job.hold.amount, job.ceiling_seconds, said["cost_limit_warning"], said["quota_warnings"]


def foretold(said):
    if said["verdict"] == "refused":
        return "refused", said["status_code"], said["code"], said["error"], said["limits"]
    if said["verdict"] == "repeat":
        return "repeat", said["job_id"], said["status"], said["quota_warnings"]
    return (
        *(said["verdict"], said["status"], said["worst_case_micros"]),
        *(said["ceiling_seconds"], said["cost_limit_warning"], said["quota_warnings"]),
    )


@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_random_requests_get_the_verdict_that_their_dry_run_foretold(db, no_provider, seed):
    """Ten times a hundred; ten times as many in a full run."""
    chance = Chance(make_ready(), seed)
    seen = set()
    for number in range(1000 if FULL else 100):
        if number % 5 == 0 and number:
            chance.change_something()
        key, body, headers = chance.request()
        before = rows() if number % 20 == 0 else None

        said = chance.post(TRY, body, key, headers).json()

        assert before is None or rows() == before, body
        answer = chance.post(SUBMIT, body, key, headers)
        assert foretold(said) == verdict_of(answer), body
        seen.add(said["verdict"])
    assert seen >= {"admitted", "refused"}
