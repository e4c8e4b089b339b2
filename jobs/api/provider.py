"""The provider by API: its settings for the team, and the team's token."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import IsCaller, needs
from accounts.roles import Right
from jobs.services import provider as providers
from jobs.services import provider_settings


def require_replicate(name: str) -> None:
    """Raises NotFound for a provider that this server does not have."""
    if name != "replicate":
        raise NotFound(f"Unknown provider '{name}'.", hint="This server runs jobs on replicate.")


class Managed(APIView):
    """Everybody in the team reads, who manages it writes."""

    def get_permissions(self) -> list[Any]:
        return [IsCaller()] if self.request.method == "GET" else [needs(Right.MANAGE, permission="admin.config")()]


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
    permission_classes = [needs(Right.MANAGE, permission="admin.config")]

    def put(self, request: Request, provider: str) -> Response:
        """Save the token, encrypted. One that Replicate refuses is saved too, and the answer says so."""
        require_replicate(provider)
        token = fields_of(request).get("api_token")
        if not isinstance(token, str):
            raise InvalidInput("Send the token as text in 'api_token'.", field="api_token")
        found = providers.save_token(caller_in(request), token)
        error = None if found.valid else f"Token saved but validation failed: {found.error}"
        return Response({"success": True, "file_path": None, "error": error})


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
