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
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts.errors import NotPermitted
from accounts.models import Team
from accounts.pages import team_view
from accounts.roles import Right
from jobs import costs, downloads, job_page, streaming
from jobs.forms import JobFilter
from jobs.models import Job
from jobs.permissions import sees_details
from jobs.services import cancelling, logs, watching

PAGE_SIZE = 25


def _job(team: Team, job_id: str) -> Job:
    jobs = team.jobs.visible().select_related("team", "submitted_by", "trainer", "hold", "price_line", "dataset_version__dataset", "parent")
    return get_object_or_404(jobs, job_id=job_id)


@team_view(Right.READ)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The team's jobs, newest first. Asked by htmx it answers the rows alone, or 204 while nothing has changed."""
    now = timezone.now()
    form = JobFilter(request.GET)
    jobs = form.of(team.jobs.visible()).select_related("submitted_by", "trainer", "hold", "price_line", "progress")
    page = Paginator(jobs, PAGE_SIZE).get_page(request.GET.get("page"))
    for job in page:
        job.cost_so_far = costs.so_far(job, now=now)  # type: ignore[attr-defined]
    context = {"team": team, "form": form, "chosen": form.chosen(), "page": page, "is_live": any(not job.is_terminal for job in page)}
    context["may_submit"] = request.caller.may(Right.SUBMIT)  # type: ignore[attr-defined]
    rows = render_to_string("jobs/_rows.html", context, request)
    digest = job_page.digest(rows)
    if not request.htmx:  # type: ignore[attr-defined]
        return render(request, "jobs/list.html", {**context, "rows": rows, "digest": digest})
    if request.GET.get("seen") == digest:
        return HttpResponse(status=204)
    return render(request, "jobs/_list.html", {**context, "rows": rows, "digest": digest})


@team_view(Right.READ)
@require_GET
@never_cache
def detail(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """The page of one job."""
    now = timezone.now()
    job = _job(team, job_id)
    watching.note(job, now=now)
    context = job_page.record(job, request.caller, now=now)  # type: ignore[attr-defined]
    parts = job_page.parts_of(context, request)
    context |= {"parts": parts, "seen": _seen(parts)}
    if context["sees_details"]:
        context |= {"log": job_page.log_tail(job), "settings": job_page.shown_settings(job.config)}
    return render(request, "jobs/detail.html", context)


@team_view(Right.READ)
@require_GET
@never_cache
def live(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """What changed on the page of a job since its cursor and the digests that it has."""
    now = timezone.now()
    job = _job(team, job_id)
    watching.note(job, now=now)
    context = job_page.record(job, request.caller, now=now)  # type: ignore[attr-defined]
    parts = job_page.parts_of(context, request)
    known = request.GET.get("seen", "").split(".")
    changed = [part for part in parts.values() if job_page.digest(part) not in known]
    context |= {"changed": changed, "seen": _seen(parts)}
    if context["sees_details"]:
        context["log"] = job_page.log_from(job, _cursor(request))
    return render(request, "jobs/_live.html", context)


def _seen(parts: dict[str, str]) -> str:
    return ".".join(job_page.digest(part) for part in parts.values())


def _cursor(request: HttpRequest) -> int:
    given = request.GET.get("log", "0")
    return int(given) if given.isdecimal() and len(given) <= 9 else 0


@team_view(Right.READ)
@require_GET
def log(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponseBase:
    """The whole log as a text file."""
    job = _job(team, job_id)
    _require_details(request, job)
    pieces = (piece.encode() for piece in logs.pieces(job))
    return streaming.download(request, pieces, name=f"{job.job_id}.log", content_type="text/plain; charset=utf-8")


@team_view(Right.CANCEL_OWN)
@require_http_methods(["GET", "POST"])
def cancel(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """Ask once, say what will be paid, and cancel."""
    now = timezone.now()
    job = _job(team, job_id)
    cancelling.require_hand_on(job, request.caller)  # type: ignore[attr-defined]
    if request.method == "POST":
        try:
            job = cancelling.cancel(job, caller=request.caller)  # type: ignore[attr-defined]
        except cancelling.InvalidJobState:
            messages.error(request, _("This job is already over, so there is nothing to cancel."))
        else:
            messages.success(request, _("The job was cancelled.") if job.is_terminal else _("The provider is told to stop the job."))
        return redirect("jobs:detail", team.slug, job.job_id)
    context = {"team": team, "job": job, "cost": costs.so_far(job, now=now), "is_sent": bool(job.prediction_id) or hasattr(job, "intent")}
    return render(request, "jobs/cancel.html", context)


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
    if not sees_details(request.caller, job):  # type: ignore[attr-defined]
        raise NotPermitted("In this team, configs, logs and files are shown to who submitted the job, to leads and to owners.")
