"""Datasets by API: upload, list, add a version."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import needs
from accounts.roles import Right
from jobs.api import rendering
from jobs.models import Dataset, DatasetVersion
from jobs.services import datasets, storage_quotas


class DatasetAccess(APIView):
    """Everybody reads, who may add datasets writes. Uploads are multipart forms."""

    parser_classes = [MultiPartParser, FormParser]

    def get_permissions(self) -> list[Any]:
        right = Right.READ if self.request.method == "GET" else Right.DATASETS
        return [needs(right, permission="config.view" if right == Right.READ else "config.create")()]


class DatasetList(DatasetAccess):
    def get(self, request: Request) -> Response:
        """The team's datasets with the numbers of their versions."""
        rows = caller_in(request).team.datasets.filter(removed_at=None).prefetch_related("versions")
        return Response({"datasets": [dataset_json(row) for row in rows]})

    def post(self, request: Request) -> Response:
        """Make a dataset from a form: `name`, and either several `files` (images and their .txt captions) or one `archive` (zip)."""
        with incoming(request) as files:
            version = datasets.create(
                caller_in(request),
                name=str(fields_of(request).get("name", "")),
                description=str(fields_of(request).get("description", ""))[:500],
                files=files,
            )
        return _added(request, version)


class DatasetDetail(DatasetAccess):
    def get(self, request: Request, name: str) -> Response:
        """One dataset with the files of its newest version."""
        dataset = find(caller_in(request), name)
        files = dataset.versions.all()[0].files.select_related("blob") if dataset.versions.exists() else []
        listed = [
            {
                "name": f.name,
                "caption": f.caption,
                "width": f.width,
                "height": f.height,
                "size_bytes": f.blob.size_bytes,
                "sha256": f.blob.sha256,
            }
            for f in files
        ]
        return Response({"dataset": dataset_json(dataset), "files": listed})


class DatasetVersions(DatasetAccess):
    def post(self, request: Request, name: str) -> Response:
        """Add a version that holds exactly the files of this form."""
        dataset = find(caller_in(request), name)
        with incoming(request) as files:
            version = datasets.add_version(caller_in(request), dataset, files=files)
        return _added(request, version)


def _added(request: Request, version: DatasetVersion) -> Response:
    """The new version, and what quotas of storage say from 80 % on."""
    answer = {"success": True, "dataset": dataset_json(version.dataset), "version": version_json(version)}
    return Response(answer | {"quota_warnings": storage_quotas.warnings(caller_in(request))}, status=201)


def find(caller: Caller, name: str) -> Dataset:
    found = caller.team.datasets.filter(name=name, removed_at=None).first()
    if found is None:
        raise NotFound(f"Dataset not found: {name}", hint="List the team's datasets with GET /api/cloud/datasets.")
    return found


@contextmanager
def incoming(request: Request) -> Iterator[Iterable[datasets.Incoming]]:
    """The files of the form, out of its archive or one by one. Raises InvalidInput if there are none, or both."""
    archive, files = request.FILES.get("archive"), request.FILES.getlist("files")
    if bool(archive) == bool(files):
        raise InvalidInput("Send either several 'files' or one 'archive' as a multipart form.", field="files")
    if archive:
        yield datasets.unpacked(archive.file)
    else:
        yield [_one(file) for file in files]


def _one(file: UploadedFile) -> datasets.Incoming:
    return datasets.Incoming(name=file.name or "", open=lambda: file.open("rb"))


def dataset_json(row: Dataset) -> dict[str, Any]:
    versions = list(row.versions.all())
    return {
        "name": row.name,
        "description": row.description,
        "created_at": rendering.stamp(row.created_at),
        "latest": version_json(versions[0]) if versions else None,
        "versions": [version.number for version in versions],
    }


def version_json(row: DatasetVersion) -> dict[str, Any]:
    return {
        "version": row.number,
        "reference": f"{row.dataset.name}@{row.number}",
        "images": row.image_count,
        "size_bytes": row.size_bytes,
        "manifest_sha256": row.manifest_sha256,
        "created_at": rendering.stamp(row.created_at),
    }
