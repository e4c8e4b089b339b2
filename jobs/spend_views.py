"""The page of a team's money: its limits, its periods, and every line of its ledger."""

import csv
import io
from collections.abc import Iterable, Iterator

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.models import Team, User
from accounts.pages import team_view
from accounts.roles import Right
from billing import services as billing
from billing import spending
from billing.models import LedgerLine, LimitPeriodKind
from billing.prices import as_number
from jobs import streaming
from jobs.forms import LedgerFilter

PAGE_SIZE = 50
COLUMNS = ["sequence", "at", "kind", "amount_usd", "reference", "is_rehearsal", "by", "reason"]
# What spreadsheets would take for a formula.
FORMULA = ("=", "+", "@", "\t", "\r")


def _lines(team: Team) -> QuerySet[LedgerLine]:
    return LedgerLine.objects.filter(team=team).order_by("-sequence")


@team_view(Right.SPEND)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """How the limits stand, what the day, week and month have seen, and the lines behind it, newest first."""
    now = timezone.now()
    form = LedgerFilter(request.GET)
    page = Paginator(form.of(_lines(team)), PAGE_SIZE).get_page(request.GET.get("page"))
    people = User.objects.in_bulk({line.made_by_id for line in page if line.made_by_id})
    context = {
        "team": team,
        "limits": billing.statuses(team=team, user=None, now=now),
        "periods": [(kind.label, spending.in_period(team, kind, now=now)) for kind in LimitPeriodKind],
        "form": form,
        "chosen": form.chosen(),
        "page": page,
        "rows": [(line, people.get(line.made_by_id or 0)) for line in page],
    }
    return render(request, "jobs/spend.html", context)


@team_view(Right.SPEND)
@require_GET
def export(request: HttpRequest, *, team: Team) -> HttpResponseBase:
    """The lines that pass the filter as CSV, amounts exact and in US dollars."""
    lines = LedgerFilter(request.GET).of(_lines(team))
    names = dict(User.objects.filter(memberships__team=team).values_list("pk", "username"))
    return streaming.download(
        request, _rows(lines.iterator(chunk_size=2000), names), name=f"{team.slug}-ledger.csv", content_type="text/csv; charset=utf-8"
    )


def _rows(lines: Iterable[LedgerLine], names: dict[int, str]) -> Iterator[bytes]:
    yield _row(COLUMNS)
    for line in lines:
        by = names.get(line.made_by_id or 0, "")
        amount = f"{as_number(line.amount):f}"
        at = line.at.isoformat(timespec="seconds")
        yield _row([line.sequence, at, line.kind, amount, _plain(line.reference), line.is_rehearsal, by, _plain(line.reason)])


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _row(values: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue().encode()
