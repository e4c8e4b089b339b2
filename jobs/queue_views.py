"""The pages of the queue: what waits and why, priorities, start times, pausing, and how many may run."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.errors import Refusal
from accounts.forms import in_words, refuse
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from jobs.forms.queue import PriorityForm, QueueModeForm, QueueNumbersForm, StartForm
from jobs.models import Job
from jobs.models.admission import QueueMode
from jobs.models.catalogue import Provider
from jobs.permissions import may_cancel
from jobs.services import cancelling, queue_changes, queue_modes, queue_places, queue_rules
from jobs.services.queue_rules import Rules

PAGE_SIZE = 50
SAID = {
    QueueMode.PAUSED: gettext_lazy("The team's queue is paused: nothing goes to the provider until somebody resumes it."),
    QueueMode.DRAINING: gettext_lazy("The team's queue is drained: what waits still goes, and nothing new is taken."),
    QueueMode.RUNNING: gettext_lazy("The team's queue runs again."),
}


def _job(team: Team, job_id: str) -> Job:
    return get_object_or_404(team.jobs.visible().select_related("team", "submitted_by", "trainer"), job_id=job_id)


@team_view(Right.READ)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """What of the team's waits, in the order in which it goes."""
    return _page(request, team, QueueNumbersForm(initial=_own_numbers(queue_rules.read(), team)))


@team_view(Right.QUEUE)
@require_POST
def mode(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Pause, drain or resume the team's queue (the button that is pressed says which)."""
    form = QueueModeForm(request.POST)
    if form.is_valid():
        _tried(request, lambda: queue_modes.set_team(caller_on(request), **form.cleaned_data), str(SAID[form.cleaned_data["mode"]]))
    else:
        messages.error(request, _("The reason is too long."))
    return redirect("jobs:queue", team.slug)


@team_view(Right.QUEUE)
@require_POST
def priority(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """Give a job that waits another priority, or its own again."""
    job, form = _job(team, job_id), PriorityForm(request.POST)
    if form.is_valid():
        _tried(
            request,
            lambda: queue_changes.set_priority(job, by=caller_on(request), priority=form.cleaned_data["priority"]),
            _("The priority was changed."),
        )
    else:
        messages.error(request, _("A priority is a whole number from 0 to 50."))
    return redirect("jobs:queue", team.slug)


@team_view(Right.MANAGE)
@require_POST
def numbers(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Set how many of the team's jobs run at the same time, as far as the platform allows."""
    form = QueueNumbersForm(request.POST)
    if form.is_valid():
        try:
            queue_changes.set_numbers(caller_on(request), form.cleaned_data)
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            messages.success(request, _("The numbers were changed."))
            return redirect("jobs:queue", team.slug)
    return _page(request, team, form)


@team_view(Right.CANCEL_OWN)
@require_http_methods(["GET", "POST"])
@never_cache
def start(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """Say when a job that waits may start at the earliest, in the team's time zone, or that it goes when its turn comes."""
    job = _job(team, job_id)
    cancelling.require_hand_on(job, caller_on(request))
    with timezone.override(team.time_zone):
        form = StartForm(request.POST or None, initial={"not_before": job.not_before})
        if request.method == "POST" and form.is_valid():
            wanted = None if "remove" in request.POST else form.cleaned_data["not_before"]
            try:
                job = queue_changes.set_not_before(job, caller=caller_on(request), not_before=wanted)
            except Refusal as refusal:
                refuse(form, refusal)
            else:
                said = _("The start time was changed.") if job.not_before else _("The job goes when its turn comes.")
                messages.success(request, said)
                return redirect("jobs:detail", team.slug, job.job_id)
        context = {"team": team, "job": job, "form": form, "may_move": job.state in queue_changes.WAITS}
        return render(request, "jobs/queue_start.html", context)


def _page(request: HttpRequest, team: Team, form: QueueNumbersForm) -> HttpResponse:
    now, caller, rules = timezone.now(), caller_on(request), queue_rules.read()
    standings = queue_places.of_team(team, now=now)
    page = Paginator(list(standings), PAGE_SIZE).get_page(request.GET.get("page"))
    jobs = team.jobs.select_related("submitted_by", "trainer").in_bulk(list(page))
    rows = [jobs[pk] for pk in page if pk in jobs]
    for job in rows:
        job.standing = standings[job.pk]  # type: ignore[attr-defined]
        job.is_mine_to_cancel = may_cancel(caller, job)  # type: ignore[attr-defined]
    running = team.jobs.launched().admitted()
    context: dict[str, Any] = {
        "team": team,
        "page": page,
        "rows": rows,
        "stopped": _stopped(rules),
        "own": rules.by_team.get(team.pk),
        "numbers": rules.numbers_of(team.pk),
        "is_fair": rules.is_fair,
        "running": running.count(),
        "form": form,
        "may_run": caller.may(Right.QUEUE),
        "may_manage": caller.may(Right.MANAGE),
    }
    return render(request, "jobs/queue.html", context)


def _stopped(rules: Rules) -> list[Any]:
    """The rows of the platform and of its providers that do not just run."""
    rows = [rules.platform, *(rules.by_provider.get(name) for name in Provider.values)]
    return [row for row in rows if row is not None and row.mode != QueueMode.RUNNING]


def _own_numbers(rules: Rules, team: Team) -> dict[str, int | None]:
    own = rules.by_team.get(team.pk)
    return {name: getattr(own, kept, None) for name, kept in queue_changes.LOWERED.items()}


def _tried(request: HttpRequest, change: Callable[[], object], said: str) -> None:
    """Make a change, and tell what came of it."""
    try:
        change()
    except Refusal as refusal:
        messages.error(request, in_words(refusal))
    else:
        messages.success(request, said)
