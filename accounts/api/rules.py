"""Resource rules of a team, and which levels have them, by API."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import levels, resource_rules
from accounts.api import caller_in, fields_of
from accounts.api.reading import ids, one_of, text, whole
from accounts.api.rendering import rule as shown
from accounts.errors import InvalidInput
from accounts.models import ResourceType, RuleAction
from accounts.permissions import needs
from accounts.roles import Right


class Managed(APIView):
    """For whoever manages the team."""

    permission_classes = [needs(Right.MANAGE, permission="admin.users")]


class Rules(Managed):
    def get(self, request: Request) -> Response:
        """The team's rules, the highest priority first; `resource_type` chooses among them."""
        found = caller_in(request).team.resource_rules.all()
        if kind := request.query_params.get("resource_type"):
            found = found.filter(resource_type=one_of({"resource_type": kind}, "resource_type", ResourceType.values))
        return Response([shown(rule) for rule in found])

    def post(self, request: Request) -> Response:
        """Make a rule: `name`, `resource_type`, `pattern`, `action` (allow or deny). It applies to nobody until a level has it."""
        given = fields_of(request)
        asked = {
            "name": text(given, "name", most=100, least=1),
            "resource_type": one_of(given, "resource_type", ResourceType.values),
            "pattern": text(given, "pattern", most=200, least=1),
            "action": one_of(given, "action", RuleAction.values, default=RuleAction.ALLOW),
            "priority": whole(given, "priority", least=0, most=1000, default=0),
            "description": text(given, "description", most=500),
        }
        return Response(shown(resource_rules.make(caller_in(request), asked)), status=201)


class Rule(Managed):
    def get(self, request: Request, rule_id: str) -> Response:
        """One of the team's rules."""
        return Response(shown(resource_rules.find(caller_in(request), int(rule_id))))

    def put(self, request: Request, rule_id: str) -> Response:
        """Change what is sent of it. What kind of resource it is about stays."""
        rule = resource_rules.find(caller_in(request), int(rule_id))
        return Response(shown(resource_rules.change(caller_in(request), rule, _changes(fields_of(request)))))

    def delete(self, request: Request, rule_id: str) -> Response:
        """Delete it, from all levels."""
        resource_rules.delete(caller_in(request), resource_rules.find(caller_in(request), int(rule_id)))
        return Response({"success": True})


class LevelRules(Managed):
    def get(self, request: Request, level_id: str) -> Response:
        """The team's rules that a level has."""
        return Response([shown(rule) for rule in resource_rules.of_level(caller_in(request), levels.numbered(int(level_id)))])

    def put(self, request: Request, level_id: str) -> Response:
        """Give a level these rules and no others."""
        level = levels.numbered(int(level_id))
        count = resource_rules.assign_only(caller_in(request), level, ids(fields_of(request), "rule_ids"))
        return Response({"success": True, "rule_count": count})


class LevelRule(Managed):
    def post(self, request: Request, level_id: str, rule_id: str) -> Response:
        """Give a level a rule."""
        is_new = self._assign(request, level_id, rule_id, is_given=True)
        return Response({"success": True, "already_assigned": not is_new})

    def delete(self, request: Request, level_id: str, rule_id: str) -> Response:
        """Take a rule from a level; one that it does not have is left as it is."""
        self._assign(request, level_id, rule_id, is_given=False)
        return Response({"success": True})

    def _assign(self, request: Request, level_id: str, rule_id: str, *, is_given: bool) -> bool:
        caller, level = caller_in(request), levels.numbered(int(level_id))
        return resource_rules.assign(caller, resource_rules.find(caller, int(rule_id)), level, is_given=is_given)


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that were sent, each checked; null leaves a field alone."""
    if given.get("resource_type") is not None:
        raise InvalidInput("A rule's resource_type stays as it was made. Make another rule.", field="resource_type")
    readers = {
        "name": lambda: text(given, "name", most=100, least=1),
        "pattern": lambda: text(given, "pattern", most=200, least=1),
        "action": lambda: one_of(given, "action", RuleAction.values),
        "priority": lambda: whole(given, "priority", least=0, most=1000),
        "description": lambda: text(given, "description", most=500),
    }
    return {name: read() for name, read in readers.items() if given.get(name) is not None}
