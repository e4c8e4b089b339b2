"""The pages of approvals: what waits, deciding, the rules that ask, and the page behind the link in a mail."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import languages
from accounts.callers import Caller, address_of
from accounts.errors import NotFound, NotPermitted, Refusal
from accounts.forms import in_words, refuse
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from billing import services as billing
from jobs import job_page
from jobs.forms.approvals import ApprovalRuleForm, DecisionForm
from jobs.models import ApprovalRequest, ApprovalRule
from jobs.models.admission import ApprovalState
from jobs.permissions import sees_details
from jobs.services import approval_links, approval_requests, approving, rule_changes

PAGE_SIZE = 25
Decide = Callable[..., ApprovalRequest]


@team_view(Right.SUBMIT)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """What waits, the oldest first, and below it what was decided. Who may not approve is led to their own requests."""
    caller = caller_on(request)
    if not caller.may(Right.APPROVE):
        return redirect("jobs:own_approvals", team.slug)
    found = approving.of(team)
    pending = list(found.pending().order_by("created_at"))
    for row in pending:
        row.is_mine_to_decide = approving.may_decide(caller, row)  # type: ignore[attr-defined]
    decided = found.exclude(state=ApprovalState.PENDING).order_by("-reviewed_at", "-pk")
    page = Paginator(decided, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"team": team, "pending": pending, "page": page, "has_rules": ApprovalRule.objects.speaking_to(team).active().exists()}
    return render(request, "jobs/approvals.html", context | {"may_manage": caller.may(Right.MANAGE)})


@team_view(Right.SUBMIT)
@require_GET
@never_cache
def mine(request: HttpRequest, *, team: Team) -> HttpResponse:
    """What the person asked for, the newest first."""
    caller = caller_on(request)
    own = approving.of(team).filter(job__submitted_by=caller.user)
    page = Paginator(own, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "jobs/own_approvals.html", {"team": team, "page": page, "may_approve": caller.may(Right.APPROVE)})


@team_view(Right.READ)
@require_GET
@never_cache
def detail(request: HttpRequest, *, team: Team, request_id: int) -> HttpResponse:
    """All that somebody needs to decide on one request."""
    caller = caller_on(request)
    row = _of_team(caller, request_id)
    if row.job.submitted_by_id != caller.user.pk:
        caller.require(Right.APPROVE)
    may_decide = approving.may_decide(caller, row)
    context = _shown(row) | {
        "team": team,
        "sees_details": sees_details(caller, row.job),
        "settings": job_page.shown_settings(row.job.config),
        "may_decide": may_decide,
        "is_own": row.job.submitted_by_id == caller.user.pk,
        "form": DecisionForm(),
    }
    return render(request, "jobs/approval.html", context)


@team_view(Right.APPROVE)
@require_POST
def approve(request: HttpRequest, *, team: Team, request_id: int) -> HttpResponse:
    """Let the job go."""
    return _decided(request, request_id, approving.approve, _("The job is approved, and goes when its turn comes."))


@team_view(Right.APPROVE)
@require_POST
def reject(request: HttpRequest, *, team: Team, request_id: int) -> HttpResponse:
    """End the job."""
    return _decided(request, request_id, approving.reject, _("The job is rejected. What was held for it is free again."))


@team_view(Right.READ)
@require_POST
def cancel(request: HttpRequest, *, team: Team, request_id: int) -> HttpResponse:
    """Take a request back, and the job with it."""
    caller = caller_on(request)
    row = _of_team(caller, request_id)
    try:
        approving.cancel(caller, row)
    except approving.AlreadyDecided as refusal:
        messages.error(request, in_words(refusal))
    else:
        messages.success(request, _("The request was taken back, and the job is cancelled."))
    return redirect("jobs:approval", team.slug, row.pk)


def _decided(request: HttpRequest, request_id: int, decide: Decide, said: str) -> HttpResponse:
    """Decide as the person asked to, and lead back to the request, which then shows what came of it."""
    caller = caller_on(request)
    row = _of_team(caller, request_id)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(map(str, form.errors["notes"])))
        return redirect("jobs:approval", caller.team.slug, row.pk)
    try:
        decide(caller, row, notes=form.cleaned_data["notes"])
    except NotPermitted:
        raise
    except Refusal as refusal:
        messages.error(request, in_words(refusal))
    else:
        messages.success(request, said)
    return redirect("jobs:approval", caller.team.slug, row.pk)


def _of_team(caller: Caller, request_id: int) -> ApprovalRequest:
    try:
        return approving.find(caller, request_id)
    except NotFound:
        raise Http404("No such request.") from None


def _shown(row: ApprovalRequest) -> dict[str, Any]:
    """A request with the limits that it counts against as they stand, and who may decide."""
    job = row.job
    limits = billing.statuses(team=job.team, user=job.submitted_by, token=job.token, now=timezone.now())
    approvers = [member.user for member in approval_requests.approvers(row)] if row.is_pending else []
    return {"approval": row, "job": job, "limits": limits, "approvers": approvers}


# --- By the link in a mail ----------------------------------------------------------------------------------


@login_not_required  # the signature in the link is the login
@require_http_methods(["GET", "POST"])
@never_cache
def by_mail(request: HttpRequest, signed: str) -> HttpResponse:
    """Show the request to whom the mail went, and take their decision. Looking at it changes nothing."""
    response = _by_mail(request, signed)
    # The address is a key: no page and no picture of this site or another is told of it. A browser that names no origin
    # at all could not send the form.
    response["Referrer-Policy"] = "strict-origin"
    return response


def _by_mail(request: HttpRequest, signed: str) -> HttpResponse:
    try:
        row, reader = approval_links.opened(signed, address=address_of(request), now=timezone.now())
    except Refusal as refusal:
        return render(request, "jobs/approval_link_ended.html", {"refusal": refusal}, status=refusal.status)
    languages.speak_to(request, reader.user)
    context = _shown(row) | {"team": row.job.team, "reader": reader.user}
    form = DecisionForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        decide = {"approve": approving.approve, "reject": approving.reject}.get(request.POST.get("decision", ""))
        try:
            if decide:
                decided = decide(reader, row, notes=form.cleaned_data["notes"])
                return render(request, "jobs/approval_by_mail_done.html", context | {"approval": decided})
        except approving.AlreadyDecided as refusal:
            return render(request, "jobs/approval_link_ended.html", {"refusal": refusal}, status=410)
        except Refusal as refusal:
            refuse(form, refusal)
    return render(request, "jobs/approval_by_mail.html", context | {"form": form})


# --- Rules ------------------------------------------------------------------------------------------------


@team_view(Right.APPROVE)
@require_GET
@never_cache
def rules(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The rules that speak to the team, in the order in which they decide."""
    found = list(ApprovalRule.objects.speaking_to(team))
    suggested = [(name, rule_changes.SUGGESTED[name]) for name in rule_changes.missing(found)]
    context = {"team": team, "rules": found, "suggested": suggested, "may_manage": caller_on(request).may(Right.MANAGE)}
    return render(request, "jobs/approval_rules.html", context)


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def rule_new(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Set a rule."""
    form = ApprovalRuleForm(request.POST or None)
    if form.is_valid():
        try:
            rule_changes.add(caller_on(request), form.asked())
        except Refusal as refusal:
            refuse(form, refusal, ApprovalRuleForm.FIELDS)
        else:
            messages.success(request, _("The rule is set. The next submission goes by it."))
            return redirect("jobs:approval_rules", team.slug)
    return render(request, "jobs/approval_rule.html", {"team": team, "form": form})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def rule_change(request: HttpRequest, *, team: Team, rule_id: int) -> HttpResponse:
    """Change a rule of the team's own."""
    rule = _rule_of_team(team, rule_id)
    form = ApprovalRuleForm(request.POST or None, initial=rule_changes.described(rule))
    if form.is_valid():
        try:
            rule_changes.change(caller_on(request), rule, form.asked())
        except Refusal as refusal:
            refuse(form, refusal, ApprovalRuleForm.FIELDS)
        else:
            messages.success(request, _("The rule was changed. Requests that wait keep what they were made with."))
            return redirect("jobs:approval_rules", team.slug)
    return render(request, "jobs/approval_rule.html", {"team": team, "form": form, "rule": rule})


@team_view(Right.MANAGE)
@require_http_methods(["GET", "POST"])
@never_cache
def rule_delete(request: HttpRequest, *, team: Team, rule_id: int) -> HttpResponse:
    """Ask once, and delete a rule."""
    rule = _rule_of_team(team, rule_id)
    if request.method == "POST":
        rule_changes.delete(caller_on(request), rule)
        messages.success(request, _("The rule was deleted."))
        return redirect("jobs:approval_rules", team.slug)
    return render(request, "jobs/approval_rule_delete.html", {"team": team, "rule": rule})


@team_view(Right.MANAGE)
@require_POST
def rule_suggested(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Set one of the suggested rules with one click."""
    try:
        rule_changes.suggest(caller_on(request), request.POST.get("name", ""))
    except Refusal as refusal:
        messages.error(request, in_words(refusal))
    else:
        messages.success(request, _("The rule is set. The next submission goes by it."))
    return redirect("jobs:approval_rules", team.slug)


def _rule_of_team(team: Team, rule_id: int) -> ApprovalRule:
    found = team.approval_rules.filter(pk=rule_id).first() if rule_id < 2**63 else None
    if found is None:
        raise Http404("No such rule.")
    return found
