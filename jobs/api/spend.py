"""What was spent, by API: the reports of the portal's Spend page, for automation."""

from typing import Any

from django.http import HttpResponseBase
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import streaming
from accounts.api import AnyAnswer, caller_in, number
from accounts.errors import InvalidInput
from accounts.permissions import IsCaller
from jobs import questions, report_files, reports, spans
from jobs.api import rendering
from jobs.questions import Question
from jobs.report_files import CHARGEBACK, usd
from jobs.reports import By, Charge, Figures, Row

# Other words that people have for the same.
SYNONYMS = {"config": By.PRESET}


class SpendReport(APIView):
    """What was estimated, held and settled, and for what."""

    permission_classes = [IsCaller]
    content_negotiation_class = AnyAnswer

    @extend_schema(
        parameters=[
            OpenApiParameter("by", enum=[*By.values, CHARGEBACK], description="What to sort by; `job` gives a row for each job."),
            OpenApiParameter("from", description="The first day, like 2026-01-31, in the team's zone."),
            OpenApiParameter("to", description="The last day, which is in it."),
            OpenApiParameter("span", enum=spans.Word.values, description="Instead of days; this_month where nothing is said."),
            OpenApiParameter("person", int, description="Only the jobs of this person, by their id."),
            OpenApiParameter("preset", description="Only the jobs with this config; empty for those without a name for theirs."),
            OpenApiParameter("hardware", description="Only the jobs on this hardware profile."),
            OpenApiParameter("token", description="Only the jobs of this token, by its id; `none` for those of people."),
            OpenApiParameter("failed", bool, description="Only the jobs that failed."),
            OpenApiParameter("format", enum=["json", "csv"], description="`Accept: text/csv` does the same."),
        ],
        responses={(200, "application/json"): dict, (200, "text/csv"): str},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Amounts are decimal strings in US dollars. A charge belongs to the day on which it was settled; limits go by the hold's.

        `settled` is what is paid, `held` what is still set aside; `estimate_…` and `held_for_them` are those of the settled
        jobs, beside what they came to. Rehearsals are in nothing but `would_have_cost`. Who may not see the team's spending
        gets their own (`scope` own). The sums by anything are the same, and those of the ledger. `by=job` takes `limit`
        and `offset` as well.
        """
        now = timezone.now()
        question = questions.of(caller_in(request), request.query_params, now=now)
        by = _by(request)
        if _wants_csv(request):
            return _csv(request, question, by)
        return Response(_told(question) | (_by_job(request, question) if by == CHARGEBACK else _sorted(question, By(by))))


def _by(request: Request) -> str:
    word = request.query_params.get("by") or By.DAY
    word = SYNONYMS.get(word, word)
    if word not in (*By.values, CHARGEBACK):
        raise InvalidInput(f"Unknown report '{word}'. Valid ones: {', '.join([*By.values, CHARGEBACK])}.", field="by")
    return word


def _wants_csv(request: Request) -> bool:
    form = request.query_params.get("format")
    if form not in (None, "", "json", "csv"):
        raise InvalidInput(f"Unknown format '{form}'. Valid ones: json, csv.", field="format")
    return form == "csv" or (not form and "text/csv" in request.headers.get("Accept", ""))


def _csv(request: Request, question: Question, by: str) -> HttpResponseBase:
    return streaming.download(
        request._request, report_files.pieces(question, by), name=report_files.name_of(question, by), content_type=report_files.CONTENT_TYPE
    )


def _told(question: Question) -> dict[str, Any]:
    """What was understood."""
    span = question.span
    return {
        "scope": "own" if question.is_own else "team",
        "from": span.first.isoformat(),
        "to": span.last.isoformat(),
        "time_zone": span.time_zone,
        "starts_at": rendering.stamp(span.starts_at),
        "ends_at": rendering.stamp(span.ends_at),
        "currency": "USD",
    }


def _sorted(question: Question, by: By) -> dict[str, Any]:
    report = reports.Spend(question).by(by)
    return {"by": by.value, "total": _figures(report.total), "rows": [_row(row, by) for row in report.rows]}


def _row(row: Row, by: By) -> dict[str, Any]:
    key = row.key.isoformat() if by == By.DAY else row.key
    return {"key": key, "label": row.label, **_figures(row.figures)}


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "jobs": figures.jobs,
        "billed_seconds": f"{figures.billed_seconds:f}",
        "estimate_low": usd(figures.estimate_low),
        "estimate_high": usd(figures.estimate_high),
        "held_for_them": usd(figures.held_for_them),
        "settled": usd(figures.settled),
        "adjusted": usd(figures.adjusted),
        "paid_for_failed": usd(figures.paid_for_failed),
        "jobs_held": figures.jobs_held,
        "held": usd(figures.held),
        "rehearsals": figures.rehearsals,
        "would_have_cost": usd(figures.would_have_cost),
    }


def _by_job(request: Request, question: Question) -> dict[str, Any]:
    limit = number(request, "limit", default=50, least=1, most=500)
    offset = number(request, "offset", default=0, least=0, most=10_000_000)
    spend = reports.Spend(question)
    rows = reports.charges(question)
    corrections = [_charge(reports.charge_of_stray(stray)) for stray in spend.strays]
    return {
        "by": CHARGEBACK,
        "total": _figures(spend.total()),
        "rows": [_charge(reports.charge_of(row)) for row in rows[offset : offset + limit]],
        "total_rows": rows.count(),
        "corrections": corrections,
    }


def _charge(charge: Charge) -> dict[str, Any]:
    return {
        "at": rendering.stamp(charge.at),
        "job_id": charge.job_id or None,
        "reference": charge.reference,
        "run_name": charge.run_name,
        "status": charge.state or None,
        "person": charge.person or None,
        "token": charge.token or None,
        "preset": charge.preset or None,
        "hardware": charge.hardware or None,
        "billed_seconds": None if charge.billed_seconds is None else f"{charge.billed_seconds:f}",
        "usd_per_second": None if charge.usd_per_second is None else f"{charge.usd_per_second:f}",
        "estimate_low": usd(charge.estimate_low) or None,
        "estimate_high": usd(charge.estimate_high) or None,
        "held_for_it": usd(charge.held_for_it),
        "charged": usd(charge.charged),
        "adjusted": usd(charge.adjusted),
        "held": usd(charge.held),
        "is_rehearsal": charge.is_rehearsal,
        "would_have_cost": usd(charge.would_have_cost),
    }
