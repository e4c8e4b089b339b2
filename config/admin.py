"""How the admin is laid out: sections by the question that brings somebody here."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from config import health

SECTIONS = [
    (
        _("What is running?"),
        ["jobs.job", "jobs.queuesettings", "jobs.approvalrequest", "jobs.approvalrule", "jobs.artifact", "jobs.resultdelivery"],
    ),
    (
        _("Who spends?"),
        ["billing.spendlimit", "billing.limitperiod", "billing.hold", "billing.ledgerline", "billing.priceline", "billing.invoice"],
    ),
    (
        _("What is broken?"),
        [
            *("webhooks.delivery", "webhooks.outsideaddress", "accounts.credential", "jobs.accountwatch", "jobs.breaker"),
            *("jobs.launchintent", "jobs.strayrun", "jobs.providerstatus", "accounts.letter"),
        ],
    ),
    (_("What changed?"), ["accounts.auditline", "accounts.auditanchor", "accounts.auditforwarding"]),
    (
        _("Who is here?"),
        [
            *("accounts.team", "accounts.user", "accounts.membership", "accounts.invite", "accounts.apitoken"),
            *("accounts.resourcerule", "accounts.registration", "accounts.organization"),
        ],
    ),
    (_("What can be trained?"), ["jobs.trainer", "jobs.trainerversion", "jobs.trainingconfig", "jobs.dataset", "jobs.providersettings"]),
]

# What is no list of rows, by its section.
REPORTS = {_("Who spends?"): (_("Spend by team"), "admin_spend")}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The admin's side bar: every section with the models of it that this person may see."""
    from django.contrib import admin

    visible = {
        model._meta.label_lower: capfirst(model._meta.verbose_name_plural)
        for model, model_admin in admin.site._registry.items()
        if model_admin.has_view_permission(request)
    }
    sections = []
    for title, labels in SECTIONS:
        items = [
            {"title": visible[label], "link": reverse_lazy(f"admin:{label.replace('.', '_')}_changelist")}
            for label in labels
            if label in visible
        ]
        if title in REPORTS and request.user.is_staff:
            label, name = REPORTS[title]
            items.insert(0, {"title": label, "link": reverse_lazy(name)})
        if items:
            sections.append({"title": title, "items": items, "separator": True})
    return sections


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page of the admin knows beside its list: what of the product does not fare well."""
    context["unwell"] = [part for part in health.components(request, now=timezone.now()) if part["status"] != "healthy"]
    return context


def icon(request: HttpRequest) -> str:
    """The address of the mark that the portal shows as well."""
    return static("portal/favicon.svg")


def environment(request: HttpRequest) -> list[str] | None:
    """A label on every page of the admin where this is not the real thing."""
    if settings.REPLICATE_BASE_URL != "https://api.replicate.com":
        return [str(_("Sandbox")), "warning"]
    return None
