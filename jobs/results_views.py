"""The page of a team's results, and the wish for another look at one."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import NotPermitted
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from jobs import results_page
from jobs.permissions import sees_details
from jobs.services import deliveries

PAGE_SIZE = 20


@team_view(Right.READ)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The results of the team's finished jobs, newest first."""
    caller = caller_on(request)
    page = Paginator(results_page.results_of(team), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"team": team, "page": page, "rows": [results_page.shown(delivery, caller) for delivery in page]}
    return render(request, "jobs/results.html", {**context, "may_submit": caller.may(Right.SUBMIT)})


@team_view(Right.SUBMIT)
@require_POST
def check(request: HttpRequest, *, team: Team, job_id: str) -> HttpResponse:
    """Have the bucket or the repository of a job looked at again."""
    job = get_object_or_404(team.jobs.visible().select_related("team"), job_id=job_id)
    caller = caller_on(request)
    if not sees_details(caller, job):
        raise NotPermitted("In this team, configs, logs and files are shown to who submitted the job, to leads and to owners.")
    try:
        deliveries.ask_again(job, caller=caller)
    except deliveries.NothingToCheck:
        messages.error(request, _("No result of this job lies in a bucket or at the Hub."))
    else:
        messages.success(request, _("The result is looked at again."))
    return redirect("jobs:detail", team.slug, job.job_id)
