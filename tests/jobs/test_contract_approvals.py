"""Approvals by API: the documented paths, shapes and refusals, as SimpleTuner's clients read them."""

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditLine
from accounts.roles import Role, Scope
from jobs.models import ApprovalRequest, ApprovalRule, Job
from jobs.models.admission import ApprovalCondition
from jobs.services import approving
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import make_token
from tests.jobs.approvals import blocked, caller, member, rule
from tests.jobs.ready import NAMED, make_ready

API = "/api/approvals"
A = {
    "id": int, "job_id": str, "user_id": int, "rule_id": int, "status": str, "reason": str, "provider": str, "config_name": str,
    "estimated_cost": float, "hardware_type": str, "created_at": str, "requested_at": str, "expires_at": str,
}  # fmt: skip
AR = {
    "id": int, "name": str, "description": str, "condition": str, "type": str, "threshold": str, "is_active": bool, "enabled": bool,
    "priority": int, "exempt_levels": list, "required_approver_level": str, "created_at": str,
}  # fmt: skip
NEW = {"name": "Dear", "condition": "cost_exceeds", "threshold": 50}


@pytest.fixture
def lead(ready):
    """The key of a lead's token."""
    return make_token(member(ready, Role.LEAD))[1]


@pytest.fixture
def owner(ready):
    return make_token(member(ready, Role.OWNER))[1]


def send(method, path, body=None, *, key):
    return getattr(Client(), method)(path, body, content_type="application/json", headers={"X-API-Key": key})


def types(shown, wanted):
    return {name: type(shown[name]) for name in wanted}


# --- Requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [API, f"{API}/", f"{API}/requests", f"{API}/requests/"])
def test_the_list_has_both_of_its_names_and_counts_what_waits(ready, lead, path):
    first, second = blocked(ready), blocked(ready)
    approving.reject(caller(ready), first)

    said = ready.get(path, key=lead).json()

    assert said["requests"] == said["approvals"]
    assert [row["id"] for row in said["requests"]] == [second.pk, first.pk]
    assert said["pending_count"] == 1
    assert types(said["requests"][0], A) == A
    assert [said["requests"][0][name] for name in ("reviewed_by", "reviewed_at", "review_notes")] == [None, None, None]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "pending"}, 1),
        ({"status": "rejected"}, 1),
        ({"pending_only": "true"}, 1),
        ({"limit": 1}, 1),
        ({"offset": 2}, 0),
        ({}, 2),
    ],
)
def test_the_list_is_filtered_and_paged(ready, lead, query, found):
    approving.reject(caller(ready), blocked(ready))
    blocked(ready)

    said = ready.get(API, key=lead, **query).json()

    assert (len(said["requests"]), said["pending_count"]) == (found, 1)


@pytest.mark.parametrize("query", [{"status": "open"}, {"limit": 201}, {"limit": 0}])
def test_a_filter_that_is_none_is_a_400(ready, lead, query):
    assert ready.get(API, key=lead, **query).status_code == 400


@pytest.mark.parametrize("rows", [1, 3])
def test_the_list_asks_as_often_for_three_as_for_one(ready, lead, rows, django_assert_num_queries):
    for _ in range(rows):
        blocked(ready)
    ready.get(API, key=lead)

    with django_assert_num_queries(3):
        ready.get(API, key=lead)


def test_the_count_one_request_and_that_of_a_job(ready, lead):
    asked = blocked(ready)

    count = ready.get(f"{API}/requests/pending/count", key=lead).json()
    one = ready.get(f"{API}/requests/{asked.pk}", key=lead).json()
    by_job = ready.get(f"{API}/requests/job/{asked.job.job_id}", key=lead).json()
    own = ready.get(f"{API}/requests/job/{asked.job.job_id}").json()

    assert (count, one == by_job == own) == ({"pending_count": 1}, True)
    assert (one["required_approver_level"], one["worst_case_micros"]) == ("lead", asked.job.hold.amount)


def test_the_job_object_says_what_it_waits_for(ready):
    asked = blocked(ready)

    job = ready.get(f"/api/cloud/jobs/{asked.job.job_id}").json()["job"]
    listed = ready.get("/api/cloud/jobs", status="pending_approval").json()["jobs"]

    assert (job["status"], job["requires_approval"], job["approval_id"]) == ("blocked", True, asked.pk)
    assert [row["approval_id"] for row in listed] == [asked.pk]


def test_a_submission_that_waits_says_so(ready):
    rule(ready.team)

    said = ready.post({"config_name_to_load": NAMED}).json()

    assert (said["success"], said["status"], said["requires_approval"]) == (True, "blocked", True)
    assert said["quota_warnings"][0].startswith("It waits for approval. The rule 'Ask' asks for an approval:")


@pytest.mark.parametrize("alias", ["requests/", ""])
@pytest.mark.parametrize("word", ["notes", "reason"])
@pytest.mark.parametrize("ending", ["", "/"])
def test_approving_at_both_paths_with_either_word(ready, lead, alias, word, ending):
    asked = blocked(ready)

    said = ready.post({word: "Fine"}, path=f"{API}/{alias}{asked.pk}/approve{ending}", key=lead)

    asked.refresh_from_db()
    assert (said.status_code, said.json()) == (
        200, {"success": True, "request_id": asked.pk, "approved_by": asked.reviewed_by_id, "job_id": asked.job.job_id},
    )  # fmt: skip
    assert (asked.state, asked.review_notes, Job.objects.get().state) == ("approved", "Fine", "pending")


@pytest.mark.parametrize(("body", "kept"), [(None, "No reason given"), ({"reason": "No"}, "No"), ({"reason": None}, "No reason given")])
@pytest.mark.parametrize("alias", ["requests/", ""])
def test_rejecting_with_a_reason_or_without_one(ready, lead, alias, body, kept):
    asked = blocked(ready)

    said = ready.post(body, path=f"{API}/{alias}{asked.pk}/reject", key=lead).json()

    asked.refresh_from_db()
    assert said == {
        "success": True, "request_id": asked.pk, "rejected_by": asked.reviewed_by_id, "reason": kept, "job_id": asked.job.job_id,
    }  # fmt: skip
    assert (asked.state, Job.objects.get().state) == ("rejected", "cancelled")


def test_what_does_not_fit_any_more_is_a_402_with_every_limit(ready, lead):
    asked = blocked(ready)
    SpendLimitFactory(team=ready.team, amount=1 * USD)

    refused = ready.post(path=f"{API}/{asked.pk}/approve", key=lead)

    assert (refused.status_code, refused.json()["code"], len(refused.json()["details"]["limits"])) == (402, "cost_limit_exceeded", 1)
    assert ApprovalRequest.objects.get().state == "pending"


def test_a_second_decision_is_a_409(ready, lead):
    asked = blocked(ready)
    ready.post(path=f"{API}/{asked.pk}/approve", key=lead)

    refused = ready.post(path=f"{API}/{asked.pk}/reject", key=lead)

    assert (refused.status_code, refused.json()["code"], refused.json()["details"]["current_state"]) == (
        409,
        "approval_decided",
        "approved",
    )


def test_ones_own_request_is_a_403_and_so_is_too_low_a_level(db, no_provider):
    ready = make_ready(role=Role.OWNER)
    rule(ready.team, required_role=Role.OWNER)
    asked = blocked(ready)

    own = ready.post(path=f"{API}/{asked.pk}/approve")
    low = ready.post(path=f"{API}/{asked.pk}/approve", key=make_token(member(ready, Role.LEAD))[1])

    assert [(answer.status_code, answer.json()["code"]) for answer in (own, low)] == [(403, "own_job"), (403, "approver_level")]


def test_a_token_approves_only_with_the_scope_for_it(ready):
    asked = blocked(ready)
    key = make_token(member(ready, Role.OWNER), scopes=[Scope.SUBMIT, Scope.CANCEL, Scope.BILLING])[1]

    refused = ready.post(path=f"{API}/{asked.pk}/approve", key=key)

    assert (refused.status_code, refused.json()["details"]["required_permission"]) == (403, "admin.approve")


def test_own_requests_are_listed_for_who_asked_and_can_be_taken_back(ready, lead):
    asked = blocked(ready)

    mine = ready.get(f"{API}/me").json()
    theirs = ready.get(f"{API}/me", key=lead).json()
    cancelled = ready.post(path=f"{API}/requests/{asked.pk}/cancel")
    again = ready.post(path=f"{API}/requests/{asked.pk}/cancel")

    assert ([row["id"] for row in mine["approvals"]], theirs["approvals"]) == ([asked.pk], [])
    assert (cancelled.json(), again.status_code, Job.objects.get().state) == ({"success": True, "request_id": asked.pk}, 409, "cancelled")


def test_several_are_decided_each_by_itself(ready, lead):
    first, second = blocked(ready), blocked(ready)
    approving.reject(caller(ready), first)

    said = ready.post({"request_ids": [first.pk, second.pk, 99999], "notes": "All"}, path=f"{API}/requests/bulk-approve", key=lead).json()

    assert {name: said[name] for name in ("total", "succeeded", "failed")} == {"total": 3, "succeeded": 1, "failed": 2}
    assert [(row["request_id"], row["success"], row.get("code")) for row in said["results"]] == [
        (first.pk, False, "approval_decided"), (second.pk, True, None), (99999, False, "approval_not_found"),
    ]  # fmt: skip


def test_several_are_rejected_with_one_reason(ready, lead):
    asked = [blocked(ready).pk, blocked(ready).pk]

    said = ready.post({"request_ids": asked, "reason": "No"}, path=f"{API}/requests/bulk-reject", key=lead).json()

    assert (said["succeeded"], set(ApprovalRequest.objects.values_list("state", "review_notes"))) == (2, {("rejected", "No")})


@pytest.mark.parametrize("ids", [[], list(range(101)), "1", ["a"], None])
def test_a_list_of_ids_that_is_none_is_a_400(ready, lead, ids):
    refused = ready.post({"request_ids": ids}, path=f"{API}/requests/bulk-approve", key=lead)

    assert (refused.status_code, refused.json()["field"]) == (400, "request_ids")


def test_expiring_says_how_many(ready, lead):
    blocked(ready)
    ApprovalRequest.objects.update(expires_at=timezone.now())

    assert [ready.post(path=f"{API}/expire", key=lead).json() for _ in range(2)] == [{"expired": 1}, {"expired": 0}]


# --- By the job -------------------------------------------------------------------------------------------------


def test_the_queue_approves_and_rejects_by_the_job(ready, lead):
    first, second = blocked(ready), blocked(ready)

    approved = ready.post(path=f"/api/queue/{first.job.job_id}/approve", key=lead)
    rejected = ready.post(path=f"/api/queue/{second.job.job_id}/reject?reason=Too%20dear", key=lead)
    again = ready.post(path=f"/api/queue/{first.job.job_id}/approve/", key=lead)

    first.refresh_from_db()
    assert approved.json() == {"success": True, "job_id": first.job.job_id, "approved_by": first.reviewed_by_id}
    assert rejected.json() == {
        "success": True, "job_id": second.job.job_id, "rejected_by": first.reviewed_by_id, "reason": "Too dear",
    }  # fmt: skip
    assert again.status_code == 409


def test_the_queue_wants_a_reason_and_a_job_that_waits(ready, lead):
    asked = blocked(ready)
    ApprovalRule.objects.all().delete()
    going = ready.submit()

    without = ready.post(path=f"/api/queue/{asked.job.job_id}/reject", key=lead)
    not_blocked = ready.post(path=f"/api/queue/{going.job_id}/approve", key=lead)
    unknown = ready.post(path="/api/queue/j-nowhere/approve", key=lead)

    assert [answer.status_code for answer in (without, not_blocked, unknown)] == [400, 409, 404]


# --- Rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_rule_is_set_read_changed_and_deleted(ready, owner, ending):
    made = send("post", f"{API}/rules{ending}", NEW, key=owner)
    path = f"{API}/rules/{made.json()['id']}{ending}"
    changed = send(
        "patch", path, {"threshold": "75.5", "exempt_levels": ["admin"], "applies_to_level": "member", "enabled": False}, key=owner
    )
    read, listed = send("get", path, key=owner), send("get", f"{API}/rules{ending}", key=owner)
    gone, after = send("delete", path, key=owner), send("get", path, key=owner)

    assert (made.status_code, types(made.json(), AR)) == (200, AR)
    assert (made.json()["threshold"], made.json()["required_approver_level"], made.json()["is_active"]) == ("50", "lead", True)
    assert changed.json() == read.json() == listed.json()["rules"][0]
    assert [changed.json()[name] for name in ("threshold", "exempt_levels", "applies_to_level", "is_active", "name")] == [
        "75.5", ["admin"], "researcher", False, "Dear",
    ]  # fmt: skip
    assert (gone.json(), after.status_code) == ({"success": True, "rule_id": made.json()["id"]}, 404)
    told = AuditLine.objects.filter(target_type="approval_rule").order_by("pk").values_list("event_type", flat=True)
    assert list(told) == ["approval_rule.created", "approval_rule.updated", "approval_rule.deleted"]


def test_the_command_lines_words_are_understood(ready, owner):
    made = send("post", f"{API}/rules", {"name": "First", "type": "first_job", "enabled": False}, key=owner).json()

    assert (made["condition"], made["type"], made["is_active"], made["threshold"]) == ("first_job", "first_job", False, "")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"condition": "moon_phase"}, "condition"),
        ({"condition": None}, "condition"),
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"threshold": "fifty"}, "threshold"),
        ({"threshold": None}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"threshold": [50]}, "threshold"),
        ({"priority": "high"}, "priority"),
        ({"applies_to_provider": "modal"}, "applies_to_provider"),
        ({"applies_to_level": "boss"}, "applies_to_level"),
        ({"exempt_levels": "admin"}, "exempt_levels"),
        ({"exempt_levels": ["boss"]}, "exempt_levels"),
        ({"required_approver_level": "researcher"}, "required_approver_level"),
        ({"required_approver_level": "boss"}, "required_approver_level"),
        ({"is_active": "yes"}, "is_active"),
        ({"condition": "config_pattern", "threshold": "^(a+)+$"}, "threshold"),
    ],
)
def test_a_rule_that_cannot_be_is_a_400_that_names_the_field(ready, owner, wrong, field):
    refused = send("post", f"{API}/rules", NEW | wrong, key=owner)

    assert (refused.status_code, refused.json()["field"], ApprovalRule.objects.count()) == (400, field, 0)


def test_a_change_must_fit_what_stays(ready, owner):
    made = rule(ready.team, "hardware_type", "*h100*")

    refused = send("patch", f"{API}/rules/{made.pk}", {"condition": "cost_exceeds"}, key=owner)

    assert (refused.status_code, refused.json()["field"]) == (400, "threshold")


def test_rules_of_the_platform_are_shown_and_not_changed_here(ready, owner, lead):
    ours, theirs = rule(ready.team), rule(None, priority=5, is_active=False)

    listed = send("get", f"{API}/rules", key=lead).json()["rules"]
    active = Client().get(f"{API}/rules", {"active_only": "true"}, headers={"X-API-Key": lead}).json()["rules"]
    changed = send("patch", f"{API}/rules/{theirs.pk}", {"is_active": True}, key=owner)
    deleted = send("delete", f"{API}/rules/{theirs.pk}", key=owner)

    assert [(row["id"], row["scope"]) for row in listed] == [(theirs.pk, "platform"), (ours.pk, "team")]
    assert [row["id"] for row in active] == [ours.pk]
    assert (changed.status_code, deleted.status_code, ApprovalRule.objects.count()) == (403, 403, 2)


def test_a_lead_reads_rules_and_an_owner_sets_them(ready, lead):
    refused = send("post", f"{API}/rules", NEW, key=lead)

    assert (refused.status_code, refused.json()["details"]["required_permission"]) == (403, "quota.manage")


def test_every_condition_has_a_sentence(ready, lead):
    said = ready.get(f"{API}/conditions", key=lead).json()["conditions"]

    assert [row["value"] for row in said] == list(ApprovalCondition.values)
    assert all(row["description"].endswith(".") for row in said)
