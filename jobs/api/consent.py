"""Whether a team's data may be uploaded, and what would be, by API."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import IsCaller, needs
from accounts.roles import Right
from jobs.models import DatasetVersion
from jobs.services import consent, planning, provider

NOT_HERE = "Folders of your own machine are not read by this server. Upload the images as a dataset and name it in 'dataset'."


class ConsentSetting(APIView):
    """Whether data may leave for the provider: ask, allow or deny."""

    def get_permissions(self) -> list[Any]:
        return [IsCaller()] if self.request.method == "GET" else [needs(Right.MANAGE, permission="admin.config")()]

    def get(self, request: Request) -> Response:
        """The team's setting."""
        return Response({"consent": provider.settings_of(caller_in(request).team).data_consent})

    def put(self, request: Request) -> Response:
        """Change it. With deny, a job that would upload data is refused at submit."""
        mode = fields_of(request).get("consent")
        consent.choose(caller_in(request), mode if isinstance(mode, str) else "")
        return Response({"success": True, "consent": mode})


class ConsentPreview(APIView):
    """What a submission would upload."""

    permission_classes = [needs(Right.SUBMIT, permission="job.submit")]

    def post(self, request: Request) -> Response:
        """A dataloader list, or an object with `dataset`. Only the team's own datasets are looked at, and no folder of any machine."""
        caller = caller_in(request)
        listed = [self._entry(caller, backend) for backend in self._backends(request)]
        uploads = [entry for entry in listed if entry["type"] == "local"]
        return Response(
            {
                "requires_upload": bool(uploads),
                "consent_mode": provider.settings_of(caller.team).data_consent,
                "datasets": listed,
                "total_files": sum(entry["file_count"] for entry in listed),
                "total_size_mb": round(sum(entry["total_size_mb"] for entry in listed), 2),
                "message": NOT_HERE if any(not entry["file_count"] for entry in uploads) else None,
            }
        )

    def _backends(self, request: Request) -> list[dict[str, Any]]:
        asked = request.data
        if isinstance(asked, dict):
            named = asked.get("dataset")
            asked = [{"id": named, "dataset": named}] if named else asked.get("dataloader_config") or []
        if not isinstance(asked, list) or not all(isinstance(backend, dict) for backend in asked):
            raise InvalidInput("The body must be a list of data backends.", field="dataloader_config")
        # Backends of embeddings hold no data of anybody.
        return [backend for backend in asked if backend.get("dataset_type", "image") not in ("text_embeds", "image_embeds")]

    def _entry(self, caller: Caller, backend: dict[str, Any]) -> dict[str, Any]:
        version = self._version(caller, backend)
        folder = backend.get("instance_data_dir")
        return {
            "id": str(backend.get("id") or ""),
            "type": str(backend.get("type") or "local"),
            "instance_data_dir": folder if isinstance(folder, str) else None,
            "file_count": version.image_count if version else 0,
            "total_size_mb": round(version.size_bytes / 1024 / 1024, 2) if version else 0.0,
        }

    def _version(self, caller: Caller, backend: dict[str, Any]) -> DatasetVersion | None:
        """The dataset that a backend names, by `dataset` or as its id. Raises NotFound for one that it names and nobody has."""
        if named := backend.get("dataset"):
            return planning.version_named(caller.team, str(named))
        try:
            return planning.version_named(caller.team, str(backend.get("id") or ""))
        except NotFound:
            return None
