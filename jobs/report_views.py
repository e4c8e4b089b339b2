"""The pages of what was spent: by day, person, config, hardware and token, and job by job. All of it also as CSV."""

from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import streaming
from accounts.errors import InvalidInput
from accounts.forms import in_words
from accounts.models import Team, User
from accounts.pages import caller_on, team_view
from accounts.roles import Right
from jobs import charts, questions, report_files, reports, spans
from jobs.questions import BY_PEOPLE, Question
from jobs.report_files import CHARGEBACK
from jobs.reports import By, Figures, Report, Row
from jobs.states import State

PAGE_SIZE = 50
# What stands in the place of a name.
NO_JOB = _("Corrections without a job")
NAMELESS: dict[By, Promise] = {By.PRESET: _("Config without a name"), By.TOKEN: _("Submitted by people themselves")}
HEADS: dict[By, Promise] = {
    By.DAY: _("Day"),
    By.PERSON: _("Person"),
    By.PRESET: _("Config or preset"),
    By.HARDWARE: _("Hardware"),
    By.TOKEN: _("API token"),
}


@team_view(Right.READ)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """What the days asked for have cost, sorted in every way. Who may not see the team's spending sees their own."""
    question, trouble = _asked(request)
    spend = reports.Spend(question)
    by_day = spend.by_day()
    others = [by for by in By if by != By.DAY and not (by == By.PERSON and question.is_own)]
    context = {
        "total": by_day.total,
        "chart": charts.day_bars([(row.key, row.figures.settled, row.figures.held) for row in by_day.rows]),
        "days": _table(question, By.DAY, by_day),
        "tables": [_table(question, by, spend.by(by)) for by in others],
        "charges_url": _charges_url(question),
        "failed_url": _charges_url(question, failed="1"),
        "chargeback_url": _file_url(question, CHARGEBACK),
    }
    return render(request, "jobs/report.html", _frame(request, question, trouble) | context)


@team_view(Right.READ)
@require_GET
@never_cache
def charges(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The jobs behind a figure, each with its estimate, hold and charge; newest first."""
    question, trouble = _asked(request)
    spend = reports.Spend(question)
    page = Paginator(reports.charges(question).reverse(), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "total": spend.total(),
        "page": page,
        "rows": [reports.charge_of(row) for row in page],
        "corrections": [reports.charge_of_stray(stray) for stray in spend.strays],
        "narrowed": _narrowed(question),
        "report_url": f"{reverse('jobs:report', args=[team.slug])}?{urlencode(question.days)}",
        "chargeback_url": _file_url(question, CHARGEBACK),
    }
    return render(request, "jobs/charges.html", _frame(request, question, trouble) | context)


@team_view(Right.READ)
@require_GET
def export(request: HttpRequest, *, team: Team, by: str) -> HttpResponseBase:
    """A report as CSV, or with `job` the chargeback: a row for each job."""
    if by not in (*By.values, CHARGEBACK):
        raise Http404("There is no such report.")
    caller = caller_on(request)
    question = questions.of(caller, request.GET, now=timezone.now())
    pieces = report_files.pieces(question, by)
    return streaming.download(request, pieces, name=report_files.name_of(question, by), content_type=report_files.CONTENT_TYPE)


def _asked(request: HttpRequest) -> tuple[Question, str]:
    """The question of the address; this month's and what was wrong where it cannot be read."""
    caller = caller_on(request)
    now = timezone.now()
    try:
        return questions.of(caller, request.GET, now=now), ""
    except InvalidInput as refusal:
        return questions.of(caller, {}, now=now), in_words(refusal)


def _frame(request: HttpRequest, question: Question, trouble: str) -> dict[str, Any]:
    """What every page of a question has: the days that can be chosen, and those that are."""
    span = question.span
    words = [(word.label, question.query(days={"span": word.value}), word == span.word) for word in spans.Word]
    return {"team": question.team, "question": question, "span": span, "words": words, "trouble": trouble}


def _table(question: Question, by: By, report: Report) -> dict[str, Any]:
    """A report as a table: each row with its name and where what makes it up is shown."""
    return {
        "by": by.value,
        "title": by.label,
        "head": HEADS[by],
        "rows": [(row, _name(by, row), _behind(question, by, row)) for row in report.rows],
        "file_url": _file_url(question, by),
    }


def _behind(question: Question, by: By, row: Row) -> str:
    """Where the jobs of a row are shown; "" where there are none."""
    return _charges_url(question, **_filter(by, row)) if row.figures != Figures() else ""


def _name(by: By, row: Row) -> Any:
    if by == By.DAY:
        return row.key
    return row.label or (NO_JOB if row.key is None else NAMELESS.get(by, row.key))


def _filter(by: By, row: Row) -> dict[str, Any]:
    """What narrows a question to a row. Without a job there is nothing to filter by: the page has those below its table."""
    if by == By.DAY:
        return {"days": {"from": row.key.isoformat(), "to": row.key.isoformat()}}
    if row.key is None:
        return {}
    return {by.value: BY_PEOPLE if (by, row.key) == (By.TOKEN, 0) else str(row.key)}


def _narrowed(question: Question) -> list[tuple[Any, str]]:
    """What a question is narrowed to, in words."""
    person = User.objects.filter(pk=question.person_id).first() if question.person_id and not question.is_own else None
    token = question.team.api_tokens.filter(pk=question.token_id).first() if question.token_id else None
    known: list[tuple[Any, Any]] = [
        (HEADS[By.PERSON], str(person or "")),
        (HEADS[By.PRESET], NAMELESS[By.PRESET] if question.preset == "" else question.preset),
        (HEADS[By.HARDWARE], question.hardware),
        (HEADS[By.TOKEN], NAMELESS[By.TOKEN] if question.token_id == 0 else str(token or "")),
        (_("State"), State.FAILED.label if question.only_failed else ""),
    ]
    return [(head, word) for head, word in known if word]


def _charges_url(question: Question, **narrower: Any) -> str:
    return f"{reverse('jobs:charges', args=[question.team.slug])}?{question.query(**narrower)}"


def _file_url(question: Question, by: str) -> str:
    return f"{reverse('jobs:report_export', args=[question.team.slug, by])}?{question.query()}"
