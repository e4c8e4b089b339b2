"""The queue by API: what waits, how many may run, priorities, pausing, and submitting as SimpleTuner's `jobs submit` does.

Source: simpletuner-api.md 2.8 and 11. Of other teams' jobs nothing is told but how many stand ahead.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, F
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of, number, truth
from accounts.api.reading import flag, text
from accounts.authentication import PersonAuthentication, TokenAuthentication, overseer_in
from accounts.callers import Caller, Staff
from accounts.errors import InvalidInput, NotPermitted, Refusal
from accounts.models import Team, User
from accounts.oversight import Overseer
from accounts.permissions import IsPerson, needs
from accounts.roles import Right
from jobs.api import rendering
from jobs.api.jobs import find
from jobs.api.submitting import start_of
from jobs.models import Job, QueueSettings
from jobs.models.catalogue import Provider
from jobs.models.job import JobQuerySet, Link
from jobs.services import dispatch, queue, queue_changes, queue_modes, queue_places, queue_rules, submission
from jobs.services.queue_places import Standing
from jobs.services.queue_rules import Rules
from jobs.specs import JobSpec
from jobs.states import LAUNCHED, TERMINAL, State

SEE = needs(Right.READ, permission="queue.view")
SEE_ALL = needs(Right.READ, permission="queue.view.all")
# The queue's words for our states: what has gone has a place, whatever the provider does with it. Nothing is ever `ready` and
# waits all the same, since what is ready goes.
WORDS: dict[str, frozenset[State]] = {
    "pending": frozenset({State.PENDING}),
    "ready": frozenset(),
    "running": LAUNCHED,
    "completed": frozenset({State.COMPLETED}),
    "failed": frozenset({State.FAILED}),
    "cancelled": frozenset({State.CANCELLED}),
    "blocked": frozenset({State.BLOCKED}),
}
SHOWN = 10
RECENT = timedelta(days=30)
TARGETS = ("auto", "", "cloud", "replicate")


class TargetNotOffered(Refusal):
    """Somewhere else than at the provider."""


class QueueList(APIView):
    """The team's jobs in the queue."""

    permission_classes = [SEE_ALL]

    def get(self, request: Request) -> Response:
        """Those that wait in the order in which they go, then the others, newest first. `include_completed` shows what is over as well."""
        caller, now = caller_in(request), timezone.now()
        limit = number(request, "limit", default=50, least=1, most=200)
        offset = number(request, "offset", default=0, least=0, most=10_000_000)
        rules, standings = queue_rules.read(), queue_places.of_team(caller.team, now=now)
        found = _listed(caller.team, rules)
        states = _states(request)
        waiting = list(standings) if State.PENDING in states else []
        rows = _of_keys(caller.team, waiting[offset : offset + limit])
        others = found.filter(state__in=states - {State.PENDING}).order_by("-submitted_at", "-pk")
        rows += others[max(0, offset - len(waiting)) : max(0, offset + limit - len(waiting))]
        return Response(
            {
                "entries": [entry(row, standings.get(row.pk)) for row in rows],
                "total_pending": caller.team.jobs.visible().filter(state=State.PENDING).count(),
                "total_running": caller.team.jobs.visible().launched().count(),
            }
        )


class QueueStats(APIView):
    """How full the queue is: of the team's own jobs, beside the platform's numbers."""

    permission_classes = [SEE]

    def get(self, request: Request) -> Response:
        """`by_status`, `by_user`, `queue_depth` and `running` count the team's jobs; `platform_…` say how full it is altogether."""
        caller, now = caller_in(request), timezone.now()
        jobs = _listed(caller.team, queue_rules.read())
        by_state = dict(jobs.order_by().values_list("state").annotate(count=Count("pk")))
        by_status = {word: sum(by_state.get(state, 0) for state in states) for word, states in WORDS.items()}
        active = jobs.active().order_by().values_list("submitted_by_id").annotate(count=Count("pk"))
        waited = jobs.filter(dispatched_at__gt=now - RECENT).aggregate(waited=Avg(F("dispatched_at") - F("submitted_at")))["waited"]
        return Response(
            {
                "by_status": by_status,
                "by_user": {str(user): count for user, count in active},
                "queue_depth": by_status["pending"],
                "running": by_status["running"],
                "platform_queue_depth": Job.objects.filter(state=State.PENDING).count(),
                "platform_running": Job.objects.launched().admitted().count(),
                "avg_wait_seconds": waited.total_seconds() if waited else None,
                **numbers(queue_rules.read(), caller.team),
                "local": None,
                "workers": None,
            }
        )


class OwnQueue(APIView):
    permission_classes = [SEE]

    def get(self, request: Request) -> Response:
        """The caller's own jobs in the queue."""
        caller = caller_in(request)
        return Response(_person(caller.team, caller.user, now=timezone.now()))


class Overseen(APIView):
    """For the people of a team, and for the platform's staff, who may name any team or none."""

    authentication_classes = [TokenAuthentication, PersonAuthentication]
    permission_classes = [IsPerson]


class QueueOfUser(Overseen):
    def get(self, request: Request, user_id: str) -> Response:
        """The same of another person in the team."""
        overseer = overseer_in(request)
        overseer.require(Right.READ, permission="queue.view.all")
        member = overseer.membership_of(overseer.person(int(user_id)))
        return Response(_person(member.team, member.user, now=timezone.now()))


class QueuePosition(APIView):
    permission_classes = [SEE]

    def get(self, request: Request, job_id: str) -> Response:
        """Where a job stands over all teams, from 1 (0 once it has gone), why it waits, and when it likely starts."""
        job, now = find(caller_in(request), job_id), timezone.now()
        found = queue_places.standings([job], now=now).get(job.pk)
        rank = found.rank if found else queue.asked_priority(job)
        return Response(
            {
                "job_id": job.job_id,
                "position": found.place if found else 0,
                "status": word_of(job.state),
                "priority": queue.name_of(rank),
                "effective_priority": rank,
                "queued_at": rendering.stamp(job.submitted_at),
                "not_before": rendering.stamp(job.not_before),
                "estimated_wait_seconds": found.seconds if found else None,
                "waiting_reason": job.waiting_reason or None,
                "paused": [mode_of(row) for row in found.pauses] if found else [],
            }
        )


class QueueCancel(APIView):
    permission_classes = [needs(Right.CANCEL_OWN, permission="queue.cancel.own")]

    def post(self, request: Request, job_id: str) -> Response:
        """Cancel a job that waits; 409 once it has gone, then POST /api/cloud/jobs/{id}/cancel does it."""
        job = queue_changes.cancel(find(caller_in(request), job_id), caller=caller_in(request))
        return Response({"success": True, "job_id": job.job_id})


class QueuePriority(APIView):
    permission_classes = [needs(Right.QUEUE, permission="job.priority.high")]

    def post(self, request: Request, job_id: str) -> Response:
        """Give a waiting job another `priority`, 0 to 50, or null for its own."""
        given, now = fields_of(request), timezone.now()
        if "priority" not in given:
            raise InvalidInput("Send priority, a whole number between 0 and 50, or null.", field="priority")
        job = find(caller_in(request), job_id)
        before = queue.effective_priority(job, now=now)
        job = queue_changes.set_priority(job, by=caller_in(request), priority=_priority(given["priority"]))
        return Response(
            {
                "success": True,
                "job_id": job.job_id,
                "previous_effective_priority": before,
                "new_effective_priority": queue.effective_priority(job, now=now),
                "priority_override": job.priority_override,
            }
        )


class QueueStart(APIView):
    """Ours: when a job may start at the earliest."""

    permission_classes = [needs(Right.CANCEL_OWN, permission="job.cancel.own")]

    def post(self, request: Request, job_id: str) -> Response:
        """Move `not_before` of a waiting job, or take it away with null: in the future, at most 30 days ahead."""
        given = fields_of(request)
        if "not_before" not in given:
            raise InvalidInput("Send not_before, a time like 2026-01-31T22:00:00Z, or null.", field="not_before")
        when = start_of(text(given, "not_before", most=40))
        job = queue_changes.set_not_before(find(caller_in(request), job_id), caller=caller_in(request), not_before=when)
        return Response({"success": True, "job_id": job.job_id, "not_before": rendering.stamp(job.not_before)})


class Concurrency(Overseen):
    """How many jobs run at the same time."""

    def get(self, request: Request) -> Response:
        """As they hold in the team; for staff who name no team the platform's."""
        overseer = overseer_in(request)
        overseer.require(Right.READ, permission="queue.view")
        return Response(numbers(queue_rules.read(), overseer.team))

    def post(self, request: Request) -> Response:
        """A team's owner lowers `team_max_concurrent` and `user_max_concurrent`; the platform's numbers are its staff's."""
        overseer = overseer_in(request)
        overseer.require(Right.MANAGE, permission="queue.manage")
        queue_changes.set_numbers(_hand(overseer), fields_of(request))
        return Response({"success": True, **numbers(queue_rules.read(), overseer.team)})


class QueueModes(Overseen):
    """Ours: pausing, draining and resuming."""

    def get(self, request: Request) -> Response:
        """What concerns the team: the modes of the platform, of each provider, and its own."""
        overseer = overseer_in(request)
        overseer.require(Right.READ, permission="queue.view")
        rules = queue_rules.read()
        own = rules.by_team.get(overseer.team.pk if overseer.team else 0)
        providers = {name: mode_of(rules.by_provider.get(name)) for name in Provider.values}
        return Response({**mode_of(own if overseer.team else rules.platform), "platform": mode_of(rules.platform), "providers": providers})

    def post(self, request: Request) -> Response:
        """Set the team's `mode` (running, draining, paused) with a `reason`.

        Staff who name no team set the platform's, or that of a `provider`.
        """
        overseer, given = overseer_in(request), fields_of(request)
        overseer.require(Right.QUEUE, permission="queue.manage")
        mode, reason = text(given, "mode", most=20), text(given, "reason", most=queue_modes.LONGEST_REASON)
        provider = text(given, "provider", most=20)
        by = _hand(overseer)
        if isinstance(by, Caller) and provider:
            raise NotPermitted("Only the platform's staff pause a provider.", details={"required_permission": "admin.queue"})
        if isinstance(by, Caller):
            row = queue_modes.set_team(by, mode=mode, reason=reason)
        else:
            row = queue_modes.set_as_staff(by, mode=mode, reason=reason, provider=provider)
        return Response({"success": True, **mode_of(row)})


class QueueProcess(APIView):
    permission_classes = [needs(Right.MANAGE, permission="queue.manage")]

    def post(self, request: Request) -> Response:
        """Look now for what may go, which otherwise happens every two seconds. Told are the jobs of the team."""
        gone = [job.job_id for job in dispatch.dispatch() if job.team_id == caller_in(request).team.pk]
        return Response({"success": True, "dispatched": len(gone), "job_ids": gone})


class QueueCleanup(APIView):
    permission_classes = [needs(Right.MANAGE, permission="queue.manage")]

    def post(self, request: Request) -> Response:
        """Take jobs that were over `days` ago out of this list. Among the jobs they stay, with their money and their audit lines."""
        given = fields_of(request).get("days", request.query_params.get("days") or 30)
        days = int(given) if isinstance(given, str) and given.isdecimal() else given
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 365:
            raise InvalidInput("days must be a whole number between 1 and 365.", field="days")
        return Response({"success": True, "deleted": queue_changes.clean_up(caller_in(request), days=days), "days": days})


class QueueSubmit(APIView):
    """Submitting a named config, as SimpleTuner's `jobs submit` does."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    def post(self, request: Request) -> Response:
        """As POST /api/cloud/jobs/submit: there are no GPUs of one's own here. With `no_wait` only if there is a place at this moment.

        `for_approval` and `any_gpu` change nothing: what must be approved is decided by the rules.
        """
        caller, given = caller_in(request), fields_of(request)
        target = text(given, "target", most=40, default="auto").lower()
        if target not in TARGETS:
            raise TargetNotOffered("This server runs jobs on Replicate only.", hint="Leave target out, or send auto.", field="target")
        no_wait = flag(given, "no_wait")
        spec = JobSpec(config_name=text(given, "config_name", most=128, least=1), not_before=start_of(text(given, "not_before", most=40)))
        if no_wait and not queue_places.has_place_for(caller.team, caller.user, now=timezone.now()):
            reason = "No place is free at this moment, and with no_wait nothing is submitted then."
            return Response(_submitted(None, success=False, error=reason, reason=reason))
        job = submission.submit(caller, spec).job
        return Response(_submitted(job, success=True, error=None, reason=str(job.get_waiting_reason_display()) or None))


class QueuePollingStatus(APIView):
    permission_classes = [SEE]

    def get(self, request: Request) -> Response:
        """Always: polling is what brings every job home."""
        return Response({"polling_enabled": True})


class QueuePollingSetting(APIView):
    permission_classes = [needs(Right.MANAGE, permission="queue.manage")]

    def put(self, request: Request) -> Response:
        """`enabled` in the query. True changes nothing, since it is always on; false is refused."""
        if request.query_params.get("enabled") and not truth(request, "enabled"):
            raise Refusal("Polling brings every job home, whatever becomes of its webhooks, and cannot be switched off.", field="enabled")
        return Response({"success": True, "polling_enabled": True})


# --- Reading ----------------------------------------------------------------------------------------------


def _states(request: Request) -> set[State]:
    """The states that are asked for: by default what is not over."""
    word = request.query_params.get("status", "")
    if word and word not in WORDS:
        raise InvalidInput(f"Unknown status '{word[:30]}'. Valid ones: {', '.join(WORDS)}.", field="status")
    if word:
        return set(WORDS[word])
    return set(State) if truth(request, "include_completed") else set(State) - TERMINAL


def _listed(team: Team, rules: Rules) -> JobQuerySet:
    """The team's jobs that the queue shows: without those that were tidied away."""
    jobs = team.jobs.visible()
    own = rules.by_team.get(team.pk)
    return jobs.exclude(state__in=TERMINAL, ended_at__lte=own.cleaned_until) if own and own.cleaned_until else jobs


def _of_keys(team: Team, keys: list[int]) -> list[Job]:
    found = team.jobs.in_bulk(keys)
    return [found[key] for key in keys if key in found]


def _priority(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise InvalidInput("priority must be a whole number between 0 and 50, or null.", field="priority")
    return value


def _hand(overseer: Overseer) -> Caller | Staff:
    """As whom they change it: staff who name no team act for the platform."""
    if overseer.team is None and overseer.is_staff:
        return Staff(user=overseer.user, address=overseer.address)
    return overseer.acting()


# --- Showing ----------------------------------------------------------------------------------------------


def word_of(state: str) -> str:
    """The queue's word for a state."""
    return next(word for word, states in WORDS.items() if state in states)


def entry(job: Job, standing: Standing | None) -> dict[str, Any]:
    """A job as the queue's list shows it. `position` is 0 for one that does not wait."""
    rank = standing.rank if standing else queue.asked_priority(job)
    return {
        "id": job.pk,
        "job_id": job.job_id,
        "user_id": job.submitted_by_id,
        "provider": job.provider,
        "config_name": job.config_name or None,
        "priority": job.priority,
        "priority_name": queue.name_of(rank),
        "priority_override": job.priority_override,
        "effective_priority": rank,
        "status": word_of(job.state),
        "position": standing.place if standing else 0,
        "queued_at": rendering.stamp(job.submitted_at),
        "started_at": rendering.stamp(job.started_at),
        "completed_at": rendering.stamp(job.ended_at),
        **rendering.money("estimated_cost", job.estimate_high or 0),
        "requires_approval": job.state == State.BLOCKED,
        "attempt": 2 if job.link == Link.RETRY else 1,
        "error_message": job.error or None,
        "waiting_reason": job.waiting_reason or None,
        "not_before": rendering.stamp(job.not_before),
        "estimated_wait_seconds": standing.seconds if standing else None,
    }


def numbers(rules: Rules, team: Team | None) -> dict[str, Any]:
    """How many jobs run at the same time where this team is concerned, or the platform alone."""
    found = rules.numbers_of(team.pk if team else None)
    return {
        "max_concurrent": found.platform,
        "user_max_concurrent": found.person,
        "team_max_concurrent": found.team,
        "enable_fair_share": rules.is_fair,
        "local_gpu_max_concurrent": rules.platform.local_gpu_max_concurrent,
        "local_job_max_concurrent": rules.platform.local_job_max_concurrent or 1,
    }


def mode_of(row: QueueSettings | None) -> dict[str, Any]:
    return {"mode": row.mode if row else "running", "reason": (row and row.reason) or None}


def _person(team: Team, user: User, *, now: datetime) -> dict[str, Any]:
    jobs = team.jobs.visible().filter(submitted_by=user)
    own = set(jobs.filter(state=State.PENDING).values_list("pk", flat=True))
    standings = {pk: found for pk, found in queue_places.of_team(team, now=now).items() if pk in own} if own else {}
    running = jobs.launched().order_by("-submitted_at")
    return {
        "user_id": user.pk,
        "pending_count": len(own),
        "running_count": running.count(),
        "blocked_count": jobs.filter(state=State.BLOCKED).count(),
        "best_position": min((found.place for found in standings.values()), default=None),
        "pending_jobs": [entry(job, standings[job.pk]) for job in _of_keys(team, list(standings)[:SHOWN])],
        "running_jobs": [entry(job, None) for job in running[:SHOWN]],
    }


def _submitted(job: Job | None, **said: Any) -> dict[str, Any]:
    return {
        "job_id": job.job_id if job else None,
        "status": (word_of(job.state) if job.state == State.BLOCKED else "queued") if job else "rejected",
        "allocated_gpus": None,
        "allocated_worker_id": None,
        "queue_position": queue_places.place_of(job, now=timezone.now()) if job else None,
        "requires_approval": job is not None and job.state == State.BLOCKED,
        **said,
    }
