"""Who calls, and whether the token that they would train with is good."""

from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.api.reading import text
from accounts.api.rendering import person, whoami
from accounts.authentication import PersonAuthentication, TokenAuthentication, overseer_in
from accounts.errors import InvalidInput
from accounts.permissions import IsCaller, IsPerson
from accounts.roles import names_of
from billing import services as billing
from jobs.services import provider as providers


class Me(APIView):
    """The person who calls; for a token its maker, and what the token may do."""

    authentication_classes = [TokenAuthentication, PersonAuthentication]
    permission_classes = [IsPerson]

    def get(self, request: Request) -> Response:
        """Themselves, flat and once more in `user`. `token` is null for who is signed in; a token reads its own limits in it."""
        overseer = overseer_in(request)
        shown = person(overseer.user, overseer)
        caller = overseer.caller
        token: dict[str, Any] | None = None
        if caller and caller.token:
            # What the token may, and not what its maker could.
            shown["permissions"] = names_of(caller.rights)
            limits = billing.statuses(team=caller.team, user=caller.user, token=caller.token, now=timezone.now())
            token = whoami(caller.token) | {"limits": [status.to_json() for status in limits]}
        return Response(shown | {"user": shown, "token": token})


class ValidateOwnCredential(APIView):
    permission_classes = [IsCaller]

    def post(self, request: Request) -> Response:
        """Ask Replicate about the token that the caller's jobs would use: their own, else the team's, else the installation's."""
        given = fields_of(request)
        name = text(given, "credential_name", most=100, default="api_token")
        if text(given, "provider", most=20, default="replicate") != "replicate" or name != "api_token":
            raise InvalidInput("Only the credential api_token for replicate can be validated so.", field="provider")
        found = providers.validate(caller_in(request))
        return Response(
            {
                "valid": found.valid,
                "username": found.account.get("username"),
                "token_source": found.source or None,
                "error": found.error or None,
            }
        )
