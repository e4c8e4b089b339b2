"""Submitting a job by API, as SimpleTuner's clients do it."""

import uuid
from datetime import datetime
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import moments
from accounts.api import caller_in, fields_of, truth
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import needs
from accounts.roles import Right
from jobs.api import dryrun
from jobs.models.catalogue import Provider
from jobs.services import addresses, submission
from jobs.services import dryrun as trying
from jobs.services.planning import InvalidConfig
from jobs.services.repeats import Repeat
from jobs.specs import JobSpec
from jobs.trainingconfigs import holds_secret

KEY_CHARACTERS = 256


def start_of(text: str | None) -> datetime | None:
    """When a job may start at the earliest, in UTC unless it says another zone. Raises InvalidInput."""
    found = moments.read(text) if text else None
    if text and found is None:
        raise InvalidInput("not_before must be a time, like 2026-01-31T22:00:00Z.", field="not_before")
    return found


class SubmitSerializer(serializers.Serializer[Any]):
    """The body of a submission. Unknown fields are ignored, as SimpleTuner's own server does."""

    config_name_to_load = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=128)
    config = serializers.DictField(required=False, allow_null=True)
    config_name = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=128)
    dataloader_config = serializers.ListField(child=serializers.DictField(), required=False, allow_null=True)
    dataset = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=120)
    hardware_profile = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=60)
    destination = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=10)
    hub_model_id = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=200)
    max_seconds = serializers.IntegerField(required=False, allow_null=True)
    stop_after_seconds = serializers.IntegerField(required=False, allow_null=True)
    idempotency_key = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=KEY_CHARACTERS)
    tracker_run_name = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=200)
    upload_id = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=64)
    not_before = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=40)
    webhook_url = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=500)
    snapshot_name = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=200)
    snapshot_message = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=2000)
    dry_run = serializers.BooleanField(required=False, allow_null=True)

    def validate_dataloader_config(self, given: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        """Refuse keys: the provider redacts nothing in a dataloader, and we would keep them in clear."""
        if holds_secret(given):
            raise serializers.ValidationError(
                "A dataloader must not hold keys or tokens: everybody who may see the job at the provider can read it. "
                "Upload the images as a dataset, or name a place that needs no key."
            )
        return given

    def spec(self, *, provider: str) -> JobSpec:
        given = self.validated_data
        return JobSpec(
            provider=provider,
            config_name=given.get("config_name_to_load") or "",
            config=given.get("config"),
            label=given.get("config_name") or "",
            dataloader=given.get("dataloader_config") or [],
            dataset=given.get("dataset") or "",
            hardware_profile=given.get("hardware_profile") or "",
            destination=given.get("destination") or "",
            hub_model_id=given.get("hub_model_id") or "",
            run_name=given.get("tracker_run_name") or "",
            upload_id=given.get("upload_id") or str(uuid.uuid4()),
            max_seconds=given.get("max_seconds"),
            stop_after_seconds=given.get("stop_after_seconds"),
            not_before=start_of(given.get("not_before")),
            snapshot_name=given.get("snapshot_name") or "",
            snapshot_message=given.get("snapshot_message") or "",
        )


class SubmitJob(APIView):
    """Admit a job. Answers in milliseconds; packing, upload and the provider come later.

    With `?dry_run=true`, or `dry_run` in the body, everything is decided in the same way and nothing is kept but a line in the audit
    trail: the answer is 200 with the `verdict` admitted, needs_approval, repeat or refused, and with what the submission would have
    answered.
    """

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    @extend_schema(request=SubmitSerializer, parameters=[OpenApiParameter("dry_run", bool, description="Decide, and keep nothing.")])
    def post(self, request: Request, provider: str = "") -> Response:
        named = provider or request.query_params.get("provider") or "replicate"
        if named not in Provider.values:
            raise NotFound(f"Unknown provider '{named}'.", field="provider", hint="This server runs jobs on replicate.")
        asked = SubmitSerializer(data=fields_of(request))
        asked.is_valid(raise_exception=True)
        # Taken at both places: who asks at the other one for a trial must not pay for a run.
        is_trial = bool(asked.validated_data.pop("dry_run", False)) or truth(request, "dry_run")
        self._check_webhook(request, asked.validated_data.get("webhook_url") or "")
        spec, repeat = asked.spec(provider=named), self._repeat(request, asked.validated_data)
        if is_trial:
            return Response(dryrun.answer(trying.dry_run(caller_in(request), spec, repeat=repeat), spec))
        submitted = submission.submit(caller_in(request), spec, repeat=repeat)
        job = submitted.job
        return Response(
            {
                "success": True,
                "job_id": job.job_id,
                "status": job.state,
                "error": None,
                "data_uploaded": hasattr(job, "provider_upload"),
                "upload_id": job.upload_id or None,
                "cost_limit_warning": " ".join(submitted.cost_warnings) or None,
                "quota_warnings": submitted.quota_warnings,
                "idempotent_hit": submitted.is_repeat,
                "requires_approval": job.state == "blocked",
            }
        )

    def _repeat(self, request: Request, given: dict[str, Any]) -> Repeat | None:
        """What makes this submission repeatable: a key in the body, or a stricter one in the header. Unknown fields do not count."""
        header = request.headers.get("Idempotency-Key", "").strip()
        if len(header) > KEY_CHARACTERS:
            raise InvalidInput(f"An Idempotency-Key has at most {KEY_CHARACTERS} characters.", field="idempotency_key")
        key = header or given.get("idempotency_key")
        body = {name: value for name, value in given.items() if name != "idempotency_key"}
        return Repeat(key=key, body=body, is_strict=bool(header)) if key else None

    def _check_webhook(self, request: Request, url: str) -> None:
        """A job's webhooks go to this installation; a client may name its address, and no other."""
        own = addresses.public_base(caller_in(request).team)
        if url and url.rstrip("/") != own and not (own and url.startswith(f"{own}/")):
            raise InvalidConfig("webhook_url must be the public address of this server.", field="webhook_url")


class PreSubmitCheck(APIView):
    """What SimpleTuner's pages ask before a submission: the state of the configs' git repository."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    def get(self, request: Request) -> Response:
        """There is no repository here: each job keeps a snapshot of its config instead."""
        return Response(
            {
                "git_available": False,
                "repo_present": False,
                "is_dirty": False,
                "dirty_count": 0,
                "dirty_paths": [],
                "current_commit": None,
                "current_abbrev": None,
                "current_branch": None,
                "tracker_run_name": None,
                "config_name": None,
            }
        )
