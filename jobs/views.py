"""The pages of a team's jobs."""

from pathlib import PurePosixPath

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.files.storage import storages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import streaming
from accounts.errors import NotPermitted, Refusal
from accounts.forms import refuse
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from jobs import costs, downloads, job_page, log_page, quotas_page, submit_page
from jobs.forms.job import RetryForm, StopTimeForm
from jobs.forms.joblist import JobFilter
from jobs.models import Job
from jobs.permissions import may_cancel, may_delete, sees_details
from jobs.services import cancelling, consent, first_steps, logs, quota_standings, retrying, stopping, syncing, troubles, watching
from jobs.services.repeats import Repeat

PAGE_SIZE = 25
MOST_CANCELLED = 200


def _job(team: Team, job_id: str) -> Job:
    jobs = team.jobs.visible().select_related(
        *("team", "submitted_by", "trainer", "hold", "price_line", "progress", "upload_progress", "dataset_version__dataset", "parent"),
        *("approval__rule", "approval__reviewed_by"),
    )
    return get_object_or_404(jobs, job_id=job_id)


@team_view(Right.READ)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The team's jobs, newest first. Asked by htmx it answers the rows alone, or 204 while nothing has changed."""
    now = timezone.now()
    caller = caller_on(request)
    form = JobFilter(request.GET, team=team, user=caller.user)
    jobs = form.of(team.jobs.visible()).select_related("submitted_by", "trainer", "hold", "price_line", "progress", "upload_progress")
    page = Paginator(jobs, PAGE_SIZE).get_page(request.GET.get("page"))
    troubled = troubles.titles(page, caller=caller, now=now)
    for job in page:
        job.cost_so_far = costs.so_far(job, now=now)  # type: ignore[attr-defined]
        job.trouble = troubled.get(job.pk, "")  # type: ignore[attr-defined]
    context = {"team": team, "form": form, "chosen": form.chosen(), "page": page, "is_live": any(not job.is_terminal for job in page)}
    context |= {"may_submit": caller.may(Right.SUBMIT), "may_manage": caller.may(Right.MANAGE)}
    context["may_cancel_several"] = caller.may(Right.CANCEL_OWN)
    if not page and not form.chosen():
        context["first"] = first_steps.of(caller, now=now)
    rows = render_to_string("jobs/_rows.html", context, request)
    digest = job_page.digest(rows)
    if not request.htmx:  # type: ignore[attr-defined]
        if caller.may(Right.SUBMIT):
            standings = quota_standings.standings(team=team, user=caller.user, role=caller.role, now=now)
            context |= {"blocking_quotas": quotas_page.used_up(standings), "close_quotas": quotas_page.close(standings)}
        return render(request, "jobs/list.html", {**context, "rows": rows, "digest": digest})
    if request.GET.get("seen") == digest:
        return HttpResponse(status=204)
    return render(request, "jobs/_list.html", {**context, "rows": rows, "digest": digest})


@team_view(Right.SUBMIT)
@require_POST
def sync(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Ask the provider now about the team's jobs, and for runs that were started elsewhere."""
    said = syncing.sync(caller_on(request))
    messages.success(request, format_html('<span lang="en">{}</span>', said.message))
    return redirect("jobs:list", team.slug)


@team_view(Right.READ)
@require_GET
@never_cache
def detail(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """The page of one job."""
    now = timezone.now()
    job = _job(team, job_id)
    watching.note(job, now=now)
    context = job_page.record(job, caller_on(request), now=now)
    parts = job_page.parts_of(context, request)
    context |= {"parts": parts, "seen": _seen(parts)}
    if context["sees_details"]:
        context |= {"log": log_page.end_of(job), "settings": job_page.shown_settings(job.config)}
    return render(request, "jobs/detail.html", context)


@team_view(Right.READ)
@require_GET
@never_cache
def live(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """What changed on the page of a job since its cursor and the digests that it has."""
    now = timezone.now()
    job = _job(team, job_id)
    watching.note(job, now=now)
    context = job_page.record(job, caller_on(request), now=now)
    parts = job_page.parts_of(context, request)
    known = request.GET.get("seen", "").split(".")
    changed = [part for part in parts.values() if job_page.digest(part) not in known]
    context |= {"changed": changed, "seen": _seen(parts)}
    if context["sees_details"]:
        context["log"] = log_page.news_of(job, after=_line(request, "log") or 0, seen=request.GET.get("last", ""))
    return render(request, "jobs/_live.html", context)


def _seen(parts: dict[str, str]) -> str:
    return ".".join(job_page.digest(part) for part in parts.values())


def _line(request: HttpRequest, name: str) -> int | None:
    """The number of a line in the address; None for what is none."""
    given = request.GET.get(name, "")
    return int(given) if given.isascii() and given.isdecimal() and len(given) <= 9 else None


@team_view(Right.READ)
@require_GET
@never_cache
def whole_log(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """The log page by page: its end, the page with `line`, or the lines in which `q` occurs."""
    job = _job(team, job_id)
    _require_details(request, job)
    watching.note(job, now=timezone.now())
    context = {"team": team, "job": job, "q": request.GET.get("q", "")[: logs.LONGEST_SEARCH]}
    if context["q"]:
        context["found"] = log_page.search(job, str(context["q"]), after=_line(request, "after") or 0)
    else:
        context["page"] = log_page.page_of(job, line=_line(request, "line"))
    return render(request, "jobs/log.html", context)


@team_view(Right.READ)
@require_GET
def log(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponseBase:
    """The whole log as a text file."""
    job = _job(team, job_id)
    _require_details(request, job)
    return log_page.file(request, job)


@team_view(Right.CANCEL_OWN)
@require_http_methods(["GET", "POST"])
def cancel(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """Ask once, say what will be paid, and cancel."""
    now = timezone.now()
    job = _job(team, job_id)
    cancelling.require_hand_on(job, caller_on(request))
    if request.method == "POST":
        try:
            job = cancelling.cancel(job, caller=caller_on(request))
        except cancelling.InvalidJobState:
            messages.error(request, _("This job is already over, so there is nothing to cancel."))
        else:
            messages.success(request, _("The job was cancelled.") if job.is_terminal else _("The provider is told to stop the job."))
        return redirect("jobs:detail", team.slug, job.job_id)
    context = {"team": team, "job": job, "cost": costs.so_far(job, now=now), "is_sent": bool(job.prediction_id) or hasattr(job, "intent")}
    return render(request, "jobs/cancel.html", context)


@team_view(Right.CANCEL_OWN)
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """Ask once, say what stays, and take the job out of the lists."""
    job = _job(team, job_id)
    cancelling.require_hand_on(job, caller_on(request))
    if request.method == "POST":
        try:
            cancelling.hide(job, caller=caller_on(request))
        except cancelling.InvalidJobState:
            messages.error(request, _("This job goes on. Cancel it before you delete it."))
            return redirect("jobs:detail", team.slug, job.job_id)
        messages.success(request, _("The job was deleted."))
        return redirect("jobs:list", team.slug)
    return render(request, "jobs/delete.html", {"team": team, "job": job, "may_delete": may_delete(caller_on(request), job)})


@team_view(Right.CANCEL_OWN)
@require_http_methods(["GET", "POST"])
@never_cache
def cancel_several(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Choose among the jobs that pass the list's filters and are not over; then say what will be paid in all, and cancel them."""
    now = timezone.now()
    caller = caller_on(request)
    chosen = (request.POST if request.method == "POST" else request.GET).getlist("job")[:MOST_CANCELLED]
    form = JobFilter(request.GET, team=team, user=caller.user)
    offered = team.jobs.visible().filter(job_id__in=chosen) if chosen else form.of(team.jobs.visible())
    if chosen and not offered.exists():
        raise Http404("No such jobs.")
    going_on = offered.active().filter(cancel_requested_at=None)
    jobs = list(going_on.select_related("team", "submitted_by", "hold", "price_line")[:MOST_CANCELLED])
    if request.method == "POST" and chosen:
        asked = len(cancelling.cancel_all(jobs, caller=caller))
        said = ngettext("%(count)s job is cancelled or told to stop.", "%(count)s jobs are cancelled or told to stop.", asked)
        messages.success(request, said % {"count": asked})
        return redirect("jobs:list", team.slug)
    may_be = [job for job in jobs if may_cancel(caller, job)]
    paid = 0
    for job in may_be:
        cost = costs.so_far(job, now=now)
        job.cost_so_far = cost  # type: ignore[attr-defined]
        paid += 0 if job.is_rehearsal else cost or 0
    paying = [job for job in may_be if not job.is_rehearsal]
    context = {"team": team, "jobs": may_be, "is_chosen": bool(chosen), "back": request.GET.urlencode(), "paid": paid}
    context["held"] = sum(job.hold.amount for job in paying if job.hold)
    return render(request, "jobs/cancel_several.html", context)


@team_view(Right.CANCEL_OWN)
@require_http_methods(["GET", "POST"])
@never_cache
def stop_time(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """Show when the job is stopped, and move that to any moment up to its ceiling; the buttons of the job's page send here, too."""
    caller = caller_on(request)
    job = _job(team, job_id)
    cancelling.require_hand_on(job, caller)
    with timezone.override(team.time_zone):
        form = StopTimeForm(request.POST or None, initial={"stop_at": job.stop_at})
        if form.is_valid():
            try:
                job = stopping.move(job, caller=caller, **form.wanted())
            except Refusal as refusal:
                refuse(form, refusal, {"stop_after_seconds": "stop_at"})
            else:
                messages.success(request, _("The stop time was moved."))
                return redirect("jobs:detail", team.slug, job.job_id)
        job.refresh_from_db()
        context = {"team": team, "job": job, "form": form, "stop": job_page.stop_time(job, caller, now=timezone.now())}
        context["may_continue"] = caller.may(Right.SUBMIT) and sees_details(caller, job)
        return render(request, "jobs/stop_time.html", context)


@team_view(Right.SUBMIT)
@require_http_methods(["GET", "POST"])
@never_cache
def retry(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """Ask once, say what it can cost, and run a failed or cancelled job again as it was."""
    caller = caller_on(request)
    job = _job(team, job_id)
    _require_details(request, job)
    retrying.require_retryable(job, caller)
    form, quote = RetryForm(request.POST), None
    try:
        quote = submit_page.quote(caller, retrying.spec_of(job), now=timezone.now())
        needs_consent = quote.uploads_data and consent.is_missing(team)
        if request.method == "POST" and form.is_valid() and not needs_consent and form.accept(quote):
            key = form.cleaned_data["key"]
            repeat = Repeat(key=key, body={"retry_of": job.job_id}, is_strict=True) if key else None
            submitted = retrying.retry(job, caller=caller, repeat=repeat)
            messages.success(request, _("The job was submitted again. Nothing else of the first one changes."))
            return redirect(submitted.job)
    except Refusal as refusal:
        refuse(form, refusal, {})
        needs_consent = False
    context = {"team": team, "job": job, "form": form, "quote": quote, "needs_consent": needs_consent}
    return render(request, "jobs/retry.html", context | {"key": request.POST.get("key") or submit_page.new_key()})


@team_view(Right.READ)
@require_GET
@never_cache
def download(request: HttpRequest, *, team: Team, job_id: str, artifact_id: int) -> HttpResponse:
    """Check who asks, and lead on to a link that opens the file for a few minutes."""
    job = _job(team, job_id)
    _require_details(request, job)
    artifact = get_object_or_404(job.artifacts.select_related("job__team"), pk=artifact_id)
    return redirect(downloads.link(artifact))


@login_not_required  # the signature in the link is the login
@require_GET
def file(request: HttpRequest, *, team: str, signed: str, name: str) -> HttpResponseBase:
    """The file of a signed link; one that is too old leads back to where rights are checked.

    The name in the address is for programs that save under it.
    """
    try:
        artifact = downloads.artifact_of(signed, team=team)
    except downloads.LinkExpired as expired:
        job = expired.artifact.job
        return redirect("jobs:download", job.team.slug, job.job_id, expired.artifact.pk)
    if artifact is None:
        raise Http404("No such file.")
    try:
        stored = storages["artifacts"].open(artifact.stored_as)
    except FileNotFoundError as error:
        raise Http404("The file is not in the storage any more.") from error
    return streaming.download(request, streaming.FilePieces(stored), name=PurePosixPath(artifact.key).name, size=artifact.size_bytes)


def _require_details(request: HttpRequest, job: Job) -> None:
    if not sees_details(caller_on(request), job):
        raise NotPermitted("In this team, configs, logs and files are shown to who submitted the job, to leads and to owners.")
