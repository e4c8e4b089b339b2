"""API keys by API: the caller's own tokens of the team."""

from datetime import timedelta

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import tokens
from accounts.api import caller_in, fields_of
from accounts.api.reading import text, texts, whole
from accounts.api.rendering import key
from accounts.errors import NotFound
from accounts.models import APIToken
from accounts.permissions import IsCaller, needs
from accounts.roles import Right


class Keys(APIView):
    def get_permissions(self) -> list[BasePermission]:
        return [IsCaller()] if self.request.method == "GET" else [needs(Right.TOKENS_OWN, permission="api.keys.own")()]

    def get(self, request: Request) -> Response:
        """The caller's own keys of the team, the newest first, also those that open no door any more."""
        caller, now = caller_in(request), timezone.now()
        found = caller.team.api_tokens.filter(made_by=caller.user).order_by("-created_at", "-pk")[:500]
        return Response([key(token, now=now) for token in found])

    def post(self, request: Request) -> Response:
        """Make one and show it this once. `expires_days` is 90 unless said; `scoped_permissions` are names out of the caller's own."""
        caller, given = caller_in(request), fields_of(request)
        name = text(given, "name", most=100, least=1)
        days = whole(given, "expires_days", least=1, most=365, default=90)
        scopes = tokens.scopes_for(caller, texts(given, "scoped_permissions"))
        made, plain = tokens.create(
            team=caller.team, by=caller.user, name=name, scopes=scopes, expires_in=timedelta(days=days), caller=caller
        )  # fmt: skip
        return Response({"key": plain, "key_info": key(made, now=timezone.now())})


class Key(APIView):
    permission_classes = [IsCaller]

    @extend_schema(request=None)
    def delete(self, request: Request, key_id: str) -> Response:
        """Revoke one of the caller's own, or, by whoever manages the team, any of the team's. It ends at once."""
        caller = caller_in(request)
        tokens.revoke(self._found(request, int(key_id)), by=caller.user, caller=caller)
        return Response({"success": True})

    def _found(self, request: Request, key_id: int) -> APIToken:
        caller = caller_in(request)
        if not caller.may(Right.MANAGE):
            caller.require(Right.TOKENS_OWN, permission="api.keys.own")
        known = caller.team.api_tokens.select_related("team")
        mine = known if caller.may(Right.MANAGE) else known.filter(made_by=caller.user)
        found = mine.filter(pk=key_id).first() if key_id < 2**63 else None
        if found is None:
            raise NotFound(f"API key not found: {key_id}")
        return found
