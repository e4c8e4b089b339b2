"""The page on which a job is submitted."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.callers import Caller
from accounts.errors import Refusal
from accounts.forms import refuse
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from jobs import submit_page
from jobs.forms.submit import SubmitForm
from jobs.models import Job
from jobs.services import consent, submission, troubles
from jobs.services.repeats import IdempotencyConflict, Repeat
from jobs.submit_page import Quote
from jobs.templatetags.figures import dollars


@team_view(Right.SUBMIT)
@require_http_methods(["GET", "POST"])
@never_cache
def new(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Ask for a job. Each check says what it would cost; only the button that carries the amount submits it."""
    with timezone.override(team.time_zone):
        return _new(request, team)


def _new(request: HttpRequest, team: Team) -> HttpResponse:
    caller = caller_on(request)
    needs_consent = consent.is_missing(team)
    if request.method == "GET":
        form, checked = _fresh(request, caller)
    else:
        form = checked = SubmitForm(request.POST, choices=submit_page.choices(team, now=timezone.now()))
    quote = _quote(caller, checked)
    key = form.data.get("key") or submit_page.new_key()
    if request.method == "POST" and quote and "check" not in request.POST and form.accept(quote, needs_consent=needs_consent):
        try:
            submitted = _submit(caller, form, needs_consent=needs_consent)
        except IdempotencyConflict as conflict:
            refuse(form, conflict)
            key = submit_page.new_key()
        except Refusal as refusal:
            refuse(form, refusal, SubmitForm.FIELDS)
        else:
            _tell(request, submitted)
            return redirect(submitted.job)
    context: dict[str, Any] = {"team": team, "form": form, "checked": checked, "quote": quote, "key": key}
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "jobs/_quote.html", context)
    if needs_consent:
        context["flows"] = consent.statement(team)
    context["checkpoints"] = submit_page.continued_from(caller, form.data or form.initial)
    context |= {"typical_costs": submit_page.typical_costs(), "trouble": troubles.of_team(caller, now=timezone.now())}
    return render(request, "jobs/new.html", context)


def _fresh(request: HttpRequest, caller: Caller) -> tuple[SubmitForm, SubmitForm]:
    """The form as it begins, and the same as if it had been sent: what is wrong with that is no error of the person yet."""
    try:
        initial = submit_page.beginning(caller, request.GET)
    except Job.DoesNotExist:
        raise Http404("No such job.") from None
    choices = submit_page.choices(caller.team, now=timezone.now())
    return SubmitForm(initial=initial, choices=choices), SubmitForm(submit_page.as_posted(initial), choices=choices)


def _quote(caller: Caller, form: SubmitForm) -> Quote | None:
    if not form.is_valid():
        return None
    try:
        return submit_page.quote(caller, form.spec(), now=timezone.now())
    except Refusal as refusal:
        fields = SubmitForm.FIELDS
        if (refusal.field or "").split(".")[0] == "config":
            fields = {**fields, str(refusal.field): "config_name" if form.cleaned_data["config_name"] else "config_json"}
        refuse(form, refusal, fields)
        return None


def _submit(caller: Caller, form: SubmitForm, *, needs_consent: bool) -> submission.Submitted:
    if needs_consent and form.cleaned_data["agrees"]:
        consent.give(caller)
    key = form.cleaned_data["key"]
    repeat = Repeat(key=key, body=form.asked(), is_strict=True) if key else None
    return submission.submit(caller, form.spec(), repeat=repeat)


def _tell(request: HttpRequest, submitted: submission.Submitted) -> None:
    hold = submitted.job.hold
    if submitted.job.is_rehearsal:
        messages.success(request, _("The rehearsal begins. It costs nothing."))
    elif submitted.approval:
        held = dollars(hold.amount if hold else None)
        messages.success(request, _("The job was submitted and waits for approval. %(amount)s are held for it.") % {"amount": held})
    else:
        messages.success(
            request, _("The job was submitted. %(amount)s are held for it.") % {"amount": dollars(hold.amount if hold else None)}
        )
    for warning in [*submitted.cost_warnings, *submitted.warnings]:
        messages.warning(request, format_html('<span lang="en">{}</span>', warning))
