"""Settings of the team's credentials, of making accounts, and a person's hints, by API."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import ages, hints, registration
from accounts.ages import Ages
from accounts.api import caller_in, fields_of
from accounts.errors import InvalidInput
from accounts.models import Registration
from accounts.permissions import IsCaller, needs
from accounts.roles import Right
from jobs.settingkeys import flag, whole

DAYS = whole(1, 365)
PERCENT = whole(1, 99)


class CredentialSettings(APIView):
    """When the team's pages call a credential old."""

    permission_classes = [needs(Right.MANAGE, permission="admin.config")]

    def get(self, request: Request) -> Response:
        """Days until it is old, and whether a hint comes from a percentage of them on."""
        return Response(_ages(ages.of(caller_in(request).team)))

    def put(self, request: Request) -> Response:
        """Change the ones that are sent: days 1 to 365, percentage 1 to 99."""
        caller, given = caller_in(request), fields_of(request)
        kept = ages.of(caller.team)
        asked = Ages(
            days=_read(given, "stale_threshold_days", DAYS, kept.days),
            warns_early=_read(given, "early_warning_enabled", flag, kept.warns_early),
            warning_percent=_read(given, "early_warning_percent", PERCENT, kept.warning_percent),
        )
        return Response(_ages(ages.choose(caller, asked)))


class SeesRegistration(BasePermission):
    """Who manages a team, and the platform's staff."""

    def has_permission(self, request: Request, view: object) -> bool:
        known = IsCaller().has_permission(request, view)
        if not (caller_in(request).token is None and caller_in(request).user.is_staff):
            caller_in(request).require(Right.MANAGE, permission="admin.config")
        return known


class RegistrationSettings(APIView):
    """Whether people may make accounts for themselves, on the whole installation."""

    def get_permissions(self) -> list[Any]:
        # Who may change it is the service's to say: staff have no role in a team.
        return [SeesRegistration()] if self.request.method == "GET" else [IsCaller()]

    def get(self, request: Request) -> Response:
        """Closed unless staff opened it. `default_level` is the role that an owner is offered first for a new member."""
        return Response(_registration(registration.current()))

    def put(self, request: Request) -> Response:
        """Change the ones that are sent: for the platform's staff who are signed in. A level is viewer or researcher."""
        given = fields_of(request)
        level = given.get("default_level")
        if level is not None and not isinstance(level, str):
            raise InvalidInput("default_level must be text: viewer or researcher.", field="default_level")
        is_open = _read(given, "enabled", flag, None)
        return Response(_registration(registration.change(caller_in(request), is_open=is_open, default_role=level)))


class HintList(APIView):
    """The hints that the caller has dismissed."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """Their names. They are the person's, in every team."""
        return Response({"dismissed_hints": hints.dismissed(caller_in(request).user)})


class HintStatus(APIView):
    """The two hints that SimpleTuner's cloud page has."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """Whether each of them was dismissed."""
        names = hints.dismissed(caller_in(request).user)
        return Response({"dataloader_hint_dismissed": "dataloader" in names, "git_hint_dismissed": "git" in names})


class HintDismiss(APIView):
    """Showing a hint no more."""

    permission_classes = [IsCaller]

    def post(self, request: Request, name: str) -> Response:
        """Dismiss it; a second time changes nothing. Names are dataloader, git and those that begin with admin_."""
        hints.dismiss(caller_in(request).user, name)
        return Response({"success": True, "hint": name})


class HintShow(APIView):
    """Showing a hint again."""

    permission_classes = [IsCaller]

    def post(self, request: Request, name: str) -> Response:
        """Undo its dismissal; a second time changes nothing."""
        hints.show(caller_in(request).user, name)
        return Response({"success": True, "hint": name})


def _read(given: dict[str, Any], key: str, check: Any, kept: Any) -> Any:
    """The checked value of a key; what is not there, or null, leaves the kept one."""
    return kept if given.get(key) is None else check(key, given[key])


def _ages(found: Ages) -> dict[str, Any]:
    return {
        "stale_threshold_days": found.days,
        "early_warning_enabled": found.warns_early,
        "early_warning_percent": found.warning_percent,
    }


def _registration(kept: Registration) -> dict[str, Any]:
    sends = registration.sends_mail()
    return {
        "enabled": kept.is_open,
        "default_level": kept.default_role,
        "email_configured": sends,
        "email_required_warning": None if sends else registration.WITHOUT_MAIL,
    }
