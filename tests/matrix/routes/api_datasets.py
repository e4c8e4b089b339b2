"""Datasets by API."""

from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.roles import Right
from tests.jobs.sandbox.servers import picture
from tests.matrix.table import Route, get, post
from tests.matrix.world import Side

NAME = {"name": lambda side: side.version.dataset.name}


def one_picture(_side: Side) -> dict[str, object]:
    return {"name": "new-houses", "files": SimpleUploadedFile("b.jpg", picture(width=32))}


ROUTES: list[Route] = [
    get("/api/cloud/datasets", Right.READ),
    post("/api/cloud/datasets", Right.DATASETS, form=one_picture, answers=201),
    get("/api/cloud/datasets/<name>", Right.READ, at=NAME),
    post("/api/cloud/datasets/<name>/versions", Right.DATASETS, at=NAME, form=one_picture, answers=201),
]
