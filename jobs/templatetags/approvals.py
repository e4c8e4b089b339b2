"""Approvals where they are spoken of: the number that waits in the left rail, a rule in words, and the link in a mail."""

from typing import Any

from django import template
from django.template import Context
from django.utils.functional import Promise
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from accounts.roles import Role
from billing.limits import TITLES, LimitStatus
from billing.models import LimitPeriodKind, LimitScope
from jobs.models import ApprovalRule
from jobs.models.admission import ApprovalCondition
from jobs.services import approval_links, approval_rules, approving
from jobs.templatetags.figures import dollars
from jobs.templatetags.quotas import quota_amount, quota_kind, quota_scope

register = template.Library()

WORDS: dict[str, Promise] = {
    ApprovalCondition.COST_EXCEEDS: _("Jobs that can cost more than %(threshold)s"),
    ApprovalCondition.HARDWARE_TYPE: _("Jobs on hardware like %(threshold)s"),
    ApprovalCondition.PROVIDER: _("Jobs at the provider %(threshold)s"),
    ApprovalCondition.USER_LEVEL: _("Jobs of people with a lower role than: %(threshold)s"),
    ApprovalCondition.DAILY_JOBS_EXCEED: _("A person's jobs of a day, after the first %(threshold)s"),
    ApprovalCondition.FIRST_JOB: _("Each person's first job"),
    ApprovalCondition.CONFIG_PATTERN: _("Jobs with a config named like %(threshold)s"),
}


# Why a rule asks, as its requests keep it.
SEEN: dict[str, Promise] = {
    ApprovalCondition.COST_EXCEEDS: _("The rule %(rule)s asks for an approval: the job can cost up to %(seen)s, more than %(threshold)s."),
    ApprovalCondition.HARDWARE_TYPE: _("The rule %(rule)s asks for an approval: it trains on %(seen)s, which is like %(threshold)s."),
    ApprovalCondition.PROVIDER: _("The rule %(rule)s asks for an approval: it goes to %(seen)s."),
    ApprovalCondition.USER_LEVEL: _(
        "The rule %(rule)s asks for an approval: the role of whoever submits it is %(seen)s, lower than %(threshold)s."
    ),
    ApprovalCondition.DAILY_JOBS_EXCEED: _(
        "The rule %(rule)s asks for an approval: it is the person's job number %(seen)s of the day, more than %(threshold)s."
    ),
    ApprovalCondition.FIRST_JOB: _("The rule %(rule)s asks for an approval: it is the person's first job in the team."),
    ApprovalCondition.CONFIG_PATTERN: _("The rule %(rule)s asks for an approval: the config %(seen)s is named like %(threshold)s."),
}
LIMIT = _("The job can cost up to %(requested)s, and %(limit)s, beyond which somebody must approve, has %(left)s left.")
QUOTA = _("A quota is used up: %(kind)s, %(current)s of %(limit)s (%(whose)s).")


@register.filter
def in_words(grounds: list[dict[str, Any]], reason: str) -> str:
    """Why a job must be approved, in the person's language; English is the `reason` that is kept with the grounds."""
    if not grounds or (get_language() or "en").startswith("en"):
        return reason
    return " ".join(_ground_in_words(ground) for ground in grounds)


def _ground_in_words(ground: dict[str, Any]) -> str:
    match ground["asks"]:
        case "limit":
            limit = str(TITLES[ground["scope"]]) % {"window": LimitPeriodKind(ground["window"]).label}
            return str(LIMIT) % {"requested": dollars(ground["requested"]), "limit": limit, "left": dollars(ground["left"])}
        case "quota":
            kind, scope = ground["quota_type"], ground["scope"]
            current, most = quota_amount(ground["current"], kind), quota_amount(ground["limit"], kind)
            return str(QUOTA) % {"kind": quota_kind(kind), "current": current, "limit": most, "whose": quota_scope(scope)}
    shown = {name: _seen(ground["asks"], ground[name]) for name in ("seen", "threshold")}
    return str(SEEN[ground["asks"]]) % {"rule": ground["rule"], **shown}


def _seen(condition: str, value: Any) -> str:
    if condition == ApprovalCondition.COST_EXCEEDS:
        return dollars(value)
    if condition == ApprovalCondition.USER_LEVEL:
        return str(Role(value).label)
    return str(value) or "—"


@register.simple_tag(takes_context=True)
def approvals_waiting(context: Context) -> int:
    """How many requests wait for whoever looks at the page."""
    return approving.waiting_for(context["request"].caller).count()


@register.simple_tag
def approval_link(request_id: int, person_id: int) -> str:
    """The path by which this person decides on this request, once."""
    return approval_links.path(request_id, person_id)


@register.filter
def rule_in_words(rule: ApprovalRule) -> str:
    """Which jobs a rule is about."""
    threshold = rule.threshold
    if rule.condition == ApprovalCondition.COST_EXCEEDS:
        threshold = dollars(approval_rules.micros(rule))
    elif rule.condition == ApprovalCondition.USER_LEVEL:
        threshold = str(Role(threshold).label)
    return str(WORDS[rule.condition]) % {"threshold": threshold}


@register.filter
def roles_in_words(roles: list[str]) -> str:
    """Roles by their names, in a row."""
    return ", ".join(str(Role(role).label) for role in roles)


@register.filter
def limit_in_words(limit: LimitStatus) -> str:
    """Whose limit it is, and when it begins anew."""
    return f"{LimitScope(limit.scope).label} · {LimitPeriodKind(limit.window).label}"
