"""The pages of a team's ledger: its lines, the one hold that some of them are about, whether they prove themselves, and files."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import exports, streaming
from accounts.exports import csv_row, harmless
from accounts.models import Team, User
from accounts.pages import team_view
from accounts.roles import Right
from billing import ledger, prices, proving
from billing.forms import LedgerFilter
from billing.models import Hold, InvoiceLine, LedgerLine
from billing.prices import as_number

PAGE_SIZE = 50
# How many flagged charges stand above the lines.
MOST_FLAGGED = 20
COLUMNS = ["sequence", "at", "kind", "amount_usd", "reference", "is_rehearsal", "by", "reason"]


def _lines(team: Team) -> QuerySet[LedgerLine]:
    return LedgerLine.objects.filter(team=team).order_by("-sequence")


def _people(lines: Iterable[LedgerLine]) -> dict[int, User]:
    return User.objects.in_bulk({line.made_by_id for line in lines if line.made_by_id})


@team_view(Right.SPEND)
@require_GET
@never_cache
def index(request: HttpRequest, *, team: Team) -> HttpResponse:
    """The lines that pass the filter, newest first, what they add up to, and which charges need a look."""
    return render(request, "billing/ledger.html", _listed(request, team))


@team_view(Right.SPEND)
@require_GET
@never_cache
def verify(request: HttpRequest, *, team: Team) -> HttpResponse:
    """Prove the whole ledger and say what was found: alone to htmx, else on top of the lines."""
    found = {"proof": proving.prove(team)}
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "billing/_proof.html", found)
    return render(request, "billing/ledger.html", _listed(request, team) | found)


@team_view(Right.SPEND)
@require_GET
@never_cache
def hold(request: HttpRequest, *, team: Team, hold_id: int) -> HttpResponse:
    """One hold: what it was for, every line about it, and how its charge came about."""
    found = get_object_or_404(team.holds.select_related("price_line", "user", "token", "reviewed_by"), pk=hold_id)
    lines = list(found.lines.order_by("sequence"))
    people = _people(lines)
    seconds, reference = found.billed_seconds, found.provider_reference
    context = {
        "team": team,
        "hold": found,
        "rows": [(line, people.get(line.made_by_id or 0)) for line in lines],
        "released": sum(line.amount for line in lines if line.kind == "release"),
        "adjusted": sum(line.amount for line in lines if line.kind == "adjust"),
        "rate": f"{found.price_line.usd_per_second.normalize():f}",
        "seconds": f"{seconds.normalize():f}" if seconds is not None else "",
        "worked_out": _worked_out(found, seconds) if seconds is not None else None,
        "invoiced": InvoiceLine.objects.counted().filter(provider_reference=reference).select_related("invoice") if reference else [],
    }
    return render(request, "billing/hold.html", context)


def _worked_out(found: Hold, seconds: Decimal) -> int:
    """What the billed time costs at the rate that the hold is pinned to."""
    return prices.charge(usd_per_second=found.price_line.usd_per_second, seconds=seconds)


@team_view(Right.SPEND)
@require_GET
def lines_csv(request: HttpRequest, *, team: Team) -> HttpResponseBase:
    """The lines that pass the filter as CSV to reckon with, amounts exact and in US dollars."""
    lines = LedgerFilter(request.GET).of(_lines(team), team=team, now=timezone.now())
    names = dict(User.objects.filter(memberships__team=team).values_list("pk", "username"))
    pieces = _rows(lines.iterator(chunk_size=2000), names)
    return streaming.download(request, pieces, name=f"{team.slug}-ledger-lines.csv", content_type=exports.CONTENT_TYPES["csv"])


@team_view(Right.SPEND)
@require_GET
def export(request: HttpRequest, *, team: Team, form: str) -> HttpResponseBase:
    """The whole ledger as a file, with what is needed to verify it elsewhere."""
    if form not in exports.CONTENT_TYPES:
        raise Http404("There is no such format.")
    return proving.download(request, team, form)


def _listed(request: HttpRequest, team: Team) -> dict[str, Any]:
    form = LedgerFilter(request.GET)
    lines = form.of(_lines(team), team=team, now=timezone.now())
    page = Paginator(lines, PAGE_SIZE).get_page(request.GET.get("page"))
    people = _people(page)
    return {
        "team": team,
        "form": form,
        "chosen": form.chosen(),
        "page": page,
        "rows": [(line, people.get(line.made_by_id or 0)) for line in page],
        "sums": ledger.totals_of(lines),
        "flagged": team.holds.needing_a_look().order_by("-settled_at")[:MOST_FLAGGED],
    }


def _rows(lines: Iterable[LedgerLine], names: dict[int, str]) -> Iterator[bytes]:
    yield csv_row(COLUMNS)
    for line in lines:
        amount, at = f"{as_number(line.amount):f}", line.at.isoformat(timespec="seconds")
        by = names.get(line.made_by_id or 0, "")
        yield csv_row([line.sequence, at, line.kind, amount, harmless(line.reference), line.is_rehearsal, by, harmless(line.reason)])
