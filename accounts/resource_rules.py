"""Resource rules: which configs, hardware, providers and places of results the roles of a team may use.

Source: SimpleTuner docs, documentation/experimental/server/ENTERPRISE.md, "Resource rules"; simpletuner-api.md 2.5.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from django.db import transaction

from accounts import audit
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound, NotPermitted
from accounts.levels import Level
from accounts.models import ResourceRule, ResourceType, RuleAction
from accounts.roles import Right, Role

FIELDS = ("name", "resource_type", "pattern", "action", "priority", "description")


class ResourceDenied(NotPermitted):
    """A rule of the team keeps this role from it."""

    code = "resource_denied"


def find(caller: Caller, rule_id: int) -> ResourceRule:
    """The team's rule with this id. Raises NotFound."""
    found = caller.team.resource_rules.filter(pk=rule_id).first() if rule_id < 2**63 else None
    if found is None:
        raise NotFound(f"Resource rule not found: {rule_id}")
    return found


def make(caller: Caller, asked: Mapping[str, Any]) -> ResourceRule:
    """Make a rule. It applies to nobody until a level has it."""
    caller.require(Right.MANAGE, permission="admin.users")
    with transaction.atomic():
        rule = ResourceRule.objects.create(team=caller.team, created_by=caller.user, **asked)
        _record(caller, rule, f"Made the resource rule {rule}", after=_described(rule))
    return rule


def change(caller: Caller, rule: ResourceRule, asked: Mapping[str, Any]) -> ResourceRule:
    """Change what is named of a rule. Raises InvalidInput where nothing is."""
    caller.require(Right.MANAGE, permission="admin.users")
    if not asked:
        raise InvalidInput("There is nothing to change: send name, pattern, action, priority or description.")
    with transaction.atomic():
        kept = _locked(caller, rule)
        before = _described(kept)
        for name, value in asked.items():
            setattr(kept, name, value)
        kept.save()
        _record(caller, kept, f"Changed the resource rule {kept}", before=before, after=_described(kept))
    return kept


def delete(caller: Caller, rule: ResourceRule) -> None:
    caller.require(Right.MANAGE, permission="admin.users")
    with transaction.atomic():
        kept = _locked(caller, rule)
        _record(caller, kept, f"Deleted the resource rule {kept}", before=_described(kept))
        kept.delete()


def of_level(caller: Caller, level: Level) -> list[ResourceRule]:
    """The team's rules that a level has."""
    return list(caller.team.resource_rules.filter(roles__contains=[level.role]))


def assign(caller: Caller, rule: ResourceRule, level: Level, *, is_given: bool = True) -> bool:
    """Give a level a rule, or take it away; says whether anything changed. Owners skip rules, so for `admin` it changes nothing else."""
    caller.require(Right.MANAGE, permission="admin.users")
    with transaction.atomic():
        kept = _locked(caller, rule)
        if (level.role in kept.roles) == is_given:
            return False
        before = _described(kept)
        kept.roles = [role for role in Role.values if (role == level.role and is_given) or (role != level.role and role in kept.roles)]
        kept.save(update_fields=["roles"])
        verb = "Gave the level" if is_given else "Took from the level"
        _record(caller, kept, f"{verb} {level.name} the resource rule {kept}", before=before, after=_described(kept))
    return True


def assign_only(caller: Caller, level: Level, rule_ids: Iterable[int]) -> int:
    """Give a level these rules and no others; says how many they are. Raises InvalidInput for one that is not the team's."""
    caller.require(Right.MANAGE, permission="admin.users")
    wanted = set(rule_ids)
    with transaction.atomic():
        rules = {rule.pk: rule for rule in caller.team.resource_rules.order_by("pk")}
        if unknown := sorted(wanted - rules.keys()):
            raise InvalidInput(f"Resource rule not found: {unknown[0]}", field="rule_ids")
        for pk, rule in rules.items():
            assign(caller, rule, level, is_given=pk in wanted)
    return len(wanted)


def require(caller: Caller, resource_type: ResourceType, names: Iterable[str]) -> None:
    """Raise ResourceDenied if the rules of the caller's role keep it from the resource, whichever of its `names` they speak of.

    Without a rule of that type everything is allowed. Any allowing rule that fits wins; where rules are and none allows, it is
    denied. Owners, and staff who are signed in themselves, skip the rules.
    """
    if caller.role == Role.OWNER or (caller.user.is_staff and caller.token is None):
        return
    known = [name for name in names if name]
    rules = list(caller.team.resource_rules.filter(resource_type=resource_type, roles__contains=[caller.role]))
    if not rules or any(rule.action == RuleAction.ALLOW and _fits(rule, known) for rule in rules):
        return
    what = known[0] if known else "nothing"
    raise ResourceDenied(
        f"The rules of {caller.team} do not let a {caller.role} use the {ResourceType(resource_type).value.replace('_', ' ')} {what}.",
        hint="Choose another, or ask an owner of the team to allow it.",
        details={"resource_type": str(resource_type), "resource": what},
    )


def _fits(rule: ResourceRule, names: Iterable[str]) -> bool:
    return any(fnmatchcase(name, rule.pattern) for name in names)


def _locked(caller: Caller, rule: ResourceRule) -> ResourceRule:
    found = caller.team.resource_rules.select_for_update(of=("self",), no_key=True).filter(pk=rule.pk).first()
    if found is None:
        raise NotFound(f"Resource rule not found: {rule.pk}")
    return found


def _described(rule: ResourceRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in FIELDS} | {"roles": list(rule.roles)}


def _record(caller: Caller, rule: ResourceRule, action: str, *, before: Any = None, after: Any = None) -> None:
    audit.record(
        team=caller.team, caller=caller, event_type="config.changed", action=action,
        target_type="resource_rule", target_id=str(rule.pk), before=before, after=after,
    )  # fmt: skip
