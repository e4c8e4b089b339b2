"""Watching the upload of a job's data by API."""

from django.http import StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.api import AnyAnswer, caller_in
from accounts.errors import NotFound
from accounts.permissions import needs
from accounts.roles import Right
from jobs import following
from jobs.upload_following import UploadFollower


class UploadStream(APIView):
    """How far the data of a submission is, as an event stream."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]
    content_negotiation_class = AnyAnswer

    @extend_schema(responses={(200, "text/event-stream"): str})
    def get(self, request: Request, upload_id: str) -> StreamingHttpResponse:
        """A frame on each change: scanning, packaging, uploading, then complete or error, which is the last."""
        caller = caller_in(request)
        # A retry with the client's own id is the one that is meant.
        job = caller.team.jobs.visible().filter(upload_id=upload_id).order_by("-submitted_at", "-pk").first()
        if job is None:
            raise NotFound(
                f"Upload not found: {upload_id}", hint="The id is `upload_id` of the submission's answer.", details={"upload_id": upload_id}
            )
        return following.response(request._request, UploadFollower(job, caller))
