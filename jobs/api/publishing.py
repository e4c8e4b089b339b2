"""Where results can go, by API: this server, the Hub and the team's own bucket."""

import json
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import credentials
from accounts.api import caller_in
from accounts.callers import Caller
from accounts.models import Credential, CredentialHealth, CredentialKind
from accounts.permissions import IsCaller, needs
from accounts.roles import Right
from jobs.services import addresses, configs, provider

NOWHERE = (
    "Results have nowhere to go yet. Set the public address of this server, save an S3 bucket, "
    "or save a Hugging Face token and name a repository in 'hub_model_id'."
)


class PublishingStatus(APIView):
    """Which destinations a job of the caller may have."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """A repository of the Hub is named by each job, so none stands here."""
        caller = caller_in(request)
        hub = _credential(caller, CredentialKind.HUGGINGFACE)
        found = _destinations(caller)
        return Response(
            {
                "hf_configured": hub is not None,
                "hf_token_valid": hub is not None and hub.health == CredentialHealth.GOOD,
                "hf_username": (hub.account_username or None) if hub else None,
                "hub_model_id": None,
                "push_to_hub": found["push_to_hub"],
                "s3_configured": found["s3_configured"],
                "local_upload_available": found["local_upload_available"],
                "local_upload_dir": None,
                "message": None if any(found[name] for name in ("push_to_hub", "s3_configured", "local_upload_available")) else NOWHERE,
            }
        )


class PublishingSummary(APIView):
    """The same in the words of SimpleTuner's pages."""

    permission_classes = [IsCaller]

    def get(self, request: Request) -> Response:
        """Whether the Hub, a bucket and this server can take results."""
        return Response(_destinations(caller_in(request)))


class EnableRecommended(APIView):
    """Pushing results to the Hub, as SimpleTuner recommends it."""

    permission_classes = [needs(Right.DATASETS, permission="config.edit.own")]

    def post(self, request: Request) -> Response:
        """Switch it on in the caller's active config. Each job still names its repository, in `hub_model_id`."""
        row = configs.publish_as_recommended(caller_in(request))
        message = f"Config '{row.name}' pushes results to the Hugging Face Hub. Name the repository in 'hub_model_id' when you submit."
        return Response({"success": True, "message": message, "settings": configs.PUBLISHING})


class LocalUpload(APIView):
    """The storage endpoint to which a trainer uploads."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    def get(self, request: Request) -> Response:
        """Its address and bucket. The keys are made for each job and shown to nobody; the folder on this server is not told."""
        endpoint = addresses.storage_endpoint(caller_in(request).team)
        target = [{"provider": "s3", "bucket": "outputs", "endpoint_url": endpoint, "use_path_style": True}]
        return Response(
            {
                "enabled": bool(endpoint),
                "endpoint_url": endpoint or None,
                "bucket": "outputs",
                "config_json": json.dumps(target) if endpoint else None,
                "outputs_dir": None,
            }
        )


def _credential(caller: Caller, kind: CredentialKind) -> Credential | None:
    return credentials.find(team=caller.team, user=caller.user, kind=kind)


def _destinations(caller: Caller) -> dict[str, Any]:
    own = provider.settings_of(caller.team)
    bucket = own.s3_delivery.get("bucket")
    return {
        "push_to_hub": _credential(caller, CredentialKind.HUGGINGFACE) is not None,
        "hub_model_id": None,
        "s3_configured": bool(bucket) and _credential(caller, CredentialKind.S3) is not None,
        "s3_bucket": bucket,
        "local_upload_configured": own.s3_endpoint_enabled,
        "local_upload_available": bool(addresses.storage_endpoint(caller.team)),
    }
