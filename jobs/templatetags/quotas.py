"""Quotas as people read them."""

from babel.numbers import format_decimal
from django import template
from django.template.defaultfilters import filesizeformat
from django.utils.text import capfirst
from django.utils.translation import get_language, to_locale
from django.utils.translation import gettext as _

from accounts.roles import Role
from jobs.models.quotas import QuotaAction, QuotaKind, QuotaScope
from jobs.services.quota_changes import Quota
from jobs.services.quota_standings import COST_PERIOD
from jobs.templatetags.figures import dollars

register = template.Library()

KIND_LABELS = {kind.value: kind.label for kind in QuotaKind}


@register.filter
def quota_kind(kind: str) -> str:
    """What is counted."""
    return str(KIND_LABELS[kind])


@register.filter
def quota_amount(count: int, kind: str) -> str:
    """So many of it: jobs, bytes as KB or GB, dollars."""
    if kind in COST_PERIOD:
        return dollars(count)
    if kind == QuotaKind.STORAGE_BYTES:
        return filesizeformat(count)
    return format_decimal(count, locale=to_locale(get_language() or "en"))


@register.filter
def quota_scope(scope: str) -> str:
    """For whom: each person, the team together."""
    return str(QuotaScope(scope).label)


@register.filter
def quota_action(action: str) -> str:
    """What happens when it is reached."""
    return capfirst(str(QuotaAction(action).label))


@register.filter
def quota_whose(quota: Quota) -> str:
    """The same with the name of the person or the role."""
    if quota.scope == QuotaScope.PERSON:
        return str(quota.row.user)
    if quota.scope == QuotaScope.ROLE:
        return _("each person with the role %(role)s") % {"role": Role(quota.role).label}
    return quota_scope(quota.scope)
