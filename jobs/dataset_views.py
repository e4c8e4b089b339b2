"""The pages of a team's datasets."""

from collections.abc import Callable

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts.errors import Refusal
from accounts.forms import refuse
from accounts.models import Team
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from jobs import thumbnails
from jobs.forms.datasets import DatasetForm, UploadForm
from jobs.models import Dataset, DatasetFile, DatasetVersion
from jobs.services import datasets, storage_quotas

PAGE_SIZE = 60


def _datasets(team: Team) -> QuerySet[Dataset]:
    return team.datasets.filter(removed_at=None).select_related("created_by").prefetch_related("versions")


@team_view(Right.READ)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The team's datasets with their newest versions."""
    context = {"team": team, "datasets": _datasets(team), "may_add": caller_on(request).may(Right.DATASETS)}
    return render(request, "jobs/datasets.html", context)


@team_view(Right.DATASETS)
@require_http_methods(["GET", "POST"])
@never_cache
def new(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Make a dataset from files or a zip."""
    form = DatasetForm(request.POST or None, request.FILES or None)
    caller = caller_on(request)

    def keep() -> DatasetVersion:
        given = form.cleaned_data
        return datasets.create(caller, name=given["name"], description=given["description"], files=form.incoming())

    version = _kept(form, keep)
    if version is None:
        return render(request, "jobs/dataset_new.html", {"team": team, "form": form})
    messages.success(request, _("The dataset was added."))
    _warn(request)
    return redirect("jobs:dataset", team.slug, version.dataset_id)


@team_view(Right.DATASETS)
@require_http_methods(["GET", "POST"])
@never_cache
def add(request: HttpRequest, *, team: Team, dataset_id: int) -> HttpResponse:
    """Add a version that holds exactly what is sent."""
    dataset = get_object_or_404(_datasets(team), pk=dataset_id)
    form = UploadForm(request.POST or None, request.FILES or None)
    newest = dataset.versions.first()
    version = _kept(form, lambda: datasets.add_version(caller_on(request), dataset, files=form.incoming()))
    if version is None:
        return render(request, "jobs/dataset_add.html", {"team": team, "form": form, "dataset": dataset, "newest": newest})
    if version == newest:
        messages.warning(request, _("These are the files of the newest version, so nothing was added."))
    else:
        messages.success(request, _("Version %(number)s was added.") % {"number": version.number})
        _warn(request)
    return redirect("jobs:dataset", team.slug, dataset.pk)


def _warn(request: HttpRequest) -> None:
    """Say of which quota of storage little is left."""
    for warning in storage_quotas.warnings(caller_on(request)):
        messages.warning(request, format_html('<span lang="en">{}</span>', warning))


def _kept(form: UploadForm, keep: Callable[[], DatasetVersion]) -> DatasetVersion | None:
    """What became of a sent form; None if it must be shown (again)."""
    if not form.is_valid():
        return None
    try:
        return keep()
    except Refusal as refusal:
        refuse(form, refusal, {"archive": "files"})
        return None


@team_view(Right.READ)
@require_GET
@never_cache
def detail(request: HttpRequest, *, team: Team, dataset_id: int) -> HttpResponse:
    """One version of a dataset, picture by picture: the newest, or the one that `?version=` names."""
    dataset = get_object_or_404(_datasets(team), pk=dataset_id)
    versions = list(dataset.versions.all())
    asked = request.GET.get("version", "")
    version = next((row for row in versions if str(row.number) == asked), None) if asked else next(iter(versions), None)
    if version is None:
        raise Http404("No such version.")
    page = Paginator(version.files.select_related("blob"), PAGE_SIZE).get_page(request.GET.get("page"))
    caller = caller_on(request)
    context = {
        "team": team,
        "dataset": dataset,
        "versions": versions,
        "version": version,
        "page": page,
        "without_caption": version.files.filter(caption="").count(),
        "may_add": caller.may(Right.DATASETS),
        "may_submit": caller.may(Right.SUBMIT),
    }
    return render(request, "jobs/dataset.html", context)


@team_view(Right.READ)
@require_GET
@cache_control(private=True, max_age=86_400, immutable=True)
def thumbnail(request: HttpRequest, *, team: Team, file_id: int) -> HttpResponse:
    """A small picture of one image of the team. A file of a version never changes, so neither does this."""
    files = DatasetFile.objects.filter(version__dataset__team=team, version__dataset__removed_at=None).select_related("blob")
    file = get_object_or_404(files, pk=file_id)
    try:
        return HttpResponse(thumbnails.of(file.blob), content_type=thumbnails.CONTENT_TYPE)
    except thumbnails.NoPicture:
        raise Http404("There is no picture of this file.") from None
