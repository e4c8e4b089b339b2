"""The SimpleTuner trainer, played: reads its inputs and data for real, trains on the clock, publishes for real.

A run is a script of steps. The runner walks through it and remembers how far
it came, so a run goes on after a crash without saying anything twice. The
script may depend on nothing but the job and the facts that its steps found.

Source: SimpleTuner's predict.py and simpletuner/cog.py (inputs, order of
events, messages, log formats).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from . import dataset, misfortunes, publishing, result

DEFAULT_STEPS = 1000
DEFAULT_CHECKPOINTING = 500
DEFAULT_VALIDATION = 100
DEFAULT_MODEL = "black-forest-labs/FLUX.1-dev"
PARTIAL_BLOCKS = " ▏▎▍▌▋▊▉"
MOST_SAVES = 50  # of checkpoints and of samples; a run with more keeps to the last ones


class TrainerError(Exception):
    """The run fails; the text becomes the prediction's error."""


@dataclass(frozen=True)
class Job:
    """One run: the inputs with their true secrets, and what the platform gives to it. `step_rate` is steps a simulated second."""

    prediction: str
    inputs: dict[str, Any] = field(repr=False)
    started_at: float
    step_rate: float
    step_lines: bool  # print [TRAINING] Step lines
    upstream: bool
    fault: str | None  # one of misfortunes.KINDS
    scratch: Path
    uploaded: tuple[Path, str] | None  # where the bytes of `images` are, and the file's name, when they are in our Files API
    stop: threading.Event

    @property
    def name(self) -> str:
        return f"cog-{hashlib.sha256(self.prediction.encode()).hexdigest()[:10]}"

    @property
    def output(self) -> Path:
        return self.scratch / self.prediction


@dataclass(frozen=True)
class Step:
    """Takes `seconds` of simulated time, then does its work, then says its lines. What the work answers joins the facts."""

    lines: tuple[str, ...] = ()
    seconds: float = 0.0
    work: Callable[[], dict[str, Any]] | None = None


def say(*lines: str) -> Step:
    return Step(lines)


def stage(label: str, seconds: float, work: Callable[[], dict[str, Any]] | None = None, message: str = "") -> Iterator[Step]:
    yield say(f"[STAGE] ⏳ {label}")
    yield Step((f"[STAGE] ✓ {label}{': ' if message else ''}{message}",), seconds, work)


class Trainer:
    """The script of one job. `facts` is filled by the runner with what the steps' work answers."""

    def __init__(self, job: Job, facts: dict[str, Any]):
        self.job = job
        self.facts = facts
        self.config: dict[str, Any] = {}
        self._receives = False
        self._trains = False

    def script(self) -> Iterator[Step]:
        """Yield the steps of the run in order; the last fact is `result`, the output. Raises TrainerError and DatasetError."""
        inputs = self.job.inputs
        parsed_config = _inline(inputs, "config_json")
        backends = _inline(inputs, "dataloader_json")
        if inputs.get("hub_model_id") and not inputs.get("hf_token"):
            raise TrainerError("hf_token is required when using hub_model_id for HuggingFace Hub publishing.")
        self._receives = True
        yield say(f"[COG] Webhook receiver started on http://127.0.0.1:{40000 + int(self.job.name[4:8], 16) % 20000}/webhook")
        self.config = dict(_checked_config(parsed_config))
        if inputs.get("max_train_steps") is not None:
            self.config["--max_train_steps"] = inputs["max_train_steps"]
        if backends is None:
            if not inputs.get("images"):
                raise TrainerError("Either dataset_archive or dataloader config must be provided.")
            yield Step(work=self._unpack)
        self._trains = True
        yield from self._prepare(backends)
        yield from self._train()
        yield from self._finish()

    def last_words(self, error: Exception) -> list[str]:
        """Say what the log ends with when the run fails."""
        if isinstance(error, misfortunes.MachineDied):
            return []
        lines = [f"[ERROR] Fatal Error: Failed to run training: {error}"] if self._trains else []
        return [*lines, "[COG] Webhook receiver stopped"] if self._receives else lines

    def option(self, name: str, default: Any) -> Any:
        """Look up a configuration value, with or without the leading dashes."""
        return self.config.get(f"--{name}", self.config.get(name, default))

    def count(self, name: str, default: int, most: int) -> int:
        """Look up a positive whole number. Raises TrainerError for anything else."""
        try:
            value = int(self.option(name, default))
        except (TypeError, ValueError):
            value = 0
        if not 1 <= value <= most:
            raise TrainerError(f"argument --{name}: invalid value: {self.option(name, default)!r}")
        return value

    @property
    def steps(self) -> int:
        """Say how many steps are trained; the input overrides the configuration."""
        return self.count("max_train_steps", DEFAULT_STEPS, 10_000_000)

    @property
    def images(self) -> int:
        return sum(each["images"] for each in self.facts["datasets"])

    # Before training

    def _unpack(self) -> dict[str, Any]:
        path, name = self.job.uploaded or (self.job.scratch / f"{self.job.prediction}.part", "archive")
        try:
            if self.job.uploaded is None:
                dataset.fetch(self.job.inputs["images"], path)
            found = dataset.unpack(path, name=name, job=self.job.name, upstream=self.job.upstream)
        finally:
            if self.job.uploaded is None:
                path.unlink(missing_ok=True)
        return {"datasets": [found]}

    def _prepare(self, backends: Any) -> Iterator[Step]:
        yield from self._load_model()
        if self.job.fault == "no_images":
            raise TrainerError(dataset.NO_IMAGES.format(f"{self.job.name}-images"))
        wanted = None if backends is None else dataset.check_backends(backends)
        read = None if wanted is None else lambda: {"datasets": dataset.read_backends(wanted, self.job.stop)}
        yield from stage("Configuring data backends", 4, read)
        for found in self.facts["datasets"]:
            yield say(*_described(found))
            if not found["images"]:
                raise TrainerError(dataset.NO_IMAGES.format(found["id"]))
        if self.job.fault == "nsfw":
            raise TrainerError(misfortunes.NSFW.format(dataset=self.facts["datasets"][0]["id"]))
        yield from stage("Loading text embedding cache", 2)
        yield from stage("Text Embedding Caching in Progress", 0.1 * self.images)
        for found in self.facts["datasets"]:
            for bucket, images in sorted(found["buckets"].items()):
                yield from stage(f"VAE Caching (bucket {bucket})", 0.2 * images, message=f"{images}/{images}")
        yield from stage("Preparing model components", 8)
        yield say("[STAGE] • Resume Checkpoint: no checkpoint found, starting fresh")

    def _load_model(self) -> Iterator[Step]:
        if self.job.fault != "gated_model":
            yield from stage("Loading base model", 25, message=self._base_model())
            return
        yield Step(("[STAGE] ⏳ Loading base model", "[STAGE] ✗ Loading base model"), 3)
        raise TrainerError(misfortunes.GATED_MODEL.format(model=self._base_model()))

    def _base_model(self) -> str:
        return str(self.option("pretrained_model_name_or_path", DEFAULT_MODEL))

    # Training

    def _train(self) -> Iterator[Step]:
        total, batch = self.steps, self.count("train_batch_size", 1, 1024)
        epoch_steps = max(1, math.ceil(self.images / batch))
        epochs = math.ceil(total / epoch_steps)
        yield say(_summary(self.images, epochs, batch, total))
        checkpoints, samples = self.checkpoints(), self.samples()
        done, rate = 0, self.job.step_rate
        for at in sorted({*_ticks(total, rate), *checkpoints, *samples}):
            bar = self._bar(at, total, epoch=min(epochs, 1 + (at - 1) // epoch_steps), epochs=epochs)
            said = (f"[TRAINING] Step {at}/{total} ({100 * at / total:.1f}%) loss: {self.loss(at):.4f}",) if self.job.step_lines else ()
            yield Step((bar, *said), (at - done) / rate)
            done = at
            self._misfortune(at, total)
            if at in checkpoints:
                yield from self._checkpoint(at, total)
            if at in samples:
                yield from stage("Running Validation", 6, partial(self._draw_samples, at))

    def checkpoints(self) -> list[int]:
        """List the steps after which a checkpoint is written; the log stays readable at any interval."""
        return self._every(self.count("checkpointing_steps", DEFAULT_CHECKPOINTING, 10_000_000))

    def samples(self) -> list[int]:
        """List the steps after which samples are drawn; those of the last step are drawn when the training is over."""
        return [step for step in self._every(self.count("validation_steps", DEFAULT_VALIDATION, 10_000_000)) if step < self.steps]

    def _every(self, interval: int) -> list[int]:
        return list(range(interval, self.steps + 1, interval)[-MOST_SAVES:])

    def _misfortune(self, step: int, total: int) -> None:
        if step * 2 < total:
            return
        fault = self.job.fault or ""
        if fault in misfortunes.HALF_WAY:
            raise TrainerError(misfortunes.HALF_WAY[fault].format(step=step))
        if fault in misfortunes.PLATFORM:
            raise misfortunes.MachineDied(misfortunes.PLATFORM[fault].error)

    def loss(self, step: int) -> float:
        """Make up a loss that falls and flickers, the same for the same step."""
        flicker = random.Random(f"{self.job.prediction} {step}").uniform(-0.03, 0.03)  # noqa: S311 (a picture of noise)
        return 0.14 + 0.34 * math.exp(-3.5 * step / self.steps) + flicker

    def _bar(self, step: int, total: int, *, epoch: int, epochs: int) -> str:
        comma = "" if epoch == 1 else ","
        spent, left = step / self.job.step_rate, (total - step) / self.job.step_rate
        figures = f"{step}/{total} [{_clock(spent)}<{_clock(left)}, {self.job.step_rate:5.2f}it/s, {self._figures(step)}]"
        return f"Epoch {epoch}/{epochs}{comma} Steps: {100 * step / total:3.0f}%|{_blocks(step / total)}| {figures}"

    def _figures(self, step: int) -> str:
        return f"lr={self.option('learning_rate', 0.0001)}, step_loss={self.loss(step):.4f}"

    def _checkpoint(self, step: int, total: int) -> Iterator[Step]:
        """Save a checkpoint, and publish it at once: to the bucket, or to the Hub. A refusal is noted and the training goes on."""
        rate = self.option("learning_rate", 0.0001)
        notice = f"Checkpoint: `Step {step} of {total}: loss {self.loss(step):.4f}, lr {rate}`"
        yield say("[STAGE] ⏳ Saving Checkpoint")
        saved = (f"[INFO] {notice}: {notice}", "[CHECKPOINT] Checkpoint saved", "[STAGE] ✓ Saving Checkpoint")
        yield Step(saved, 4, partial(self._save_checkpoint, step))
        if self._destination:
            yield Step(("[TRAINING] Status: uploading_model",), 2, partial(self._publish_checkpoint, step))
            refusal = self.facts[f"refusal_{step}"]
            noted = f"[ERROR] Error uploading checkpoint: {refusal}, continuing training."
            yield say(noted if refusal else "[TRAINING] Status: model_available")

    def _save_checkpoint(self, step: int) -> dict[str, Any]:
        folder = result.write_checkpoint(self.job.output, step=step, **self._model())
        files = {each["key"]: each for each in self.facts.get("files", [])}
        files |= {each["key"]: each for each in result.inventory(folder, "/".join(filter(None, (self._prefix, folder.name))))}
        return {"files": list(files.values())}

    def _publish_checkpoint(self, step: int) -> dict[str, Any]:
        folder = self.job.output / f"checkpoint-{step}"
        try:
            self._publish_folder(folder, folder.name)
        except Exception as error:  # noqa: BLE001 (whatever it is, the trainer only notes it)
            return {f"refusal_{step}": str(error).split("\n", 1)[0]}
        return {f"refusal_{step}": ""}

    def _draw_samples(self, step: int) -> dict[str, Any]:
        result.draw_samples(self.job.output, prediction=self.job.prediction, step=step)
        return {}

    def _model(self) -> dict[str, Any]:
        rank = self.count("lora_rank", 16, result.MAX_RANK)
        return {"prediction": self.job.prediction, "base_model": self._base_model(), "rank": rank}

    # After training

    def _finish(self) -> Iterator[Step]:
        yield from stage("Saving Final Model", 6, self._write)
        yield from stage("Running Final Validations", 12)
        if self._destination:
            yield say("[TRAINING] Status: uploading_model")
            yield Step(("[TRAINING] Status: model_available",), 2, self._publish)
        yield say("[STAGE] ✓ Training Complete", "[COG] Webhook receiver stopped")
        if self.job.inputs.get("return_logs", True):
            yield say("", "=== debug.log tail ===", *self._debug_log())
        published = f"{self._destination}s published to: {self._address}".replace("Models", "Model") if self._destination else None
        yield Step((published or self._address,), work=lambda: {"result": self._address})

    @property
    def _destination(self) -> str:
        """Say what is published where: S3 comes before the Hub, as with the trainer."""
        if self.job.inputs.get("s3_bucket"):
            return "Checkpoint"
        return "Model" if self.job.inputs.get("hub_model_id") else ""

    @property
    def _prefix(self) -> str:
        return str(self.job.inputs.get("s3_base_path") or "simpletuner").strip("/") if self._destination == "Checkpoint" else ""

    @property
    def _address(self) -> str:
        """Name the result as the trainer's output does."""
        inputs = self.job.inputs
        if self._destination == "Model":
            return str(self.facts["hub_url"])
        if not self._destination:
            return f"Training complete. Output: output/cog/{self.job.name}"
        if inputs.get("s3_public_base_url"):
            return f"{inputs['s3_public_base_url'].rstrip('/')}/{self._prefix}"
        if inputs.get("s3_endpoint_url"):
            return f"{inputs['s3_endpoint_url'].rstrip('/')}/{inputs['s3_bucket']}/{self._prefix}"
        return f"s3://{inputs['s3_bucket']}/{self._prefix}"

    def _write(self) -> dict[str, Any]:
        result.write(self.job.output, steps=self.steps, config=self.config, **self._model())
        files = {each["key"]: each for each in (*self.facts.get("files", []), *result.inventory(self.job.output, self._prefix))}
        return {"files": list(files.values())}

    def _publish(self) -> dict[str, Any]:
        return self._publish_folder(self.job.output)

    def _publish_folder(self, folder: Path, below: str = "") -> dict[str, Any]:
        """Publish a folder; in a bucket `below` the run's own prefix, on the Hub in the place of what was there."""
        if self._destination == "Model":
            return {"hub_url": publishing.to_hub(self.job.inputs, folder)}
        publishing.to_bucket(self.job.inputs, folder, "/".join(filter(None, (self._prefix, below))), self.job.stop.is_set)
        return {}

    def _debug_log(self) -> Iterator[str]:
        start = datetime.fromtimestamp(self.job.started_at, UTC)
        events = [
            (25, "simpletuner.helpers.models.flux.model", f"Loaded {self._base_model()}"),
            (30, "simpletuner.helpers.data_backend.factory", f"Completed loading all data backends: {self.images} images"),
            (45, "simpletuner.helpers.training.trainer", f"Total optimization steps = {self.steps}"),
            (45 + self.steps / self.job.step_rate, "simpletuner.helpers.training.trainer", f"Training done at step {self.steps}"),
            (50 + self.steps / self.job.step_rate, "simpletuner.helpers.training.save_hooks", f"Saved {result.WEIGHTS}"),
        ]
        for seconds, logger, message in events:
            moment = (start + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
            yield f"[RANK 0] {moment} [INFO] ({logger}) {message}"


def _inline(inputs: dict[str, Any], name: str) -> Any:
    """Read an input that is inline JSON, else a path inside the container, where nobody can have put a file. Raises TrainerError."""
    text = (inputs.get(name) or "").strip()
    if not text:
        return None
    if text[0] not in "{[":
        label = "Config file" if name == "config_json" else "Dataloader config"
        raise TrainerError(f"{label} not found: {text[:200]}")
    try:
        return json.loads(text)
    except ValueError as error:
        raise TrainerError(f"{name} looks like JSON but failed to parse: {error}") from error


def _checked_config(config: Any) -> dict[str, Any]:
    if not config:
        raise TrainerError("No training config found. Provide a config JSON or create config/config.json.")
    if not isinstance(config, dict):
        raise TrainerError("Config must be a JSON object of CLI args.")
    return config


def _described(found: dict[str, Any]) -> Iterator[str]:
    yield f"[INFO] (id={found['id']}) {found['images']} images, {found['captions']} with captions"
    for bucket, images in sorted(found["buckets"].items()):
        yield f"Rank 0 | {bucket:<10} | {images:<12}"
    for name in found["unreadable"][:20]:
        yield f"[WARN] (id={found['id']}) Unable to load image '{name}', skipping."


def _summary(images: int, epochs: int, batch: int, total: int) -> str:
    return (
        "[TRAINING] \n***** Running training *****\n"
        f"-  Num batches = {max(1, math.ceil(images / batch))}\n"
        f"-  Num Epochs = {epochs}\n"
        "  - Current Epoch = 1\n"
        f"-  Total train batch size (w. parallel, distributed & accumulation) = {batch}\n"
        f"  - Instantaneous batch size per device = {batch}\n"
        "  - Gradient Accumulation steps = 1\n"
        f"-  Total optimization steps = {total}\n"
        f"  - Total optimization steps remaining = {total}"
    )


def _ticks(total: int, rate: float) -> list[int]:
    """Choose the steps at which a progress line is printed: every five simulated seconds, but from 60 to 400 lines."""
    count = min(total, max(60, min(400, int(total / rate / 5))))
    return [round(total * number / count) for number in range(1, count + 1)]


def _blocks(fraction: float) -> str:
    """Draw tqdm's bar, ten characters wide."""
    full, eighths = divmod(int(fraction * 80), 8)
    return ("█" * full + (PARTIAL_BLOCKS[eighths] if full < 10 else "")).ljust(10)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
