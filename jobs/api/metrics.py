"""Figures of jobs and money as SimpleTuner's own pages and command line ask for them.

Who may not see the team's spending gets the figures of their own jobs. Source: simpletuner-api.md, 13.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.urls import Resolver404, resolve
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, number
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import IsCaller
from billing import services as billing
from jobs import money_bar, questions, reports, spans, usage
from jobs.api import rendering
from jobs.api.provider import NO_BALANCE
from jobs.models.catalogue import Provider
from jobs.questions import Question
from jobs.reports import Figures
from jobs.spans import Span, Word
from jobs.states import State

MOST_DAYS = 365
# How many of the newest charges stand in an answer.
RECENT = 10
PERIODS = {"day": Word.TODAY, "week": Word.THIS_WEEK, "month": Word.THIS_MONTH}
PERIOD = [OpenApiParameter("period", enum=[*PERIODS], description="The calendar period of now, in the team's zone; month unless said.")]
PROMETHEUS = "/api/metrics/prometheus"


class Metrics(APIView):
    """What the last days have seen."""

    permission_classes = [IsCaller]

    @extend_schema(
        parameters=[
            OpenApiParameter("days", int, description="1 to 365, 30 unless said."),
            OpenApiParameter("provider", enum=Provider.values, description="replicate unless said."),
        ]
    )
    def get(self, request: Request) -> Response:
        """Jobs by the day on which they were submitted, money by the day on which it was settled. The sandbox's rehearsals cost nothing.

        `credit_balance` is null, since Replicate has no call for it; `estimated_jobs_remaining` is how many jobs of the usual
        cost the tightest spend limit leaves, null without one.
        """
        caller, now = caller_in(request), timezone.now()
        question = questions.about(caller, _last_days(caller, number(request, "days", default=30, least=1, most=MOST_DAYS), now=now))
        provider = _provider(request)
        jobs = usage.submitted(question.jobs().filter(provider=provider), question.span)
        states, spend = usage.by_state(jobs), reports.Spend(question).by_day()
        is_paid = provider == Provider.REPLICATE
        costs = {row.key: row.figures.settled if is_paid else 0 for row in spend.rows}
        days = usage.by_day(jobs, question.span)
        return Response(
            {
                "credit_balance": None,
                "estimated_jobs_remaining": _jobs_left(caller, spend.total, now=now),
                **rendering.money("total_cost", sum(costs.values())),
                "job_count": sum(states.values()),
                "avg_job_duration_seconds": usage.average_seconds(jobs),
                "jobs_by_status": states,
                "cost_by_day": [_day(day.isoformat(), days[day], costs[day]) for day in question.span.days()],
                "period_days": len(costs),
                "scope": _scope(question),
                **rendering.money("would_have_cost", spend.total.would_have_cost),
            }
        )


def _day(date: str, states: dict[str, int], cost: int) -> dict[str, Any]:
    total = sum(states.values())
    ends = {state.value: states.get(state, 0) for state in (State.COMPLETED, State.FAILED, State.CANCELLED)}
    return {"date": date, "total_jobs": total, **ends, "local_jobs": 0, "cloud_jobs": total, **rendering.money("total_cost_usd", cost)}


class BillingRefresh(APIView):
    """Asking anew for the balance."""

    permission_classes = [IsCaller]

    def post(self, request: Request) -> Response:
        """There is none to be had: `error` says why. `estimated_jobs_remaining` is what the tightest spend limit leaves."""
        caller, now = caller_in(request), timezone.now()
        figures = reports.Spend(questions.about(caller, _last_days(caller, 30, now=now))).total()
        return Response({"credit_balance": None, "estimated_jobs_remaining": _jobs_left(caller, figures, now=now), "error": NO_BALANCE})


class MetricsStatus(APIView):
    """Which figures there are."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """What is kept of jobs and money is always there."""
        return Response(
            {
                "enabled": True,
                "prometheus_enabled": _is_served(PROMETHEUS),
                "prometheus_endpoint": PROMETHEUS,
                "collectors": ["jobs", "costs", "usage"],
            }
        )


class MetricsCosts(APIView):
    """What a calendar period has cost so far."""

    permission_classes = [IsCaller]

    @extend_schema(parameters=PERIOD)
    def get(self, request: Request) -> Response:
        """What is settled, and the newest charges. `estimated_monthly` goes on as this month began."""
        caller, now = caller_in(request), timezone.now()
        question = questions.about(caller, _period(request, caller, now=now))
        total = reports.Spend(question).total()
        month = reports.Spend(replace(question, span=spans.named(Word.THIS_MONTH, caller.team, now=now)))
        newest = reports.newest_charges(question, RECENT)
        return Response(
            {
                "summary": {
                    **rendering.money("total_cost", total.settled),
                    "currency": "USD",
                    **rendering.money("estimated_monthly", _for_the_month(month.total().settled, month.question.span, now=now)),
                    **rendering.money("held", total.held),
                },
                **_split("by_provider", Provider.REPLICATE.value, total.settled),
                **_split("by_job_type", "cloud", total.settled),
                "recent_jobs": [{"job_id": charge.job_id, **rendering.money("cost", charge.settled)} for charge in newest],
                "scope": _scope(question),
            }
        )


class MetricsUsage(APIView):
    """What a calendar period has used so far."""

    permission_classes = [IsCaller]

    @extend_schema(parameters=PERIOD)
    def get(self, request: Request) -> Response:
        """Billed hours times GPUs, the bytes kept for the team, its quota of them (0: none), and how many jobs came and ended."""
        caller, now = caller_in(request), timezone.now()
        question = questions.about(caller, _period(request, caller, now=now))
        jobs = question.jobs().filter(provider=Provider.REPLICATE)
        hours, ended = usage.gpu_hours(question), usage.ended(jobs, question.span)
        return Response(
            {
                "gpu": {"total_hours": round(sum(hours.values()), 6), "by_type": hours},
                "storage": {"used_bytes": usage.stored(caller.team).total, "quota_bytes": usage.storage_quota(caller.team)},
                "jobs": {
                    "submitted": usage.submitted(jobs, question.span).count(),
                    "completed": ended.get(State.COMPLETED, 0),
                    "failed": ended.get(State.FAILED, 0),
                    "cancelled": ended.get(State.CANCELLED, 0),
                },
                "scope": _scope(question),
            }
        )


def _scope(question: Question) -> str:
    return "own" if question.is_own else "team"


def _last_days(caller: Caller, days: int, *, now: datetime) -> Span:
    last = now.astimezone(ZoneInfo(caller.team.time_zone)).date()
    return Span(first=last - timedelta(days=days - 1), last=last, time_zone=caller.team.time_zone)


def _period(request: Request, caller: Caller, *, now: datetime) -> Span:
    word = request.query_params.get("period") or "month"
    if word not in PERIODS:
        raise InvalidInput(f"Unknown period '{word}'. Valid ones: {', '.join(PERIODS)}.", field="period")
    return spans.named(PERIODS[word], caller.team, now=now)


def _provider(request: Request) -> str:
    word = request.query_params.get("provider") or Provider.REPLICATE.value
    if word not in Provider.values:
        raise NotFound(f"Unknown provider '{word}'.", field="provider")
    return word


def _jobs_left(caller: Caller, figures: Figures, *, now: datetime) -> int | None:
    """How many jobs of the usual cost fit under the limit that will refuse first; None where nothing says so."""
    limit = money_bar.tightest(billing.statuses(team=caller.team, user=caller.user, token=caller.token, now=now))
    return limit.left * figures.jobs // figures.settled if limit and figures.settled > 0 else None


def _for_the_month(settled: int, span: Span, *, now: datetime) -> int:
    """What the month comes to if it goes on as it began; the first day counts as a whole one."""
    gone = max(now - span.starts_at, timedelta(days=1))
    return round(settled * ((span.ends_at - span.starts_at) / gone))


def _split(name: str, key: str, micros: int) -> dict[str, Any]:
    """An amount that has but one part."""
    money = rendering.money(key, micros)
    return {name: {key: money[key]}, f"{name}_micros": {key: micros}}


def _is_served(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True
