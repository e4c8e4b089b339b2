"""The team's Replicate token by API: save it, and ask whether it is good."""

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import IsCaller, needs
from accounts.roles import Right
from jobs.services import provider as providers


def require_replicate(name: str) -> None:
    """Raises NotFound for a provider that this server does not have."""
    if name != "replicate":
        raise NotFound(f"Unknown provider '{name}'.", hint="This server runs jobs on replicate.")


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
