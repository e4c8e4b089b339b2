"""How the endpoint answers everybody else: JSON for trainers with a bare upload token, and for the portal and API callers."""

from collections.abc import Iterable
from typing import Any, NoReturn, cast

from django.db.models import Count, Max, QuerySet, Sum
from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.callers import Caller
from accounts.permissions import needs
from accounts.roles import Right, Role
from jobs.models import Artifact, Job
from jobs.storage import access, listing, objects, pace, s3, serving
from jobs.storage.access import Grant
from jobs.storage.body import Body
from jobs.storage.errors import AccessDenied, MethodNotAllowed, NoSuchKey
from jobs.storage.keys import OUTPUTS
from jobs.storage.objects import MAX_OBJECT_BYTES


class AlwaysJSON(BaseContentNegotiation):
    """A file is sent whatever kinds the client says that it takes, and so is a refusal."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class ForCallers(APIView):
    """The team's results for its members and tokens; read only."""

    permission_classes = [needs(Right.READ, permission="job.view.all")]
    content_negotiation_class = AlwaysJSON
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        with pace.counting_strangers(request._request):
            super().initial(request, *args, **kwargs)
        pace.count_reader(request._request, cast(Caller, request.auth))

    def get(self, request: Request, bucket: str = "", name: str = "") -> HttpResponseBase:
        jobs = visible_jobs(cast(Caller, request.auth))
        if not bucket:
            return Response(_buckets(jobs))
        if not name:
            return Response(_listed(request, bucket, jobs))
        access.check_name(name)
        job_id, _, key = name.partition("/")
        job = jobs.filter(job_id=job_id).first() if bucket == OUTPUTS else None
        if job is None:
            raise NoSuchKey("There is no such object.")
        return serving.answer(request._request, objects.find(job, key))

    def head(self, request: Request, bucket: str = "", name: str = "") -> HttpResponseBase:
        return self.get(request, bucket, name)

    def refuse(self, request: Request, bucket: str = "", name: str = "") -> NoReturn:
        raise MethodNotAllowed("Results come in by a job's own key pair; members and API tokens read them.")

    put = post = patch = delete = refuse


class ForUploadTokens(APIView):
    """One job's objects for the holder of its upload token."""

    authentication_classes = []
    permission_classes = []
    content_negotiation_class = AlwaysJSON
    schema = None

    def put(self, request: Request, bucket: str = "", name: str = "") -> Response:
        grant, key = self._granted(request, bucket, name)
        asked = request._request
        body = Body(asked, payload=grant.payload, signer=None, limit=MAX_OBJECT_BYTES)
        artifact = objects.put(
            grant.pair, key, body, content_type=s3.content_type(asked), metadata=s3.metadata(asked), only_if_absent=s3.only_if_absent(asked)
        )
        return Response({"ETag": artifact.etag, "Key": name, "Bucket": bucket}, headers={"ETag": f'"{artifact.etag}"'})

    def get(self, request: Request, bucket: str = "", name: str = "") -> HttpResponseBase:
        if not name:
            prefix = listing.Query.read(request.query_params).prefix
            grant = access.by_token(request._request, name=prefix, now=timezone.now())
            grant.require_bucket(bucket)
            return Response(_listed(request, bucket, Job.objects.filter(pk=grant.job.pk)))
        grant, key = self._granted(request, bucket, name)
        return serving.answer(request._request, objects.find(grant.job, key))

    def head(self, request: Request, bucket: str = "", name: str = "") -> HttpResponseBase:
        return self.get(request, bucket, name)

    def delete(self, request: Request, bucket: str = "", name: str = "") -> Response:
        grant, key = self._granted(request, bucket, name)
        objects.delete(grant.pair, key)
        return Response({"success": True})

    def _granted(self, request: Request, bucket: str, name: str) -> tuple[Grant, str]:
        access.check_name(name)
        if bucket != OUTPUTS:
            raise AccessDenied(f"An upload token opens the bucket {OUTPUTS} only.")
        grant = access.by_token(request._request, name=name, now=timezone.now())
        return grant, grant.require(bucket, name)


def visible_jobs(caller: Caller) -> QuerySet[Job]:
    """The team's jobs whose files the caller may see: all, unless the team keeps members' work apart."""
    jobs = Job.objects.visible().filter(team=caller.team)
    if caller.team.shows_details or caller.role in {Role.LEAD, Role.OWNER}:
        return jobs
    return jobs.filter(submitted_by=caller.user)


def _buckets(jobs: QuerySet[Job]) -> dict[str, Any]:
    """`LastModified` is in seconds since 1970. Without a file there is no bucket."""
    sums = Artifact.objects.filter(job__in=jobs).aggregate(files=Count("pk"), size=Sum("size_bytes"), newest=Max("stored_at"))
    if not sums["files"]:
        return {"Buckets": [], "total_size": 0}
    bucket = {"Name": OUTPUTS, "Size": sums["size"], "FileCount": sums["files"], "LastModified": sums["newest"].timestamp()}
    return {"Buckets": [bucket], "total_size": sums["size"]}


def _listed(request: Request, bucket: str, jobs: QuerySet[Job]) -> dict[str, Any]:
    """A page of a bucket; one that is not there is empty."""
    query = listing.Query.read(request.query_params)
    if bucket != OUTPUTS:
        jobs = jobs.none()
    elif "/" in query.prefix:
        jobs = jobs.filter(job_id=query.prefix.partition("/")[0])
    found = listing.page(objects.listed(jobs, prefix=query.prefix, after=query.after), query)
    contents = [
        {"Key": item.name, "Size": item.size, "LastModified": item.modified_at.timestamp(), "ETag": item.etag} for item in found.objects
    ]
    page: dict[str, Any] = {"Contents": contents, "Name": bucket, "Prefix": query.prefix}
    page |= {"KeyCount": found.count, "IsTruncated": found.is_truncated}
    if query.delimiter:
        page["CommonPrefixes"] = [{"Prefix": name} for name in found.prefixes]
    if found.is_truncated:
        page["NextContinuationToken"] = found.next_token
    return page
