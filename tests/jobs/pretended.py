"""A provider that keeps its runs in memory and stands where the gateway would, so that its answers can be chosen and lost.

It is honest about itself: a run only goes forward, is billed for the time between its start and its end, and is ended
at its deadline. What becomes of an answer on its way to us is another matter: `mood` says it for the next calls.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from django.utils import timezone

from jobs.replicate import inputs, predictions
from jobs.replicate.gateway import CreditExhausted, NotFound, OutcomeUnknown, Rejected, Unauthorized, Unavailable, UploadedFile, Version
from jobs.replicate.predictions import Prediction
from jobs.sandbox.catalogue import render_model
from jobs.services import provider

MOODS = ("answers", "away", "busy", "lost", "made_and_lost", "refuses", "unauthorized", "no_credit")
ENDS = ("succeeded", "failed", "canceled", "aborted")
numbers = count(1)


@dataclass
class Run:
    """One prediction as the provider knows it. `sayings` are all bodies that it ever sent out of it, the first one first."""

    id: str
    marker: str | None
    version: str
    created_at: datetime
    ceiling_seconds: int
    input: dict[str, Any]
    listed_from: datetime
    status: str = "starting"
    started_at: datetime | None = None
    completed_at: datetime | None = None
    log: str = ""
    is_forgotten: bool = False
    is_gone: bool = False
    was_lied_about: bool = False
    sayings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.status in ENDS

    @property
    def seconds(self) -> Decimal:
        """The billed time."""
        if self.started_at is None or self.completed_at is None:
            return Decimal(0)
        return Decimal(str((self.completed_at - self.started_at).total_seconds()))

    def start(self, *, now: datetime) -> None:
        if self.status == "starting":
            self.status, self.started_at = "processing", now
            self.log += "[COG] Webhook receiver started\n"

    def go_on(self) -> None:
        if self.status == "processing":
            self.log += f"Epoch 1/1 Steps:   5%|5| {1 + self.log.count('Steps')}/20 [00:01<00:01, 1.0it/s, lr=1e-5, step_loss=0.1]\n"

    def end(self, status: str, *, now: datetime) -> None:
        if self.is_over:
            return
        if self.status == "starting":
            # Without a start there is nothing that could succeed.
            status = status if status in ("aborted", "canceled", "failed") else "canceled"
        elif status == "aborted":
            status = "canceled"
        self.status, self.completed_at = status, min(now, self.deadline)

    @property
    def deadline(self) -> datetime:
        return self.created_at + timedelta(seconds=self.ceiling_seconds)

    def pass_time(self, *, now: datetime) -> None:
        """End what is beyond its deadline, and forget the data of what ended an hour ago."""
        if now >= self.deadline:
            self.end("aborted", now=now)
        if self.completed_at and now >= self.completed_at + timedelta(hours=1):
            self.is_forgotten = True

    def body(self, *, with_log: bool = True) -> dict[str, Any]:
        stamps = {"created_at": self.created_at, "started_at": self.started_at, "completed_at": self.completed_at}
        said: dict[str, Any] = {"id": self.id, "status": self.status, "version": self.version}
        said |= {name: at.isoformat() for name, at in stamps.items() if at}
        if self.is_over and self.status != "aborted":
            said["metrics"] = {"predict_time": float(self.seconds)}
        if self.status == "failed":
            said["error"] = "CUDA out of memory"
        if self.is_forgotten:
            return said | {"data_removed": True, "input": {}, "output": None, "logs": ""}
        said |= {"input": self.input, "output": "https://example.com/result" if self.status == "succeeded" else None}
        return said | {"logs": self.log} if with_log else said

    def say(self, **changed: Any) -> dict[str, Any]:
        """Send a body out; it can arrive again at any time."""
        self.sayings.append(self.body() | changed)
        return self.sayings[-1]


class Pretended:
    """The provider's one account. `gateway` takes the place of `provider.gateway`."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.files: list[UploadedFile] = []
        self.mood = "answers"
        # How long a new run may stay out of the list.
        self.lag = timedelta(0)

    def gateway(self, *, team: Any, credential: Any, **_: Any) -> "_Gateway":
        return _Gateway(self, credential)

    def of(self, job_id: str) -> list[Run]:
        """The runs that were made for a job."""
        return [run for run in self.runs if run.marker == job_id]

    def found(self, id: str) -> Run | None:
        return next((run for run in self.runs if run.id == id and not run.is_gone), None)


class _Gateway:
    """What the services use of a gateway, with its errors."""

    def __init__(self, account: Pretended, credential: Any) -> None:
        self._account = account
        self._credential = credential

    def __enter__(self) -> "_Gateway":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def latest_version(self, model: str) -> Version:
        self._may_fail(acts=False)
        newest = render_model(model.partition("/")[2], "none")["latest_version"]
        schema = inputs.input_schema(newest["openapi_schema"])
        return Version(id=newest["id"], model=model, created_at=None, input_schema=schema, raw={})

    def create(
        self, *, version: str, input: Mapping[str, Any], webhook: str | None, cancel_after_seconds: int, events_filter: Any = ()
    ) -> Prediction:
        mood = self._account.mood
        if mood == "refuses":
            raise Rejected("Replicate says no.", status=422)
        if mood == "lost":
            raise OutcomeUnknown("The answer was lost.")
        if mood != "made_and_lost":
            self._may_fail()
        now = timezone.now()
        said = predictions.parse({"id": "none", "status": "starting", "input": dict(input), "webhook": webhook})
        run = Run(
            id=f"prediction{next(numbers)}",
            marker=inputs.marker_of(said),
            version=version,
            created_at=now,
            ceiling_seconds=cancel_after_seconds,
            input={"config_json": input["config_json"]},
            listed_from=now + self._account.lag,
        )
        self._account.runs.append(run)
        if mood == "made_and_lost":
            raise OutcomeUnknown("The answer was lost.")
        return self._said(run, input={})

    def prediction(self, id: str) -> Prediction:
        self._may_fail()
        run = self._account.found(id)
        if run is None:
            raise NotFound("There is no such prediction.", status=404)
        return self._said(run)

    def cancel(self, id: str) -> Prediction:
        self._may_fail(acts=False)
        run = self._account.found(id)
        if run is None:
            raise NotFound("There is no such prediction.", status=404)
        run.end("canceled", now=timezone.now())
        self._may_fail()
        return self._said(run)

    def predictions(self, *, created_after: datetime, created_before: datetime | None = None) -> Iterator[Prediction]:
        self._may_fail()
        now = timezone.now()
        for run in reversed(self._account.runs):
            if created_after <= run.created_at and run.listed_from <= now and not run.is_gone:
                yield predictions.parse(run.body(with_log=False))

    def upload(self, path: Any, *, metadata: Mapping[str, Any], **_: Any) -> UploadedFile:
        self._may_fail(acts=False)
        number = next(numbers)
        expires_at = timezone.now() + timedelta(days=1)
        known = {"url": f"https://example.com/{number}", "size": None, "sha256": None, "expires_at": expires_at, "raw": {}}
        kept = UploadedFile(id=f"file{number}", metadata=dict(metadata), **known)
        self._account.files.append(kept)
        return kept

    def files(self) -> Iterator[UploadedFile]:
        self._may_fail()
        return iter(list(self._account.files))

    def delete_file(self, id: str) -> bool:
        self._may_fail()
        self._account.files = [file for file in self._account.files if file.id != id]
        return True

    def signing_secret(self) -> str:
        self._may_fail(acts=False)
        return "whsec_cHJldGVuZGVk"

    def _said(self, run: Run, **changed: Any) -> Prediction:
        return predictions.parse(json.dumps(run.say() | changed))

    def _may_fail(self, *, acts: bool = True) -> None:
        """Raise what the mood is for; answers are lost only where that matters: `acts`."""
        mood = self._account.mood
        if mood in ("lost", "made_and_lost") and acts:
            raise OutcomeUnknown("The answer was lost.")
        if mood in ("away", "busy"):
            raise Unavailable("Replicate does not answer.", retry_after=7, status=429 if mood == "busy" else None)
        if mood in ("unauthorized", "no_credit"):
            error = Unauthorized("Who are you?", status=401) if mood == "unauthorized" else CreditExhausted("No credit.", status=402)
            provider.note_refusal(self._credential, error)
            raise error
