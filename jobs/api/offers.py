"""What can be trained on and what it costs, by API."""

from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import credentials
from accounts.api import caller_in
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound
from accounts.models import CredentialKind
from accounts.permissions import IsCaller, needs
from accounts.roles import Right
from billing import documented, prices
from jobs import settingkeys
from jobs.api import rendering
from jobs.services import catalogue, estimating, provider, rehearsing
from jobs.services.catalogue import Offer
from jobs.services.pricing import LONGEST_RUN_SECONDS

MOST_STEPS = 10_000_000


class ProviderList(APIView):
    """The providers that SimpleTuner's clients know; only Replicate runs jobs here."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """Replicate with its trainers, our sandbox where it is offered, and SimpleTuner's own service as coming."""
        replicate = _replicate(caller_in(request))
        rehearsal = [{**replicate, **_SANDBOX}] if rehearsing.is_offered() else []
        return Response({"providers": [replicate, *rehearsal, _COMING]})


# Trains on the same profiles, at the same prices that nobody pays.
_SANDBOX: dict[str, Any] = {
    "id": "sandbox",
    "name": "Sandbox",
    "description": "A rehearsal on this server's own stand-in for Replicate: free, and nothing is really trained.",
    "version": None,
    "configured": True,
}


_COMING: dict[str, Any] = {
    "id": "simpletuner_io",
    "name": "SimpleTuner.io",
    "description": "SimpleTuner's own service. Not available yet.",
    "model": None,
    "version": None,
    "hardware": "",
    "cost_per_hour": None,
    "configured": False,
    "coming_soon": True,
    "hardware_profile": "",
    "hardware_profiles": [],
}


def _replicate(caller: Caller) -> dict[str, Any]:
    offers = catalogue.offers(now=timezone.now())
    chosen = catalogue.default_profile(caller.team)
    default = next((offer for offer in offers if offer.profile == chosen), None)
    own = provider.settings_of(caller.team)
    return {
        "id": "replicate",
        "name": "Replicate",
        "description": "Trains on Replicate's GPUs, billed by the second.",
        "model": default.trainer.model if default else None,
        "version": own.version_override or None,
        "hardware": default.trainer.hardware_type if default else "",
        "cost_per_hour": default.info["cost_per_hour"] if default else None,
        "configured": credentials.find(team=caller.team, user=caller.user, kind=CredentialKind.REPLICATE) is not None,
        "coming_soon": False,
        "hardware_profile": chosen,
        "hardware_profiles": [_profile(offer) for offer in offers],
    }


def _profile(offer: Offer) -> dict[str, Any]:
    trainer = offer.trainer
    return {
        "id": trainer.profile,
        "model": trainer.model,
        "label": trainer.label,
        "hardware_type": trainer.hardware_type,
        "cost_per_hour": offer.info["cost_per_hour"],
        "cost_per_second": offer.info["cost_per_second"],
    }


class HardwareOptions(APIView):
    """The hardware profiles that a submission may name, with today's prices."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """All that have a price, the default first."""
        offers = catalogue.offers(now=timezone.now())
        listed = [{"id": offer.profile, "available": True, **offer.info} for offer in offers]
        message = None if listed else "The price book has no price for any hardware, so no job can be admitted."
        return Response({"hardware": listed, "default_hardware": catalogue.default_profile(caller_in(request).team), "message": message})


class CostEstimate(APIView):
    """What a run would likely cost, and what it could cost at most."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    def post(self, request: Request) -> Response:
        """A dataloader list as SimpleTuner sends it, or `config`, `hardware_profile`, `max_train_steps`, `max_seconds`,
        `stop_after_seconds`, `dataset`. With steps it says what a submission would be told: the same function answers both.
        """
        asked = request.data if isinstance(request.data, dict) else {}
        if not isinstance(request.data, dict | list):
            raise InvalidInput("The body must be an object or a list.")
        quote = estimating.estimate(
            caller_in(request),
            config=_object(asked, "config"),
            max_train_steps=_whole(asked, "max_train_steps", MOST_STEPS),
            max_seconds=_whole(asked, "max_seconds", LONGEST_RUN_SECONDS),
            stop_after_seconds=_whole(asked, "stop_after_seconds", LONGEST_RUN_SECONDS),
            hardware_profile=_text(asked, "hardware_profile"),
            dataset=_text(asked, "dataset"),
            now=timezone.now(),
        )
        estimate, price = quote.estimate, quote.price
        high = estimate.high if estimate else None
        return Response(
            {
                "has_estimate": estimate is not None,
                **rendering.money("estimated_cost_usd", high),
                "estimated_cost": prices.as_number(high) if high is not None else None,
                **rendering.money("estimated_cost_low_usd", estimate.low if estimate else None),
                "estimated_from_runs": estimate.runs if estimate else None,
                "avg_duration_seconds": round(estimate.seconds, 1) if estimate else None,
                "hardware_cost_per_hour": catalogue.rates(quote.price_line)["cost_per_hour"],
                "data_size_mb": round(quote.data_bytes / 1024 / 1024, 2),
                "message": quote.message,
                **rendering.money("worst_case_usd", price.worst_case if price else None),
                "ceiling_seconds": price.ceiling_seconds if price else None,
                "stop_after_seconds": price.stop_after_seconds if price else None,
                "hardware_profile": quote.trainer.profile,
            }
        )


class CostLimitStatus(APIView):
    """The documented cost limit beside what its calendar period has seen, from the same figures that refuse a job."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """`current_spend` is settled and held together."""
        if request.query_params.get("provider", "replicate") not in ("replicate", ""):
            raise NotFound(f"Unknown provider '{request.query_params['provider']}'.", field="provider")
        found = documented.standing(caller_in(request).team, now=timezone.now())
        return Response(
            {
                "enabled": found.limit.is_enabled,
                **rendering.money("limit_amount", found.limit.amount),
                **rendering.money("top_up", found.top_up),
                "period": found.limit.period,
                "action": found.limit.action,
                **rendering.money("current_spend", found.spending.total),
                "percent_used": found.percent,
                "is_exceeded": found.is_exceeded,
                "is_warning": found.is_warning,
                "message": found.message or None,
                **rendering.money("held", found.spending.held),
                "resets_at": rendering.stamp(found.spending.ends_at),
            }
        )


def _object(asked: dict[str, Any], name: str) -> dict[str, Any]:
    value = asked.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object.", field=name)
    return value


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    return settingkeys.text(name, value, most=200) if value is not None else ""


def _whole(asked: dict[str, Any], name: str, most: int) -> int | None:
    value = asked.get(name)
    return settingkeys.whole(1, most)(name, value) if value is not None else None
