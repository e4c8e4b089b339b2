"""The provider by API: its settings for the team, and the team's token."""

import re
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.errors import InvalidInput, NotFound, Refusal
from accounts.permissions import IsCaller, IsConfirmed, needs
from accounts.roles import Right
from billing import prices, spending
from jobs.api import rendering
from jobs.api.settings_schema import BUCKET, CONFIG, SETTINGS
from jobs.replicate.gateway import ReplicateError
from jobs.services import buckets, catalogue, planning, provider_settings, statuspage
from jobs.services import provider as providers
from jobs.settingkeys import flag

MODEL = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# SimpleTuner's own service, which its clients list.
COMING = "simpletuner_io"
NO_BALANCE = "Replicate has no call that tells an account's balance; see https://replicate.com/account/billing. The spending is ours."


def require_replicate(name: str) -> None:
    """Raises NotFound for a provider that this server does not have."""
    if name == COMING:
        raise NotFound(f"The provider '{name}' is not available yet.", hint="This server runs jobs on replicate.")
    if name != "replicate":
        raise NotFound(f"Unknown provider '{name}'.", hint="This server runs jobs on replicate.")


class Managed(APIView):
    """Everybody in the team reads, who manages it writes."""

    def get_permissions(self) -> list[Any]:
        return [IsCaller()] if self.request.method == "GET" else [needs(Right.MANAGE, permission="admin.config")()]


@extend_schema_view(
    get=extend_schema(responses={(200, "application/json"): CONFIG}),
    put=extend_schema(request={"application/json": SETTINGS}, responses={(200, "application/json"): CONFIG}),
    patch=extend_schema(request={"application/json": SETTINGS}, responses={(200, "application/json"): CONFIG}),
)
class ProviderConfig(Managed):
    """The team's settings for the provider. A change of any of them is kept whole or not at all."""

    def get(self, request: Request, provider: str) -> Response:
        """Every setting with its value in force; secrets are never among them."""
        require_replicate(provider)
        return Response({"provider": provider, "config": provider_settings.read(caller_in(request).team)})

    def put(self, request: Request, provider: str) -> Response:
        """Change the settings that are sent. Null puts one back to its default; an unknown one is refused by its name."""
        require_replicate(provider)
        return Response({"provider": provider, "config": provider_settings.save(caller_in(request), fields_of(request))})

    def patch(self, request: Request, provider: str) -> Response:
        """The same as PUT."""
        return self.put(request, provider)


class ProviderAdvanced(APIView):
    """Outbound network and webhook allowlist, as SimpleTuner's pages show them apart."""

    permission_classes = [needs(Right.MANAGE, permission="admin.config")]

    def get(self, request: Request, provider: str) -> Response:
        """Show them, without the password of the proxy."""
        require_replicate(provider)
        return Response(provider_settings.advanced(caller_in(request).team))

    def patch(self, request: Request, provider: str) -> Response:
        """Change the ones that are sent."""
        require_replicate(provider)
        return Response(provider_settings.save_advanced(caller_in(request), fields_of(request)))


class ProviderToken(APIView):
    permission_classes = [needs(Right.MANAGE, permission="admin.config"), IsConfirmed]

    def put(self, request: Request, provider: str) -> Response:
        """Save the token, encrypted. One that Replicate refuses is saved too, and the answer says so."""
        require_replicate(provider)
        token = fields_of(request).get("api_token")
        if not isinstance(token, str):
            raise InvalidInput("Send the token as text in 'api_token'.", field="api_token")
        found = providers.save_token(caller_in(request), token)
        error = None if found.valid else f"Token saved but validation failed: {found.error}"
        return Response({"success": True, "file_path": None, "error": error})

    def delete(self, request: Request, provider: str) -> Response:
        """Remove the team's token. Jobs that were admitted with it keep it to their end."""
        require_replicate(provider)
        providers.remove_token(caller_in(request))
        return Response({"success": True, "file_path": None, "error": None})


class ProviderValidate(APIView):
    permission_classes = [IsCaller]

    def get(self, request: Request, provider: str) -> Response:
        """Always 200: `valid`, and either whose token it is or what is wrong with it."""
        require_replicate(provider)
        found = providers.validate(caller_in(request))
        return Response(
            {
                "valid": found.valid,
                "user_info": {**found.account, "token_source": found.source},
                "username": found.account.get("username"),
                "error": found.error or None,
            }
        )


class ProviderTestS3(APIView):
    """Whether results can go to a bucket."""

    permission_classes = [needs(Right.MANAGE, permission="admin.config")]

    @extend_schema(
        request={"application/json": BUCKET},
        responses={(200, "application/json"): OpenApiTypes.OBJECT},
    )
    def post(self, request: Request, provider: str) -> Response:
        """Write, read, list and delete a small object there. Always 200 where it could be tried; what is not sent is as saved."""
        require_replicate(provider)
        found = buckets.test(caller_in(request), fields_of(request))
        return Response({"success": found.success, "error": found.error or None, "message": found.notice or None})


class ProviderVersions(APIView):
    """The versions of a trainer at the provider."""

    permission_classes = [IsCaller]

    def get(self, request: Request, provider: str) -> Response:
        """`model_id` is owner/name, the team's default trainer unless given. Trouble at the provider is 200 with `error`."""
        require_replicate(provider)
        caller = caller_in(request)
        own = providers.settings_of(caller.team)
        model = request.query_params.get("model_id") or planning.trainer_for(own.hardware_profile).model
        if not MODEL.fullmatch(model):
            raise InvalidInput("model_id must have the form owner/name.", field="model_id")
        try:
            found, error = providers.versions(caller, model), None
        except (providers.MissingToken, ReplicateError) as problem:
            found, error = [], str(problem)
        listed = [
            {"id": v.id, "created_at": rendering.stamp(v.created_at), "model_id": model, "full_version": f"{model}:{v.id}"} for v in found
        ]
        newest = listed[0]["full_version"] if listed else None
        pinned = own.version_override if own.version_override.startswith(f"{model}:") else None
        return Response({"versions": listed, "current_version": pinned or newest, "error": error})


class ProviderBilling(APIView):
    """The account behind the token, and what our own ledger says of the team's spending."""

    permission_classes = [IsCaller]

    def get(self, request: Request, provider: str) -> Response:
        """The balance is always null: Replicate has no call that tells it."""
        require_replicate(provider)
        caller, now = caller_in(request), timezone.now()
        credential = providers.credential_for(caller)
        periods = {"day": "daily", "week": "weekly", "month": "monthly"}
        spent = {name: spending.in_period(caller.team, kind, now=now) for name, kind in periods.items()}
        return Response(
            {
                "balance": None,
                "credit_balance": None,
                "balance_note": NO_BALANCE,
                "hardware": {offer.profile: offer.info for offer in catalogue.offers(now=now)},
                "default_hardware": catalogue.default_profile(caller.team),
                "account": providers.account_of(caller, credential),
                "spend": {name: prices.as_number(found.settled) for name, found in spent.items()},
                "spend_micros": {name: found.settled for name, found in spent.items()},
                "held": {name: prices.as_number(found.held) for name, found in spent.items()},
                "held_micros": {name: found.held for name, found in spent.items()},
            }
        )


class SystemStatus(APIView):
    """What the provider's status page says."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """Read once a minute. `status` is "unknown" where the page cannot be read; `operational` stays true then."""
        found = statuspage.read()
        return Response(
            {
                "operational": found.word in ("operational", "unknown"),
                **found.lists,
                "status_page_url": found.page_url or None,
                "error": found.error or None,
                "status": found.word,
            }
        )


class PollingStatus(APIView):
    """Whether active jobs are asked about."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """Always: polling is what brings every job home, so nobody can switch it off."""
        return Response({"is_active": True, "preference": None})


class PollingSetting(APIView):
    """What SimpleTuner's pages would switch polling on and off with."""

    permission_classes = [needs(Right.MANAGE, permission="admin.config")]

    def put(self, request: Request) -> Response:
        """True and null change nothing, since it is always on; false is refused."""
        enabled = fields_of(request).get("enabled")
        if enabled is not None and not flag("enabled", enabled):
            raise Refusal("Polling brings every job home, whatever becomes of its webhooks, and cannot be switched off.", field="enabled")
        return Response({"success": True, "enabled": enabled, "is_active": True})
