"""API keys by API: the caller's own tokens of the team."""

from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import tokens
from accounts.api import caller_in, fields_of
from accounts.api.reading import text, texts, whole
from accounts.api.rendering import key, stamp
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound
from accounts.models import APIToken
from accounts.permissions import IsCaller, IsConfirmed, needs
from accounts.roles import Right


class Keys(APIView):
    def get_permissions(self) -> list[BasePermission]:
        return [IsCaller()] if self.request.method == "GET" else [needs(Right.TOKENS_OWN, permission="api.keys.own")(), IsConfirmed()]

    def get(self, request: Request) -> Response:
        """The caller's own keys of the team, the newest first, also those that open no door any more."""
        caller, now = caller_in(request), timezone.now()
        found = caller.team.api_tokens.filter(made_by=caller.user).order_by("-created_at", "-pk")[:500]
        return Response([key(token, now=now) for token in found])

    def post(self, request: Request) -> Response:
        """Make one and show it this once. `expires_days` is 90 unless said; `scoped_permissions` are names out of the caller's own.

        Instead of them it takes `scopes` (read, submit, cancel, datasets, billing, admin). With `allowed_addresses`, a list of
        addresses and networks, it works from there only.
        """
        caller, given = caller_in(request), fields_of(request)
        made, plain = tokens.create(
            team=caller.team,
            by=caller.user,
            name=text(given, "name", most=100, least=1),
            scopes=_scopes(caller, given),
            expires_in=timedelta(days=whole(given, "expires_days", least=1, most=365, default=90)),
            allowed_addresses=texts(given, "allowed_addresses") or (),
            caller=caller,
        )
        return Response({"key": plain, "key_info": key(made, now=timezone.now())})


class Key(APIView):
    permission_classes = [IsCaller, IsConfirmed]

    @extend_schema(request=None)
    def delete(self, request: Request, key_id: str) -> Response:
        """Revoke one of the caller's own, or, by whoever manages the team, any of the team's. It ends at once."""
        caller = caller_in(request)
        tokens.revoke(_found(caller, int(key_id)), by=caller.user, caller=caller)
        return Response({"success": True})


class KeyRotation(APIView):
    permission_classes = [IsCaller, IsConfirmed]

    def post(self, request: Request, key_id: str) -> Response:
        """Put another in its place and show that this once. The former one works on for `overlap_days`, 0 to 7, none unless said."""
        caller = caller_in(request)
        former = _found(caller, int(key_id))
        days = whole(fields_of(request), "overlap_days", least=0, most=tokens.LONGEST_OVERLAP.days, default=0)
        made, plain = tokens.rotate(former, by=caller.user, overlap=timedelta(days=days), caller=caller)
        return Response({"key": plain, "key_info": key(made, now=timezone.now()), "former_works_until": stamp(former.revoked_at)})


def _found(caller: Caller, key_id: int) -> APIToken:
    """One of the caller's own, or, for whoever manages the team, any of the team's. Raises NotFound, NotPermitted."""
    if not caller.may(Right.MANAGE):
        caller.require(Right.TOKENS_OWN, permission="api.keys.own")
    known = caller.team.api_tokens.select_related("team")
    mine = known if caller.may(Right.MANAGE) else known.filter(made_by=caller.user)
    found = mine.filter(pk=key_id).first() if key_id < 2**63 else None
    if found is None:
        raise NotFound(f"API key not found: {key_id}")
    return found


def _scopes(caller: Caller, given: dict[str, Any]) -> list[str]:
    """Those that the body asks for, by either of two names; all that the caller has where it asks for none."""
    scopes, permissions = texts(given, "scopes"), texts(given, "scoped_permissions")
    if scopes is None:
        return tokens.scopes_for(caller, permissions)
    if permissions is not None:
        raise InvalidInput("Name either scopes or scoped_permissions, not both.", field="scopes")
    return scopes
