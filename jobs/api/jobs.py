"""Reading and steering jobs by API."""

from datetime import datetime, time
from typing import Any

from django.db.models import Q, QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound, NotPermitted
from accounts.permissions import needs
from accounts.roles import Right
from jobs import following
from jobs.api import rendering
from jobs.models import Job, JobProgress
from jobs.permissions import sees_details
from jobs.services import cancelling, logs, retrying, syncing, watching
from jobs.services.submission import Repeat
from jobs.states import ACTIVE, TERMINAL, State

FILTERS: dict[str, list[str]] = {
    **{state.value: [state.value] for state in State},
    "pending_approval": [State.BLOCKED],
    "active": sorted(ACTIVE),
    "terminal": sorted(TERMINAL),
}
# A client may shorten an id to no fewer characters than this.
SHORTEST_PREFIX = 8
KEY_CHARACTERS = 256


class JobNotFound(NotFound):
    code = "job_not_found"


def find(caller: Caller, job_id: str) -> Job:
    """The team's job with this id, or the only one whose id begins so. Raises JobNotFound."""
    jobs = caller.team.jobs.visible().select_related("team", "trainer", "hold", "price_line", "submitted_by", "dataset_version__dataset")
    job = jobs.filter(job_id=job_id).first()
    if job is None and len(job_id) >= SHORTEST_PREFIX:
        beginning = list(jobs.filter(job_id__startswith=job_id)[:2])
        job = beginning[0] if len(beginning) == 1 else None
    if job is None:
        raise JobNotFound(
            f"Job not found: {job_id}", hint="Run `simpletuner cloud jobs list` to see your jobs.", details={"job_id": job_id}
        )
    return job


def find_with_details(caller: Caller, job_id: str) -> Job:
    """The same, where the caller may see config, log and files as well. Raises NotPermitted else."""
    job = find(caller, job_id)
    if not sees_details(caller, job):
        raise NotPermitted("In this team the details of a job are shown to its submitter, leads and owners.")
    return job


class JobList(APIView):
    """The team's jobs, newest first."""

    permission_classes = [needs(Right.READ, permission="job.view.own")]

    def get(self, request: Request) -> Response:
        """Filtered by `status`, `provider`, `q`, `user_id`, `since` and `until`; `sync_active` has the provider asked about them soon."""
        caller = caller_in(request)
        found = self._filtered(caller, request)
        limit = number(request, "limit", default=50, least=1, most=500)
        offset = number(request, "offset", default=0, least=0, most=10_000_000)
        now = timezone.now()
        if request.query_params.get("sync_active") == "true":
            watching.note_all(caller.team, now=now)
        page = found.select_related("team", "trainer", "hold", "price_line", "submitted_by", "dataset_version__dataset")[
            offset : offset + limit
        ]
        return Response({"jobs": [rendering.job(job, caller, now=now) for job in page], "total": found.count()})

    def _filtered(self, caller: Caller, request: Request) -> QuerySet[Job]:
        asked = request.query_params
        found = caller.team.jobs.visible()
        if status := asked.get("status"):
            if status not in FILTERS:
                raise InvalidInput(f"Unknown status '{status}'. Valid ones: {', '.join(FILTERS)}.", field="status")
            found = found.filter(state__in=FILTERS[status])
        if provider := asked.get("provider"):
            found = found.filter(provider=provider)
        if asked.get("job_type", "cloud") not in ("cloud", ""):
            found = found.none()
        if text := asked.get("q"):
            found = found.filter(Q(job_id__startswith=text) | Q(run_name__icontains=text) | Q(config_name__icontains=text))
        if user_id := asked.get("user_id"):
            found = found.filter(submitted_by_id=int(user_id)) if user_id.isdecimal() else found.none()
        if since := moment(request, "since"):
            found = found.filter(submitted_at__gte=since)
        if until := moment(request, "until"):
            found = found.filter(submitted_at__lt=until)
        return found


class JobDetail(APIView):
    """One job: nested as SimpleTuner's command line reads it, and flat as its documentation's scripts do."""

    def get_permissions(self) -> list[Any]:
        deletes = self.request.method == "DELETE"
        return [
            needs(Right.CANCEL_OWN, permission="job.delete.own")() if deletes else needs(Right.READ, permission="job.view.own")(),
        ]

    def get(self, request: Request, job_id: str) -> Response:
        """The job, with its state and cost at the top as well."""
        job = find(caller_in(request), job_id)
        body = rendering.job(job, caller_in(request), now=timezone.now())
        flat = {name: body[name] for name in ("job_id", "status", "config_name", "cost_usd")}
        return Response({"job": body, **flat})

    def delete(self, request: Request, job_id: str) -> Response:
        """Take a job that is over out of the lists; its money and its audit lines stay."""
        job = find(caller_in(request), job_id)
        cancelling.hide(job, caller=caller_in(request))
        return Response({"success": True, "job_id": job.job_id})


class JobLogs(APIView):
    """The log so far, from our store. `offset` is in characters, as is `length`, the next offset."""

    permission_classes = [needs(Right.READ, permission="job.view.own")]

    def get(self, request: Request, job_id: str) -> Response:
        job = find_with_details(caller_in(request), job_id)
        start = number(request, "offset", default=0, least=0, most=2_000_000_000)
        watching.note(job, now=timezone.now())
        text = logs.read(job, start=start)
        return Response({"job_id": job.job_id, "logs": text, "offset": start, "length": start + len(text)})


class AnyAnswer(BaseContentNegotiation):
    """Answers what it has, whatever the client says that it wants: a stream is asked for by its address."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class JobLogStream(APIView):
    """The log as an event stream."""

    permission_classes = [needs(Right.READ, permission="job.view.own")]
    content_negotiation_class = AnyAnswer

    @extend_schema(responses={(200, "text/event-stream"): str})
    def get(self, request: Request, job_id: str) -> StreamingHttpResponse:
        """A frame for each line from the beginning, or behind `Last-Event-ID`; `event: done` with the state at the end."""
        job = find_with_details(caller_in(request), job_id)
        seen = request.headers.get("Last-Event-ID", "")
        follower = following.Follower(job, caller_in(request), lines_seen=int(seen) if seen.isdecimal() and len(seen) < 10 else 0)
        return following.response(request._request, follower)


class JobInlineProgress(APIView):
    """Stage, last line and percentage of a running job; nulls for any other."""

    permission_classes = [needs(Right.READ, permission="job.view.own")]

    def get(self, request: Request, job_id: str) -> Response:
        job = find_with_details(caller_in(request), job_id)
        watching.note(job, now=timezone.now())
        progress = JobProgress.objects.filter(job=job).first()
        if job.state != State.RUNNING or progress is None:
            return Response({"job_id": job.job_id, "stage": None, "last_log": None, "progress": None})
        return Response(
            {
                "job_id": job.job_id,
                "stage": progress.stage or "Training",
                "last_log": progress.last_log or None,
                "progress": progress.percent,
                "step": progress.step,
                "total_steps": progress.total_steps,
                "loss": progress.loss,
                "seconds_left": progress.seconds_left,
            }
        )


class JobCancel(APIView):
    """Ending a job."""

    permission_classes = [needs(Right.CANCEL_OWN, permission="job.cancel.own")]

    def post(self, request: Request, job_id: str) -> Response:
        """Cancel: an unsent job ends at once and free, a sent one when the provider confirms. A repeat is no error."""
        job = cancelling.cancel(find(caller_in(request), job_id), caller=caller_in(request))
        return Response({"success": True, "job_id": job.job_id, "status": job.state})


class JobRetry(APIView):
    """Running a job again that failed or was cancelled."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    def post(self, request: Request, job_id: str) -> Response:
        """A new job from the same config and dataset version, admitted by itself. An `Idempotency-Key` makes it repeatable."""
        job = find_with_details(caller_in(request), job_id)
        key = request.headers.get("Idempotency-Key", "").strip()
        if len(key) > KEY_CHARACTERS:
            raise InvalidInput(f"An Idempotency-Key has at most {KEY_CHARACTERS} characters.", field="idempotency_key")
        repeat = Repeat(key=key, body={"retry_of": job.job_id}, is_strict=True) if key else None
        submitted = retrying.retry(job, caller=caller_in(request), repeat=repeat)
        return Response(
            {
                "success": True,
                "job_id": submitted.job.job_id,
                "status": submitted.job.state,
                "retried_from": job.job_id,
                "cost_limit_warning": " ".join(submitted.cost_warnings) or None,
                "quota_warnings": submitted.warnings,
                "idempotent_hit": submitted.is_repeat,
            }
        )


class JobSync(APIView):
    """Asking the provider now, for who does not want to wait for the next poll."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    def post(self, request: Request) -> Response:
        """Refresh the team's jobs that the provider has. Costs, terminal states and foreign runs are left alone."""
        named = fields_of(request).get("provider") or "replicate"
        if named != "replicate":
            raise NotFound(f"Unknown provider '{named}'.", field="provider")
        found = syncing.refresh(caller_in(request))
        return Response({"synced": 0, "updated": found.updated, "message": found.message})


class JobArtifacts(APIView):
    """The files of the result, with the hashes of what our storage holds."""

    permission_classes = [needs(Right.READ, permission="job.view.own")]

    def get(self, request: Request, job_id: str) -> Response:
        job = find_with_details(caller_in(request), job_id)
        return Response({"job_id": job.job_id, "artifacts": [self._artifact(job, item) for item in job.artifacts.all()]})

    def _artifact(self, job: Job, item: Any) -> dict[str, Any]:
        return {
            "name": item.key,
            "kind": item.kind,
            "size_bytes": item.size_bytes,
            "sha256": item.sha256,
            "content_type": item.content_type,
            "stored_at": rendering.stamp(item.stored_at),
            "url": f"/api/cloud/storage/outputs/{job.job_id}/{item.key}",
        }


def number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """A whole number of the query. Raises InvalidInput for anything else and out of bounds."""
    given = request.query_params.get(name)
    if given in (None, ""):
        return default
    try:
        value = int(str(given))
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InvalidInput(f"{name} must be a whole number between {least} and {most}.", field=name)
    return value


def moment(request: Request, name: str) -> datetime | None:
    """A date or time of the query, in UTC unless it says another zone. Raises InvalidInput."""
    given = request.query_params.get(name)
    if not given:
        return None
    try:
        read = parse_datetime(given.replace(" ", "+"))
        if read is None:
            day = parse_date(given)
            read = datetime.combine(day, time.min) if day else None
    except ValueError:
        read = None
    if read is None:
        raise InvalidInput(f"{name} must be a date or a time, like 2026-01-31 or 2026-01-31T12:00:00Z.", field=name)
    return read if timezone.is_aware(read) else timezone.make_aware(read)
