"""Approvals where they are spoken of: the number that waits in the left rail, a rule in words, and the link in a mail."""

from django import template
from django.template import Context
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.roles import Role
from billing.limits import LimitStatus
from billing.models import LimitPeriodKind, LimitScope
from jobs.models import ApprovalRule
from jobs.models.admission import ApprovalCondition
from jobs.services import approval_links, approval_rules, approving
from jobs.templatetags.figures import dollars

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
