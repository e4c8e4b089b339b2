"""Short-lived links to artifacts: who asks is checked once, then the link alone opens the file."""

from datetime import timedelta
from pathlib import PurePosixPath

from django.core import signing
from django.urls import reverse

from jobs.models import Artifact

LIFE = timedelta(minutes=5)
SALT = "jobs.artifact"


class LinkExpired(Exception):
    """The link was ours and its time is over."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(f"The link to artifact {artifact.pk} has expired.")
        self.artifact = artifact


def link(artifact: Artifact) -> str:
    """The path that opens this file for LIFE without signing in. Check first that the caller may have the file."""
    signed = signing.dumps(artifact.pk, salt=SALT)
    return reverse("jobs:file", args=[artifact.job.team.slug, signed, PurePosixPath(artifact.key).name])


def artifact_of(signed: str, *, team: str) -> Artifact | None:
    """The artifact that a link names, of the team (a slug) whose address it is; None for a link that is not ours.

    Raises LinkExpired.
    """
    try:
        pk = signing.loads(signed, salt=SALT)
    except signing.BadSignature:
        return None
    artifact = Artifact.objects.select_related("job__team").filter(pk=pk, job__team__slug=team, job__deleted_at=None).first()
    if artifact is None:
        return None
    try:
        signing.loads(signed, salt=SALT, max_age=LIFE)
    except signing.SignatureExpired as error:
        raise LinkExpired(artifact) from error
    return artifact
