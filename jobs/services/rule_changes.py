"""Setting a team's approval rules: what its owners may do. The platform's own rules are the staff's, in the administration."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from accounts import audit
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound, NotPermitted
from accounts.roles import Right, Role
from jobs.models import ApprovalRule
from jobs.models.admission import APPROVING_ROLES, ApprovalCondition
from jobs.models.catalogue import Provider
from jobs.services import approval_rules

FIELDS = (
    *("name", "description", "condition", "threshold", "priority", "is_active"),
    *("applies_to_provider", "applies_to_role", "exempt_roles", "required_role"),
)
# To begin with. Source: simpletuner-api.md 2.7, "Defaults".
SUGGESTED: dict[str, dict[str, Any]] = {
    "cost": {
        "name": "Above $50",
        "description": "A job that can cost more than $50 is looked at first.",
        "condition": ApprovalCondition.COST_EXCEEDS,
        "threshold": "50",
        "exempt_roles": [Role.OWNER],
    },
    "first": {
        "name": "First job",
        "description": "Somebody looks at the first job of each person.",
        "condition": ApprovalCondition.FIRST_JOB,
        "exempt_roles": [Role.LEAD, Role.OWNER],
    },
}


def find(caller: Caller, rule_id: int) -> ApprovalRule:
    """One of the team's rules, or of the platform's, which speak to it as well. Raises NotFound."""
    found = ApprovalRule.objects.speaking_to(caller.team).filter(pk=rule_id).first() if rule_id < 2**63 else None
    if found is None:
        raise NotFound(f"Approval rule not found: {rule_id}")
    return found


def add(caller: Caller, asked: Mapping[str, Any]) -> ApprovalRule:
    """Set a rule for the team; the next submission goes by it. Raises NotPermitted, InvalidInput."""
    caller.require(Right.MANAGE, permission="quota.manage")
    rule = ApprovalRule(team=caller.team, created_by=caller.user, **asked)
    check(rule)
    with transaction.atomic():
        rule.save()
        _record(caller, rule, "approval_rule.created", f"Set the approval rule {rule}", after=described(rule))
    return rule


def change(caller: Caller, rule: ApprovalRule, asked: Mapping[str, Any]) -> ApprovalRule:
    """Change what is named of a rule. Open requests keep what they were made with. Raises NotPermitted, NotFound, InvalidInput."""
    caller.require(Right.MANAGE, permission="quota.manage")
    with transaction.atomic():
        kept = _locked(caller, rule)
        before = described(kept)
        for name, value in asked.items():
            setattr(kept, name, value)
        check(kept)
        kept.save()
        if described(kept) != before:
            _record(caller, kept, "approval_rule.updated", f"Changed the approval rule {kept}", before=before, after=described(kept))
    return kept


def delete(caller: Caller, rule: ApprovalRule) -> None:
    """Delete a rule. Open requests stay, with the role and the reason that they were made with. Raises NotPermitted, NotFound."""
    caller.require(Right.MANAGE, permission="quota.manage")
    with transaction.atomic():
        kept = _locked(caller, rule)
        _record(caller, kept, "approval_rule.deleted", f"Deleted the approval rule {kept}", before=described(kept))
        kept.delete()


def suggest(caller: Caller, name: str) -> ApprovalRule:
    """Set one of the suggested rules. Raises InvalidInput for a name that is none of theirs."""
    if name not in SUGGESTED:
        raise InvalidInput(f"There is no suggested rule {name[:30]!r}.")
    return add(caller, SUGGESTED[name])


def missing(rules: list[ApprovalRule]) -> list[str]:
    """The names of the suggested rules like which there is none yet."""
    known = {rule.condition for rule in rules}
    return [name for name, suggested in SUGGESTED.items() if suggested["condition"] not in known]


def check(rule: ApprovalRule) -> None:
    """Bring what somebody asked for into the form in which it is kept. Raises InvalidInput with the field that is wrong."""
    if rule.condition not in ApprovalCondition.values:
        raise InvalidInput(f"condition must be one of {', '.join(ApprovalCondition.values)}.", field="condition")
    rule.threshold = approval_rules.checked(rule.condition, rule.threshold)
    if rule.applies_to_provider not in ("", *Provider.values):
        raise InvalidInput(f"applies_to_provider must be one of {', '.join(Provider.values)}.", field="applies_to_provider")
    if rule.required_role not in APPROVING_ROLES:
        raise InvalidInput(
            "Jobs are approved by leads and owners (admin): the level must be one of these.", field="required_approver_level"
        )
    rule.exempt_roles = [role.value for role in Role if role in rule.exempt_roles]


def described(rule: ApprovalRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in FIELDS}


def _locked(caller: Caller, rule: ApprovalRule) -> ApprovalRule:
    if rule.team_id is None:
        raise NotPermitted("This rule is the platform's, for all teams. Its staff change it in the administration.")
    found = caller.team.approval_rules.select_for_update(of=("self",), no_key=True).filter(pk=rule.pk).first()
    if found is None:
        raise NotFound(f"Approval rule not found: {rule.pk}")
    return found


def _record(caller: Caller, rule: ApprovalRule, event_type: str, action: str, *, before: Any = None, after: Any = None) -> None:
    audit.record(
        team=caller.team, caller=caller, event_type=event_type, action=action,
        target_type="approval_rule", target_id=str(rule.pk), before=before, after=after,
    )  # fmt: skip
