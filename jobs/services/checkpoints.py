"""The checkpoints that a job left, and why a job that continues it cannot begin from one.

What a trainer at Replicate can begin from, as SimpleTuner's own code (github.com/bghira/SimpleTuner) says:
- `resume_from_checkpoint` names a folder below the run's output folder (helpers/training/trainer.py, init_resume_checkpoint); `latest`
  takes the newest there. The predictor makes that folder anew for each run (simpletuner/cog.py, `output/cog/cog-<id>`), so it is empty:
  `latest` finds nothing and trains from the first step on, any other name ends the run.
- Newer code (commit 000281b6) also fetches `s3://bucket/…/checkpoint-N`, where the run publishes to that bucket and a manifest lies
  beside the checkpoint. Whether the version that Replicate runs has that is not known, and nothing here has shown it, so it is refused.
- `init_lora` is opened as a safetensors file on the trainer's disk (helpers/training/adapter.py, load_lora_weights); it takes no
  repository and no address. The archive of images lies in a folder whose name the run invents, so a file in it cannot be named either.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jobs import trainingconfigs
from jobs.models import Job
from jobs.models.job import Destination
from jobs.models.results import ArtifactKind

FOLDER = re.compile(r"(?:^|/)(checkpoint-(\d{1,9}))/")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint and where it lies; `steps_left` is how many of the job's steps come after it."""

    name: str
    step: int
    place: str
    size_bytes: int
    steps_left: int


def of(job: Job) -> list[Checkpoint]:
    """The checkpoints of a job's result, here and where it was seen elsewhere, the newest first."""
    sizes: dict[tuple[str, int, str], int] = {}
    for place, key, size in _files(job):
        if found := FOLDER.search(key):
            which = (found[1], int(found[2]), place)
            sizes[which] = sizes.get(which, 0) + size
    total = trainingconfigs.max_train_steps(job.config)
    left = [
        Checkpoint(name=name, step=step, place=place, size_bytes=size, steps_left=max(0, total - step))
        for (name, step, place), size in sizes.items()
    ]
    return sorted(left, key=lambda each: (-each.step, each.place))


def _files(job: Job) -> Iterator[tuple[str, str, int]]:
    """Where each file of a checkpoint lies, its name there, and its size."""
    here = str(Destination.LOCAL.label)
    for key, size in job.artifacts.filter(kind=ArtifactKind.CHECKPOINT).values_list("key", "size_bytes"):
        yield here, key, size
    for delivery in job.result_deliveries.all():
        for file in delivery.receipt.get("listing", ()):
            if file["kind"] == ArtifactKind.CHECKPOINT:
                yield delivery.get_destination_display(), file["key"], file["size_bytes"]
