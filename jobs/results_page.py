"""What is shown of a result: its files, wherever they lie, as far as the caller may see them."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts.callers import Caller
from accounts.models import Team
from jobs.models import Artifact, ResultDelivery
from jobs.models.results import ArtifactKind
from jobs.permissions import sees_details
from jobs.states import State

# A page of results shows so many files of each; the job's own page shows all.
MOST_FILES = 50


@dataclass(frozen=True, kw_only=True)
class Result:
    """One delivery with its files: `weights` first, `others` folded away, `hidden` more that are not shown here."""

    delivery: ResultDelivery
    sees_details: bool
    weights: list[Any]
    others: list[Any]
    hidden: int


def results_of(team: Team) -> QuerySet[ResultDelivery]:
    """Where the team's finished jobs took their results, newest first; a run that failed counts where it left files."""
    left_files = Exists(Artifact.objects.filter(job=OuterRef("job")))
    finished = ResultDelivery.objects.filter(job__in=team.jobs.visible().terminal())
    return (
        finished.filter(Q(job__state=State.COMPLETED) | left_files)
        .select_related("job__team", "job__submitted_by", "job__trainer")
        .prefetch_related("job__artifacts")
        .order_by("-job__ended_at", "-pk")
    )


def shown(delivery: ResultDelivery, caller: Caller) -> Result:
    """A result as this person may see it."""
    details = sees_details(caller, delivery.job)
    files: list[Any] = _files(delivery) if details else []
    is_weights = [_kind(file) == ArtifactKind.WEIGHTS for file in files]
    weights = [file for file, chosen in zip(files, is_weights, strict=True) if chosen]
    others = [file for file, chosen in zip(files, is_weights, strict=True) if not chosen]
    left = max(0, MOST_FILES - len(weights))
    in_all = max(len(files), delivery.receipt.get("files", 0) if details else 0)
    kept = weights[:MOST_FILES], others[:left]
    return Result(
        delivery=delivery, sees_details=details, weights=kept[0], others=kept[1], hidden=max(0, in_all - len(kept[0]) - len(kept[1]))
    )


def _files(delivery: ResultDelivery) -> list[Any]:
    return delivery.listing if delivery.is_elsewhere else list(delivery.job.artifacts.all())


def _kind(file: Any) -> str:
    return file["kind"] if isinstance(file, dict) else file.kind
