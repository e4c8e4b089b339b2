"""Approval rules by API, in the words of both of SimpleTuner's clients: `condition` ≡ `type`, `is_active` ≡ `enabled`.

Source: simpletuner-api.md 2.7 and 11. Levels have SimpleTuner's names here, where an owner is `admin`.
"""

from collections.abc import Callable
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import levels
from accounts.api import caller_in, fields_of
from accounts.api.reading import flag, one_of, text, texts, whole
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import needs
from accounts.roles import Right
from jobs.api.rendering import stamp
from jobs.models import ApprovalRule
from jobs.models.admission import ApprovalCondition
from jobs.models.catalogue import Provider
from jobs.services import rule_changes

HIGHEST = 10_000
# What the thresholds are; the labels are for people, and translated.
CONDITIONS = {
    ApprovalCondition.COST_EXCEEDS: "The most that the job can cost (its worst case, which is held) is above the threshold, in US dollars.",
    ApprovalCondition.HARDWARE_TYPE: "The hardware's SKU, profile or name is like the threshold, a pattern with * and ?.",
    ApprovalCondition.PROVIDER: "The job goes to the provider that the threshold names.",
    ApprovalCondition.USER_LEVEL: "Whoever submits it has a lower level than the threshold.",
    ApprovalCondition.DAILY_JOBS_EXCEED: "The person submits more jobs than the threshold in a day of the team's time zone.",
    ApprovalCondition.FIRST_JOB: "No job of the person went through in this team yet. Takes no threshold.",
    ApprovalCondition.CONFIG_PATTERN: (
        "The config's name is like the threshold: a pattern with * and ?, or a regular expression that begins with ^ or ends with $."
    ),
}


def shown(rule: ApprovalRule) -> dict[str, Any]:
    """A rule; `scope` is ours: whether it is the team's own, or the platform's for all teams."""
    threshold = _level(rule.threshold) if rule.condition == ApprovalCondition.USER_LEVEL else rule.threshold
    return {
        "id": rule.pk,
        "name": rule.name,
        "description": rule.description,
        "condition": rule.condition,
        "type": rule.condition,
        "threshold": threshold,
        "is_active": rule.is_active,
        "enabled": rule.is_active,
        "priority": rule.priority,
        "applies_to_provider": rule.applies_to_provider or None,
        "applies_to_level": _level(rule.applies_to_role) if rule.applies_to_role else None,
        "exempt_levels": [_level(role) for role in rule.exempt_roles],
        "required_approver_level": _level(rule.required_role),
        "scope": "team" if rule.team_id else "platform",
        "created_at": stamp(rule.created_at),
        "created_by": rule.created_by_id,
    }


class ApprovalRules(APIView):
    """The rules by which jobs must be approved."""

    def get_permissions(self) -> list[Any]:
        return [_reads()() if self.request.method == "GET" else _changes()()]

    def get(self, request: Request) -> Response:
        """The team's rules and the platform's, in the order in which they decide; `active_only` leaves out those that are not in force."""
        found = ApprovalRule.objects.speaking_to(caller_in(request).team)
        if request.query_params.get("active_only", "").lower() in ("1", "true", "yes"):
            found = found.active()
        return Response({"rules": [shown(rule) for rule in found]})

    def post(self, request: Request) -> Response:
        """Set a rule for the team: `name`, `condition`, and the `threshold` that it compares with. The first that fits a job decides."""
        given = _synonyms(fields_of(request))
        if given.get("name") is None or given.get("condition") is None:
            raise InvalidInput("A rule needs a name and a condition.", field="name" if given.get("name") is None else "condition")
        return Response(shown(rule_changes.add(caller_in(request), _asked(given))))


class ApprovalRuleDetail(APIView):
    def get_permissions(self) -> list[Any]:
        return [_reads()() if self.request.method == "GET" else _changes()()]

    def get(self, request: Request, rule_id: str) -> Response:
        """One of these rules."""
        return Response(shown(rule_changes.find(caller_in(request), int(rule_id))))

    def patch(self, request: Request, rule_id: str) -> Response:
        """Change what is sent of a rule of the team's own. Requests that wait keep what they were made with."""
        caller = caller_in(request)
        rule = rule_changes.find(caller, int(rule_id))
        return Response(shown(rule_changes.change(caller, rule, _asked(_synonyms(fields_of(request))))))

    def delete(self, request: Request, rule_id: str) -> Response:
        """Delete a rule of the team's own. Requests that wait go on waiting."""
        caller = caller_in(request)
        rule_changes.delete(caller, rule_changes.find(caller, int(rule_id)))
        return Response({"success": True, "rule_id": int(rule_id)})


class Conditions(APIView):
    permission_classes = [needs(Right.APPROVE, permission="admin.approve")]

    def get(self, request: Request) -> Response:
        """What a rule can ask about, with a sentence for each."""
        return Response({"conditions": [{"value": word.value, "description": said} for word, said in CONDITIONS.items()]})


def _reads() -> Any:
    return needs(Right.APPROVE, permission="admin.approve")


def _changes() -> Any:
    return needs(Right.MANAGE, permission="quota.manage")


def _level(role: str) -> str:
    return levels.of_role(role).name


def _synonyms(given: dict[str, Any]) -> dict[str, Any]:
    """The body in one set of words."""
    words = {"type": "condition", "enabled": "is_active"}
    return {words.get(name, name): value for name, value in given.items() if words.get(name) is None or words[name] not in given}


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a rule that were sent, each checked for its shape; null leaves a field alone, or empties one that may be empty."""
    readers: dict[str, tuple[str, Callable[[], Any]]] = {
        "name": ("name", lambda: text(given, "name", most=100, least=1)),
        "description": ("description", lambda: text(given, "description", most=500)),
        "condition": ("condition", lambda: one_of(given, "condition", ApprovalCondition.values)),
        "threshold": ("threshold", lambda: _threshold(given["threshold"])),
        "is_active": ("is_active", lambda: flag(given, "is_active")),
        "priority": ("priority", lambda: whole(given, "priority", least=-HIGHEST, most=HIGHEST)),
        "applies_to_provider": ("applies_to_provider", lambda: one_of(given, "applies_to_provider", ["", *Provider.values])),
        "applies_to_level": ("applies_to_role", lambda: _role(given["applies_to_level"], "applies_to_level")),
        "exempt_levels": ("exempt_roles", lambda: [_role(word, "exempt_levels") for word in texts(given, "exempt_levels") or []]),
        "required_approver_level": ("required_role", lambda: _role(given["required_approver_level"], "required_approver_level")),
    }
    asked = {field: read() for name, (field, read) in readers.items() if given.get(name) is not None}
    for name, field in {"applies_to_provider": "applies_to_provider", "applies_to_level": "applies_to_role"}.items():
        if name in given and given[name] is None:
            asked[field] = ""
    return asked


def _threshold(given: Any) -> str:
    """Text, or a number as clients send it."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise InvalidInput("threshold must be text or a number.", field="threshold")
    return str(given)


def _role(word: Any, field: str) -> str:
    """The role that a level is. Raises InvalidInput."""
    if word == "":
        return ""
    try:
        return levels.named(word, field=field).role.value
    except NotFound as unknown:
        raise InvalidInput(unknown.detail, field=field) from None
