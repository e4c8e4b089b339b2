"""What a trainer says of itself in SimpleTuner's own webhook format, read into a value.

It is the trainer's word and not the provider's: it tells how far the training is, and never that a job is over. A word
that sounds like an end only makes us ask the provider.

Source: simpletuner-api.md 9.1, body (b); SimpleTuner's simpletuner/helpers/webhooks/events.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MESSAGE_CHARACTERS = 300


class TrainerWord(StrEnum):
    """The event words that SimpleTuner documents. The first six are the provider's as well."""

    START = "start"
    LOGS = "logs"
    OUTPUT = "output"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    STAGE = "lifecycle.stage"
    STATUS = "training.status"
    PROGRESS = "training.progress"
    CHECKPOINT = "training.checkpoint"
    VALIDATION = "training.validation"
    NOTIFICATION = "notification"
    DEBUG = "debug"
    ERROR = "error"


# After these the provider knows more than a minute ago; it is asked, and what it says counts.
_TURNING_POINTS = frozenset({TrainerWord.START, TrainerWord.OUTPUT, TrainerWord.COMPLETED, TrainerWord.FAILED, TrainerWord.CANCELED})
_STATUSES_TO_ASK_AT = frozenset({"starting", "started", "running", "completed", "succeeded", "failed", "error", "cancelled", "canceled"})
_LOSSES = ("step_loss", "loss", "train_loss")
_RATES = ("learning_rate", "lr")
# Stages by their keys and labels, in the words of the log's parser.
_STAGES = (
    (("checkpoint", "saving", "upload"), "Saving checkpoint"),
    (("validation",), "Validation"),
    (("warmup", "warm-up", "warming"), "Warmup"),
    (("training", "train"), "Training"),
)


@dataclass(frozen=True, kw_only=True)
class TrainerEvent:
    """One event: its word, and how far the training is as far as it says so.

    `word` is None for one that nobody documents. `checkpoint` is its label, `trouble` the text of an error.
    `asks_provider` says that something may have changed that only the provider can tell.
    """

    word: TrainerWord | None
    stage: str = ""
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    seconds_left: int | None = None
    checkpoint: str = ""
    trouble: str = ""
    asks_provider: bool = False


def is_one(said: Mapping[str, Any]) -> bool:
    """Whether a body is a trainer's event. The provider's bodies have an id and a status and name no event."""
    return isinstance(said.get("type") or said.get("event_type"), str) and not ("id" in said and "status" in said)


def prediction_named_by(said: Mapping[str, Any]) -> Any:
    """The prediction that an event says it is of, if it does."""
    return said.get("prediction_id") or said.get("job_id")


def parse(said: Mapping[str, Any]) -> TrainerEvent:
    """Read an event. Whatever is missing or of another kind than documented counts as not said."""
    word = _word(said.get("type") or said.get("event_type"))
    data, stage = _object(said, "data"), _object(said, "stage")
    progress = _object(said, "progress") or _object(stage, "progress")
    metrics = {**data, **progress, **_object(progress, "metrics")}
    # Of other events `current` and `total` count something else: files that are read, images that are drawn.
    counts_steps = word in (TrainerWord.PROGRESS, TrainerWord.STATUS)
    more = (("current",), ("total",)) if counts_steps else ((), ())
    severity, status = said.get("severity"), said.get("status") or data.get("status")
    is_trouble = word == TrainerWord.ERROR or (word == TrainerWord.NOTIFICATION and severity in ("error", "critical"))
    return TrainerEvent(
        word=word,
        stage=_stage(word, stage),
        step=_whole(metrics, "global_step", "step", *more[0]),
        total_steps=_whole(metrics, "total_steps", "max_steps", *more[1]),
        loss=_number(metrics, *_LOSSES),
        learning_rate=_number(metrics, *_RATES),
        seconds_left=_whole(metrics, "eta_seconds") if counts_steps else None,
        checkpoint=_checkpoint(_object(said, "checkpoint")) if word == TrainerWord.CHECKPOINT else "",
        trouble=_text(said, "message", "error", "title") if is_trouble else "",
        asks_provider=word in _TURNING_POINTS or (word == TrainerWord.STATUS and status in _STATUSES_TO_ASK_AT),
    )


def _word(given: Any) -> TrainerWord | None:
    try:
        return TrainerWord(given)
    except ValueError:
        return None


def _stage(word: TrainerWord | None, stage: Mapping[str, Any]) -> str:
    """The stage in the words of the log's parser; after one that is over the training goes on."""
    if word == TrainerWord.PROGRESS:
        return "Training"
    if word == TrainerWord.VALIDATION:
        return "Validation"
    if word != TrainerWord.STAGE:
        return ""
    named = f"{stage.get('key')} {stage.get('label')}".lower()
    found = next((name for marks, name in _STAGES if any(mark in named for mark in marks)), "Preprocessing")
    is_over = stage.get("status") in ("completed", "failed", "error")
    return "Training" if is_over and found in ("Saving checkpoint", "Validation") else found


def _checkpoint(given: Mapping[str, Any]) -> str:
    """A checkpoint's label, else the last part of its path: where it lies on the trainer's machine is nobody's business."""
    return (_text(given, "label") or _text(given, "path").rstrip("/").rpartition("/")[2])[:100]


def _object(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = given.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(given: Mapping[str, Any], *names: str) -> str:
    found = next((given[name] for name in names if isinstance(given.get(name), str) and given[name].strip()), "")
    return found.replace("\x00", "").encode("utf-8", "replace").decode()[:MESSAGE_CHARACTERS]


def _number(given: Mapping[str, Any], *names: str) -> float | None:
    """The first of these that is a number of a size that can be meant."""
    for name in names:
        value = given.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:  # neither NaN nor infinite
            return float(value)
    return None


def _whole(given: Mapping[str, Any], *names: str) -> int | None:
    value = _number(given, *names)
    return int(value) if value is not None and 0 <= value <= 999_999_999 else None
