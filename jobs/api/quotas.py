"""Quotas by API, as SimpleTuner's clients know them: of jobs and storage, and spend limits of a day or a month as quotas of money.

An owner sets those of the team, where "global" is the default for each of its people; the platform's staff, signed in, set
the platform's. Everybody reads how they themselves stand.
"""

import math
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import levels, organization
from accounts.api import caller_in, fields_of
from accounts.api.orgs import Seen, TeamView
from accounts.api.reading import text, whole
from accounts.api.rendering import brief_organization
from accounts.api.rendering import team as shown_team
from accounts.authentication import PersonAuthentication, TokenAuthentication, overseer_in
from accounts.callers import Staff
from accounts.errors import InvalidInput
from accounts.models import User
from accounts.oversight import Overseer
from accounts.permissions import IsCaller, IsPerson
from accounts.roles import Right
from billing import services as billing
from billing.prices import MICROS_PER_USD
from jobs.api import rendering
from jobs.models.quotas import QuotaAction, QuotaKind, QuotaScope
from jobs.services import quota_changes, quota_standings
from jobs.services.quota_changes import AboveCeiling, Manager, Quota
from jobs.services.quota_standings import COST_PERIOD, Standing

LARGEST_ID = 2**62
# SimpleTuner's words for whom a quota is for.
SCOPES = {
    QuotaScope.PERSON: "user",
    QuotaScope.ROLE: "level",
    QuotaScope.EACH: "global",
    QuotaScope.TEAM: "team",
    QuotaScope.PLATFORM: "org",
}
TYPES = {
    QuotaKind.CONCURRENT_JOBS: ("Active jobs, those that wait included", "jobs"),
    QuotaKind.JOBS_PER_HOUR: ("Submissions in the last 3,600 seconds", "jobs"),
    QuotaKind.JOBS_PER_DAY: ("Submissions in the last 86,400 seconds", "jobs"),
    QuotaKind.JOBS_PER_MONTH: ("Submissions in the calendar month, in the team's time zone", "jobs"),
    QuotaKind.QUEUED_JOBS: ("Jobs that wait for approval or for their turn", "jobs"),
    QuotaKind.STORAGE_BYTES: ("Bytes of datasets and of results that are kept here", "bytes"),
    QuotaKind.COST_DAILY: ("Settled and held in the calendar day", "USD"),
    QuotaKind.COST_MONTHLY: ("Settled and held in the calendar month", "USD"),
    QuotaKind.LOCAL_GPUS: ("GPUs of this server: there are none, and it is never reached", "GPUs"),
}
ACTIONS = {
    QuotaAction.BLOCK: "The job is refused",
    QuotaAction.WARN: "The job goes on, and who submits it is warned",
    QuotaAction.REQUIRE_APPROVAL: "The job waits for approval",
    QuotaAction.NOTIFY: "The job goes on, and the owners are told",
}


class Viewed(APIView):
    """For whoever may see the quotas of the team, and the platform's staff."""

    authentication_classes = [TokenAuthentication, PersonAuthentication]
    permission_classes = [IsPerson]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        is_read = request.method == "GET"
        overseer_in(request).require(Right.SPEND if is_read else Right.MANAGE, permission="quota.view" if is_read else "quota.manage")


class Quotas(Viewed):
    def get(self, request: Request) -> Response:
        """The quotas of the team and of the platform; for staff who name no team the platform's alone."""
        return Response({"quotas": [shown(quota) for quota in quota_changes.listed(overseer_in(request).team)]})

    def post(self, request: Request) -> Response:
        """Set a quota: `quota_type`, `limit_value`, `action` (block), and at most one of `user_id`, `level_id`, `team_id`, `org_id`.

        Without one it is for each person of the team, and of money for the team together; with a level for each of its people.
        One that is there is changed.
        """
        given, overseer = fields_of(request), overseer_in(request)
        kind, limit, action = _said(given)
        by, whose = _whose(overseer, given, kind)
        quota = shown(quota_changes.put(by, kind=kind, limit=limit, action=action, **whose))
        return Response({"success": True, "quota": quota, **quota})


class QuotaDetail(Viewed):
    def get(self, request: Request, quota_id: str) -> Response:
        """One of them; staff see those of all teams."""
        return Response(shown(_found(overseer_in(request), int(quota_id))))

    def delete(self, request: Request, quota_id: str) -> Response:
        """Take it away. Of money it is a spend limit, which is switched off."""
        overseer = overseer_in(request)
        quota = _found(overseer, int(quota_id))
        quota_changes.remove(_hand_on(overseer, quota), quota)
        return Response({"success": True, "quota_id": quota.id})


class QuotaTypes(APIView):
    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """What can be limited, and what can happen when a limit is reached."""
        return Response(
            {
                "types": [{"name": str(kind), "description": words, "unit": unit} for kind, (words, unit) in TYPES.items()],
                "quota_types": [{"value": str(kind), "description": words} for kind, (words, _) in TYPES.items()],
                "actions": [{"value": str(action), "description": words} for action, words in ACTIONS.items()],
            }
        )


class OwnStatus(APIView):
    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """How the quotas stand that apply to the caller."""
        standings, _ = _own(request)
        return Response({"quotas": [stands(standing) for standing in standings]})


class OwnQuotas(APIView):
    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """The same, and whether the caller can submit a job: what refuses it stands in `blocking_reasons`."""
        return Response(_person(caller_in(request).user, *_own(request)))


class QuotasOfUser(Viewed):
    def get(self, request: Request, user_id: str) -> Response:
        """The same of a person in the team."""
        overseer = overseer_in(request)
        member = overseer.membership_of(overseer.person(int(user_id)))
        found = quota_standings.with_money(team=member.team, user=member.user, role=member.role, now=timezone.now())
        return Response(_person(member.user, *found))


class QuotaCostEstimate(APIView):
    permission_classes = [IsCaller]

    def post(self, request: Request) -> Response:
        """What a cost of `estimated_cost` dollars (in the query) would do to every limit and quota of money that applies to the caller."""
        cost, now = _dollars(request.query_params.get("estimated_cost")), timezone.now()
        caller = caller_in(request)
        limits = billing.statuses(team=caller.team, user=caller.user, token=caller.token, now=now)
        quotas = quota_standings.standings(team=caller.team, user=caller.user, role=caller.role, now=now)
        limits += [quota_standings.as_limit(quota, team=caller.team, now=now) for quota in quotas if quota.kind in COST_PERIOD]
        impacts = [
            {
                "quota_type": f"cost_{status.window}",
                **rendering.money("current", status.used + status.held),
                **rendering.money("after", status.used + status.held + cost),
                **rendering.money("limit", status.limit),
                "percent_before": _percent(status.used + status.held, status.limit),
                "percent_after": _percent(status.used + status.held + cost, status.limit),
                "would_exceed": cost > status.left or status.left == 0,
                "action": status.action,
                "source": SCOPES[QuotaScope(status.scope)] if status.scope in QuotaScope.values else status.scope,
            }
            for status in limits
        ]
        return Response(
            {
                **rendering.money("estimated_cost", cost),
                "would_exceed": any(impact["would_exceed"] for impact in impacts),
                "impacts": impacts,
            }
        )


class OrganizationQuotas(Seen):
    def get(self, request: Request, org: str) -> Response:
        """The quotas of the platform: for all teams together, and for each person in every team."""
        quotas = [shown(quota) for quota in quota_changes.listed(None)]
        return Response({"organization": brief_organization(organization.current()), "quotas": quotas})

    def post(self, request: Request, org: str) -> Response:
        """Limit all teams together: for the platform's staff who are signed in."""
        given, overseer = fields_of(request), overseer_in(request)
        overseer.require_staff("set the platform's quotas", permission="org.manage.quotas")
        kind, limit, action = _said(given)
        quota = quota_changes.put(_staff(overseer), kind=kind, scope=QuotaScope.PLATFORM, limit=limit, action=action)
        return Response({"success": True, "message": f"The quota {kind} of the platform is set.", "quota": shown(quota)})


class TeamQuotas(TeamView):
    def get(self, request: Request, org: str, team: str) -> Response:
        """What the team may use altogether."""
        found = self.team(request, team)
        quotas = [shown(quota) for quota in quota_changes.listed(found) if quota.scope == QuotaScope.TEAM]
        return Response({"team": shown_team(found), "quotas": quotas})

    def post(self, request: Request, org: str, team: str) -> Response:
        """Limit the team altogether."""
        given, overseer = fields_of(request), overseer_in(request)
        overseer.require(Right.MANAGE, permission="team.manage.quotas")
        acting = overseer.acting_in(self.team(request, team))
        acting.require(Right.MANAGE, permission="team.manage.quotas")
        kind, limit, action = _said(given)
        try:
            quota = quota_changes.put(acting, kind=kind, scope=QuotaScope.TEAM, limit=limit, action=action)
        except AboveCeiling as above:
            # Documented as 400 at this address, and as 422 at /api/quotas.
            raise InvalidInput(above.detail, field=above.field) from None
        return Response({"success": True, "message": f"The quota {kind} of the team {acting.team} is set.", "quota": shown(quota)})


# --- Reading ----------------------------------------------------------------------------------------------


def _said(given: dict[str, Any]) -> tuple[str, int, str]:
    """Kind, limit in whole jobs, bytes or micro-dollars, and action."""
    kind = text(given, "quota_type", most=40).lower()
    if kind not in quota_changes.KINDS:
        raise InvalidInput(f"quota_type must be one of {', '.join(quota_changes.KINDS)}.", field="quota_type")
    action = text(given, "action", most=40, default=QuotaAction.BLOCK).lower()
    return kind, _limit(given.get("limit_value"), kind), action


def _limit(value: Any, kind: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput("limit_value must be a number.", field="limit_value")
    if kind in COST_PERIOD:
        return round(value * MICROS_PER_USD)
    if value != int(value):
        raise InvalidInput(f"limit_value must be a whole number for {kind}.", field="limit_value")
    return int(value)


def _whose(overseer: Overseer, given: dict[str, Any], kind: str) -> tuple[Manager, dict[str, Any]]:
    """Who sets it, and for whom."""
    named = [name for name in ("user_id", "level_id", "team_id", "org_id") if given.get(name) is not None]
    if len(named) > 1:
        raise InvalidInput(f"Send at most one of user_id, level_id, team_id and org_id, and not {' and '.join(named)}.", field=named[1])
    if not named:
        return _default(overseer, kind)
    number = whole(given, named[0], least=1, most=LARGEST_ID)
    match named[0]:
        case "user_id":
            member = overseer.membership_of(overseer.person(number))
            return overseer.acting(), {"scope": QuotaScope.PERSON, "user": member.user}
        case "level_id":
            by = overseer.acting() if overseer.team else _staff(overseer)
            return by, {"scope": QuotaScope.ROLE, "role": levels.numbered(number).role}
        case "team_id":
            return overseer.acting_in(overseer.team_named(str(number))), {"scope": QuotaScope.TEAM}
    organization.named(str(number))
    overseer.require_staff("set the platform's quotas", permission="org.manage.quotas")
    return _staff(overseer), {"scope": QuotaScope.PLATFORM}


def _default(overseer: Overseer, kind: str) -> tuple[Manager, dict[str, Any]]:
    """What is meant where nobody is named: each person, and of money all of them together."""
    if overseer.team is None:
        return _staff(overseer), {"scope": QuotaScope.PLATFORM if kind in COST_PERIOD else QuotaScope.EACH}
    return overseer.acting(), {"scope": QuotaScope.TEAM if kind in COST_PERIOD else QuotaScope.EACH}


def _found(overseer: Overseer, quota_id: int) -> Quota:
    """Raises NotFound, for a foreign team's as well."""
    return quota_changes.find_anywhere(quota_id) if overseer.is_staff else quota_changes.find(overseer.team, quota_id)


def _hand_on(overseer: Overseer, quota: Quota) -> Manager:
    """As whom they change it."""
    team = quota.row.team
    if team is not None:
        return overseer.acting_in(team)
    return _staff(overseer) if overseer.is_staff else overseer.acting()


def _staff(overseer: Overseer) -> Staff:
    """Who calls, for the platform: the view has seen to it that they are of its staff."""
    overseer.require_staff("set the platform's quotas", permission="org.manage.quotas")
    return Staff(user=overseer.user, address=overseer.address)


def _dollars(said: str | None) -> int:
    """Micro-dollars. Raises InvalidInput."""
    try:
        value = float(said or "")
    except ValueError:
        value = -1.0
    if not 0 <= value <= quota_changes.MOST_MICROS:
        raise InvalidInput("estimated_cost must be a number of dollars in the query, 0 or more.", field="estimated_cost")
    return round(value * MICROS_PER_USD)


def _own(request: Request) -> tuple[list[Standing], list[str]]:
    caller = caller_in(request)
    return quota_standings.with_money(team=caller.team, user=caller.user, role=caller.role, token=caller.token, now=timezone.now())


# --- Showing ----------------------------------------------------------------------------------------------


def shown(quota: Quota) -> dict[str, Any]:
    """A quota. Of the four ids the one is set that says for whom it is; `set_by` says whose it is to change."""
    scope = quota.scope
    return {
        "id": quota.id,
        "quota_type": quota.kind,
        **_value("limit_value", quota.kind, quota.limit),
        "action": quota.action,
        "scope": SCOPES[scope],
        "user_id": quota.row.user_id,
        "level_id": levels.of_role(quota.role).id if quota.role else None,
        "team_id": quota.row.team_id if scope == QuotaScope.TEAM else None,
        "org_id": organization.ID if scope == QuotaScope.PLATFORM else None,
        "is_global": scope == QuotaScope.EACH,
        "set_by": "platform" if quota.is_platforms else "team",
    }


def stands(standing: Standing) -> dict[str, Any]:
    """How a quota stands."""
    ceiling = standing.ceiling
    return {
        "quota_type": standing.kind,
        **_value("limit", standing.kind, standing.limit),
        **_value("limit_value", standing.kind, standing.limit),
        **_value("current", standing.kind, standing.current),
        **_value("current_usage", standing.kind, standing.current),
        "action": standing.action,
        "is_exceeded": standing.is_exceeded,
        "is_warning": standing.is_warning,
        "percent_used": standing.percent,
        "message": standing.message or None,
        "source": SCOPES[QuotaScope(standing.scope)],
        "ceiling": ceiling
        and {
            "source": SCOPES[QuotaScope(ceiling.scope)],
            "value": _value("value", standing.kind, ceiling.value)["value"],
            "is_bound": ceiling.is_bound,
        },
    }


def _person(user: User, standings: list[Standing], reasons: list[str]) -> dict[str, Any]:
    return {
        "user_id": user.pk,
        "statuses": [stands(standing) for standing in standings],
        "can_submit": not reasons,
        "blocking_reasons": reasons,
    }


def _value(name: str, kind: str, value: int) -> dict[str, Any]:
    """Dollars with their exact sibling for money, else the number as it is."""
    return rendering.money(name, value) if kind in COST_PERIOD else {name: float(value)}


def _percent(part: int, limit: int) -> float:
    return round(part * 100 / limit, 2) if limit else 100.0
