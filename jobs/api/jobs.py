"""Reading and steering jobs by API."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from django.db.models import Q
from django.http import StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import AnyAnswer, caller_in, fields_of, moment, number, truth
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound, NotPermitted
from accounts.permissions import needs
from accounts.roles import Right
from jobs import costs, following, log_page
from jobs.api import rendering
from jobs.archives import archive_of
from jobs.models import Job, JobProgress, ResultDelivery
from jobs.models.catalogue import Provider
from jobs.models.job import Destination, JobQuerySet
from jobs.permissions import sees_details
from jobs.services import cancelling, deliveries, logs, retrying, stopping, syncing, uploads, watching
from jobs.services.repeats import Repeat
from jobs.states import ACTIVE, TERMINAL, State
from jobs.upload_following import body as upload_body

FILTERS: dict[str, list[str]] = {
    **{state.value: [state.value] for state in State},
    "pending_approval": [State.BLOCKED],
    "active": sorted(ACTIVE),
    "terminal": sorted(TERMINAL),
}
# What SimpleTuner's clients know, whether or not jobs of it can be here.
PROVIDERS = (*Provider.values, "simpletuner_io")
JOB_TYPES = ("cloud", "local")
# What the job object shows of other rows.
RENDERED = ("team", "trainer", "hold", "price_line", "submitted_by", "dataset_version__dataset", "progress", "upload_progress", "approval")
# A client may shorten an id to no fewer characters than this.
SHORTEST_PREFIX = 8
KEY_CHARACTERS = 256
# Of a log in one answer.
LINES_AT_ONCE = 100_000
MATCHES_AT_ONCE = 1000


class JobNotFound(NotFound):
    code = "job_not_found"


def find(caller: Caller, job_id: str, *, is_deleted_too: bool = False) -> Job:
    """The team's job with this id, or the only one whose id begins so. Raises JobNotFound."""
    jobs = (caller.team.jobs.all() if is_deleted_too else caller.team.jobs.visible()).select_related(*RENDERED)
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


def _one_of(asked: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    """A filter that takes these words, "" where it is not used. Raises InvalidInput."""
    word = asked.get(name, "")
    if word and word not in words:
        raise InvalidInput(f"Unknown {name} '{word[:60]}'. Valid ones: {', '.join(words)}.", field=name)
    return word


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
        if truth(request, "sync_active"):
            watching.note_all(caller.team, now=now)
        page = found.select_related(*RENDERED)[offset : offset + limit]
        return Response({"jobs": rendering.jobs(page, caller, now=now), "total": found.count()})

    def _filtered(self, caller: Caller, request: Request) -> JobQuerySet:
        asked = request.query_params
        found = caller.team.jobs.visible()
        if status := asked.get("status"):
            if status not in FILTERS:
                raise InvalidInput(f"Unknown status '{status}'. Valid ones: {', '.join(FILTERS)}.", field="status")
            found = found.filter(state__in=FILTERS[status])
        if provider := _one_of(asked, "provider", PROVIDERS):
            found = found.filter(provider=provider)
        if _one_of(asked, "job_type", JOB_TYPES) == "local":
            found = found.none()
        if text := asked.get("q"):
            found = found.filter(Q(job_id__startswith=text) | Q(run_name__icontains=text) | Q(config_name__icontains=text))
        if user_id := asked.get("user_id"):
            found = found.filter(submitted_by_id=int(user_id)) if user_id.isdecimal() else found.none()
        return found.submitted(since=moment(request, "since"), until=moment(request, "until"))


class JobDetail(APIView):
    """One job: nested as SimpleTuner's command line reads it, and flat as its documentation's scripts do."""

    def get_permissions(self) -> list[Any]:
        deletes = self.request.method == "DELETE"
        return [
            needs(Right.CANCEL_OWN, permission="job.delete.own")() if deletes else needs(Right.READ, permission="job.view.own")(),
        ]

    def get(self, request: Request, job_id: str) -> Response:
        """The job, with its state and cost at the top as well; `trouble` names what is wrong with it and what to do, or is null."""
        job = find(caller_in(request), job_id)
        [body] = rendering.jobs([job], caller_in(request), now=timezone.now())
        flat = {name: body[name] for name in ("job_id", "status", "config_name", "cost_usd")}
        return Response({"job": body, **flat, "upload_progress": upload_body(uploads.of(job))})

    def delete(self, request: Request, job_id: str) -> Response:
        """Take a job that is over, or whose cancel was asked for, out of the lists; its money and its audit lines stay.

        What the provider still does is reconciled and settled all the same. A repeat is no error; 409 for a job that goes on.
        """
        job = find(caller_in(request), job_id, is_deleted_too=True)
        cancelling.hide(job, caller=caller_in(request))
        return Response({"success": True, "job_id": job.job_id})


class JobLogs(APIView):
    """The log so far, from our store: as it is from a character on, or by lines."""

    permission_classes = [needs(Right.READ, permission="job.view.own")]

    def get(self, request: Request, job_id: str) -> Response:
        """`offset` is in characters, as is `length`, the next offset; `archive` says whether the log is whole.

        Lines are counted from 1, as in the stream, and each state of a progress bar is one. `tail` asks for the last so many,
        `after_line` for those behind a number, at most `limit` of them; `last_line` is what to go on behind. `q` searches: then
        `matches` has the lines in which the text occurs, in capitals or not, with their numbers, and `more` says whether there
        are others behind the last of them.
        """
        job = find_with_details(caller_in(request), job_id)
        asked = [name for name in ("offset", "tail", "after_line") if request.query_params.get(name)]
        if len(asked) > 1:
            raise InvalidInput(f"Give one of {' and '.join(asked)}, not both.", field=asked[1])
        watching.note(job, now=timezone.now())
        if text := request.query_params.get("q", ""):
            return Response({"job_id": job.job_id, **self._found(job, request, text)})
        if "tail" in asked or "after_line" in asked:
            return Response({"job_id": job.job_id, **self._lines(job, request)})
        start = number(request, "offset", default=0, least=0, most=2_000_000_000)
        text = logs.read(job, start=start)
        return Response(
            {"job_id": job.job_id, "logs": text, "offset": start, "length": start + len(text), "archive": archive_of(job).as_json()}
        )

    def _lines(self, job: Job, request: Request) -> dict[str, Any]:
        whole = JobProgress.objects.filter(job=job).values_list("lines", flat=True).first() or 0
        after = number(request, "after_line", default=0, least=0, most=2_000_000_000)
        if tail := number(request, "tail", default=0, least=0, most=LINES_AT_ONCE):
            found = logs.last_lines(job, tail)
        else:
            limit = number(request, "limit", default=LINES_AT_ONCE, least=1, most=LINES_AT_ONCE)
            found = list(islice(logs.lines(job, after=after), limit))
        # The last line may go on: whoever asks again behind `last_line` gets it as it is then.
        return {
            "logs": logs.joined(found),
            "first_line": found[0].number if found else None,
            "last_line": min(found[-1].number, whole) if found else after,
        }

    def _found(self, job: Job, request: Request, text: str) -> dict[str, Any]:
        if len(text) > logs.LONGEST_SEARCH:
            raise InvalidInput(f"A search has at most {logs.LONGEST_SEARCH} characters.", field="q")
        after = number(request, "after_line", default=0, least=0, most=2_000_000_000)
        limit = number(request, "limit", default=MATCHES_AT_ONCE, least=1, most=LINES_AT_ONCE)
        matches = list(islice(logs.search(job, text, after=after), limit + 1))
        return {
            "logs": logs.joined(matches[:limit]),
            "q": text,
            "matches": [{"line": line.number, "text": line.text} for line in matches[:limit]],
            "more": len(matches) > limit,
        }


class JobLogDownload(APIView):
    """The whole log as a file."""

    permission_classes = [needs(Right.READ, permission="job.view.own")]
    content_negotiation_class = AnyAnswer

    @extend_schema(responses={(200, "text/plain"): str})
    def get(self, request: Request, job_id: str) -> StreamingHttpResponse:
        """As the trainer printed it, with every state of its progress bars; piece by piece, however long it is."""
        return log_page.file(request._request, find_with_details(caller_in(request), job_id))


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
                "learning_rate": progress.learning_rate,
                "checkpoints": progress.parser.get("checkpoints", []),
                "validations": progress.parser.get("validations", []),
            }
        )


class JobCancel(APIView):
    """Ending a job."""

    permission_classes = [needs(Right.CANCEL_OWN, permission="job.cancel.own")]

    def post(self, request: Request, job_id: str) -> Response:
        """Cancel: an unsent job ends at once and free, a sent one when the provider confirms. A repeat is no error."""
        job = cancelling.cancel(find(caller_in(request), job_id), caller=caller_in(request))
        return Response({"success": True, "job_id": job.job_id, "status": job.state})


class StopTimeSerializer(serializers.Serializer[Any]):
    """Where the stop time shall lie: one of the two."""

    stop_after_seconds = serializers.IntegerField(required=False, allow_null=True, help_text="Seconds after the creation of the run.")
    stop_at = serializers.DateTimeField(required=False, allow_null=True)


class JobStopTime(APIView):
    """When we stop a job."""

    permission_classes = [needs(Right.CANCEL_OWN, permission="job.cancel.own")]

    @extend_schema(request=StopTimeSerializer)
    def post(self, request: Request, job_id: str) -> Response:
        """Move the stop time, by `stop_after_seconds` or `stop_at`: at least a minute ahead, and up to the ceiling that is held.

        The ceiling itself is the provider's deadline and cannot be moved; beyond it there is only a new job. Where it lies already
        is no error. 409 once the job is over or being cancelled.
        """
        asked = StopTimeSerializer(data=fields_of(request))
        asked.is_valid(raise_exception=True)
        given = {name: value for name, value in asked.validated_data.items() if value is not None}
        job = stopping.move(find(caller_in(request), job_id), caller=caller_in(request), **given)
        return Response(
            {
                "success": True,
                "job_id": job.job_id,
                "stop_after_seconds": job.stop_after_seconds,
                "stop_at": rendering.stamp(job.stop_at),
                "ceiling_seconds": job.ceiling_seconds,
                "ceiling_at": rendering.stamp(job.ceiling_at),
                "cost_at_stop": rendering.decimal(costs.at_stop_time(job)),
                "cost_at_stop_micros": costs.at_stop_time(job),
            }
        )


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
    """Asking the provider now: for who does not want to wait for the next poll, and for runs that were started elsewhere."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    def post(self, request: Request) -> Response:
        """Refresh the team's jobs that the provider has, and import what else was started on the team's own account.

        `synced` is how many are new: of the 100 newest, those of catalogued trainers. For them nothing is held, and they are not in
        the ledger. Costs and terminal states of known jobs stay as they are.
        """
        named = fields_of(request).get("provider") or "replicate"
        if named != "replicate":
            raise NotFound(f"Unknown provider '{named}'.", field="provider")
        found = syncing.sync(caller_in(request))
        return Response({"synced": found.synced, "updated": found.updated, "message": found.message})


class JobArtifacts(APIView):
    """The files of the result, wherever they lie, with their hashes."""

    permission_classes = [needs(Right.READ, permission="job.view.own")]

    def get(self, request: Request, job_id: str) -> Response:
        """Those in our storage (`source` local), and those that were seen in the team's bucket (s3) or at the Hub (hub)."""
        job = find_with_details(caller_in(request), job_id)
        results = list(job.result_deliveries.all())
        seen = [self._elsewhere(delivery, item) for delivery in results for item in delivery.listing]
        return Response(
            {
                "job_id": job.job_id,
                "artifacts": [self._artifact(job, item) for item in job.artifacts.all()] + seen,
                "deliveries": [rendering.delivery(delivery) for delivery in results],
                "archive": archive_of(job).as_json(),
            }
        )

    def _elsewhere(self, delivery: ResultDelivery, item: dict[str, Any]) -> dict[str, Any]:
        return {
            "source": delivery.destination,
            "name": item["key"],
            "kind": item["kind"],
            "size_bytes": item["size_bytes"],
            "sha256": item["sha256"],
            "content_type": None,
            "stored_at": None,
            "url": item["url"],
        }

    def _artifact(self, job: Job, item: Any) -> dict[str, Any]:
        return {
            "source": Destination.LOCAL.value,
            "name": item.key,
            "kind": item.kind,
            "size_bytes": item.size_bytes,
            "sha256": item.sha256,
            "content_type": item.content_type,
            "stored_at": rendering.stamp(item.stored_at),
            "url": f"/api/cloud/storage/outputs/{job.job_id}/{item.key}",
        }


class JobDeliveriesCheck(APIView):
    """Looking again at a result that lies elsewhere."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    def post(self, request: Request, job_id: str) -> Response:
        """Have the bucket or the repository looked at soon; how that went stands in the artifacts' `deliveries`."""
        job = find_with_details(caller_in(request), job_id)
        asked = deliveries.ask_again(job, caller=caller_in(request))
        return Response({"success": True, "job_id": job.job_id, "deliveries": [rendering.delivery(delivery) for delivery in asked]})
