"""The pages of a team's configs."""

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.callers import Caller
from accounts.errors import NotPermitted, Refusal
from accounts.forms import refuse
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from jobs import job_page, trainingexamples
from jobs.forms.configs import ConfigCopyForm, ConfigForm
from jobs.models import TrainingConfig
from jobs.permissions import sees_details
from jobs.services import checking, configs


def _configs(team: Team) -> QuerySet[TrainingConfig]:
    return team.configs.select_related("created_by", "dataset")


@team_view(Right.READ)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The team's configs, and which of them the person begins with."""
    caller = caller_on(request)
    context = {"team": team, "configs": _configs(team), "active": configs.active(caller), "may_add": caller.may(Right.DATASETS)}
    return render(request, "jobs/configs.html", context)


@team_view(Right.READ)
@require_GET
@never_cache
def detail(request: HttpRequest, *, team: Team, config_id: int) -> HttpResponse:
    """One config: its settings, and what a submission would say of them."""
    row, caller = get_object_or_404(_configs(team), pk=config_id), caller_on(request)
    context = {
        "team": team,
        "config": row,
        "settings": job_page.shown_settings(row.config),
        "dataloader": job_page.written(row.dataloader) if row.dataloader else "",
        "verdict": checking.check(row.config),
        "is_active": configs.active(caller) == row,
        "may_change": configs.may_change(caller, row),
        "may_add": caller.may(Right.DATASETS),
        "may_submit": caller.may(Right.SUBMIT),
    }
    return render(request, "jobs/config.html", context)


@team_view(Right.DATASETS)
@require_http_methods(["GET", "POST"])
@never_cache
def new(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Make a config: from a template (`?template=`), from a job (`?from=`), or from JSON that is pasted."""
    caller = caller_on(request)
    if request.method == "GET":
        form = ConfigForm(team=team, initial=_beginning(caller, request))
    else:
        form = ConfigForm(request.POST, team=team)
        if form.is_valid():
            try:
                row = configs.create(caller, **form.cleaned_data)
            except Refusal as refusal:
                _refuse(form, refusal)
            else:
                messages.success(request, _("The config was saved."))
                return redirect("jobs:config", team.slug, row.pk)
    return render(request, "jobs/config_new.html", {"team": team, "form": form, "examples": trainingexamples.EXAMPLES})


def _beginning(caller: Caller, request: HttpRequest) -> dict[str, object]:
    """What a fresh form holds. Raises Http404 for a job or template that is not there, NotPermitted for a job's hidden config."""
    if job_id := request.GET.get("from"):
        job = get_object_or_404(caller.team.jobs.visible().select_related("dataset_version__dataset"), job_id=job_id)
        if not sees_details(caller, job):
            raise NotPermitted("In this team, the config of a job is shown to who submitted it, to leads and to owners.")
        dataset = job.dataset_version.dataset_id if job.dataset_version else None
        whole = {**job.config, **({configs.DATALOADER: job.dataloader} if job.dataloader else {})}
        return {"name": job.run_name, "config": whole, "dataset": dataset}
    if name := request.GET.get("template"):
        example = trainingexamples.named(name)
        if example is None:
            raise Http404("No such template.")
        return {"name": example.name, "description": example.description, "config": example.config}
    return {}


@team_view(Right.DATASETS)
@require_http_methods(["GET", "POST"])
@never_cache
def edit(request: HttpRequest, *, team: Team, config_id: int) -> HttpResponse:
    """Change a config's settings and what is said about it."""
    row, caller = get_object_or_404(_configs(team), pk=config_id), caller_on(request)
    _require_hand_on(caller, row)
    initial = {"name": row.name, "description": row.description, "dataset": row.dataset_id, "tags": ", ".join(row.tags)}
    form = ConfigForm(request.POST or None, team=team, initial={**initial, "config": configs.whole(row)})
    if form.is_valid():
        try:
            configs.save(caller, row, **form.cleaned_data)
        except Refusal as refusal:
            _refuse(form, refusal)
        else:
            messages.success(request, _("The config was saved. Jobs that exist keep what they were submitted with."))
            return redirect("jobs:config", team.slug, row.pk)
    return render(request, "jobs/config_edit.html", {"team": team, "form": form, "config": row})


@team_view(Right.DATASETS)
@require_http_methods(["GET", "POST"])
@never_cache
def copy(request: HttpRequest, *, team: Team, config_id: int) -> HttpResponse:
    """The same config under another name, as the person's own."""
    row = get_object_or_404(_configs(team), pk=config_id)
    form = ConfigCopyForm(request.POST or None, initial={"name": f"{row.name}-2"[:128]})
    if form.is_valid():
        try:
            made = configs.copy(caller_on(request), row, form.cleaned_data["name"])
        except Refusal as refusal:
            _refuse(form, refusal)
        else:
            messages.success(request, _("The config was copied."))
            return redirect("jobs:config", team.slug, made.pk)
    return render(request, "jobs/config_copy.html", {"team": team, "form": form, "config": row})


@team_view(Right.DATASETS)
@require_http_methods(["GET", "POST"])
@never_cache
def delete(request: HttpRequest, *, team: Team, config_id: int) -> HttpResponse:
    """Ask once, and delete."""
    row, caller = get_object_or_404(_configs(team), pk=config_id), caller_on(request)
    _require_hand_on(caller, row)
    if request.method == "POST":
        configs.remove(caller, row)
        messages.success(request, _("The config %(name)s was deleted.") % {"name": row.name})
        return redirect("jobs:configs", team.slug)
    return render(request, "jobs/config_delete.html", {"team": team, "config": row})


@team_view(Right.READ)
@require_POST
def activate(request: HttpRequest, *, team: Team, config_id: int) -> HttpResponse:
    """Let the person's forms begin with it."""
    row = get_object_or_404(_configs(team), pk=config_id)
    configs.activate(caller_on(request), row)
    messages.success(request, _("New jobs begin with %(name)s now.") % {"name": row.name})
    return redirect("jobs:config", team.slug, row.pk)


def _require_hand_on(caller: Caller, row: TrainingConfig) -> None:
    if not configs.may_change(caller, row):
        raise NotPermitted("You may change and delete your own configs only.")


def _refuse(form: ConfigCopyForm, refusal: Refusal) -> None:
    """Put a refusal on the form; of a config that is wrong in several places each sentence, at the settings."""
    problems = refusal.details.get("errors", [])
    if not problems:
        is_of_config = (refusal.field or "").split(".")[0] == "config"
        refuse(form, refusal, {str(refusal.field): "config"} if is_of_config else None)
    for problem in problems:
        refuse(form, type(refusal)(problem["message"], field="config"))
