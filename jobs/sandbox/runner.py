"""The life of a prediction: waits, starts, trains, ends; one asyncio task each.

States move forward only: starting, then processing, then succeeded, failed or
canceled; or from starting to canceled, failed, or aborted when the deadline
passes first. Source: Replicate docs, topics/predictions/lifecycle.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import catalogue, check, misfortunes
from .clock import Clock
from .files import Files
from .predictions import ACTIVE, REDACTED, Predictions
from .problems import Problem
from .rules import Rules
from .store import Store
from .trainer import Job, Trainer
from .webhooks import Webhooks

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.45  # wall seconds between two commits of a growing log
# What the trainer really does (reading data, publishing) takes wall time that the simulated clock did not plan. For this long a
# second of it counts as one simulated second, so that a fast clock does not eat the deadline; from then on it counts in full.
WORK_GRACE = 60.0
WAITING_SLICE = 1.0  # wall seconds
CANCEL_SECONDS = 0.2  # wall seconds until a training worker hears that it is to stop
TIME_LIMIT = 1800.0  # simulated seconds of processing
TIMED_OUT = "Prediction timed out"  # nobody has quoted Replicate's own words
PINNED_RULES = ("queue_length", "queue_seconds", "boot_seconds", "step_rate", "step_lines", "unpack", "fail", "time_limit")


class DeadlineReached(Exception):
    """The seconds of Cancel-After are over."""


class TimeLimitReached(Exception):
    """The prediction has been processing for longer than the platform lets any."""


@dataclass
class Run:
    """A prediction under way. Times are simulated seconds since its creation, unless they say otherwise."""

    id: str
    account: str
    cancel_after: float | None
    rules: dict[str, Any]
    secrets: dict[str, str] = field(repr=False)
    elapsed: float
    waited: float | None
    position: int
    facts: dict[str, Any]
    cancel_requested: bool
    worked: float = 0.0  # wall seconds of real work
    said: list[str] = field(default_factory=list)  # not yet committed
    flushed_at: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, row: sqlite3.Row) -> Run:
        return cls(
            id=row["id"],
            account=row["account"],
            cancel_after=row["cancel_after"],
            rules=json.loads(row["rules"]),
            secrets=json.loads(row["secret_input"] or "{}"),
            elapsed=row["elapsed"],
            waited=row["waited"],
            position=row["position"],
            facts=json.loads(row["facts"]),
            cancel_requested=bool(row["cancel_requested"]),
        )


class Runner:
    """Runs every active prediction, also those that an earlier life of the sandbox left behind."""

    def __init__(self, store: Store, clock: Clock, rules: Rules, files: Files, predictions: Predictions, webhooks: Webhooks):
        self.store = store
        self.clock = clock
        self.rules = rules
        self.files = files
        self.predictions = predictions
        self.webhooks = webhooks
        self._runs: dict[str, Run] = {}
        self._threads = ThreadPoolExecutor(max_workers=6, thread_name_prefix="trainer")

    def resume(self) -> None:
        active = self.predictions.active()
        keep = {row["id"] for row in active}
        for folder in self.store.scratch.iterdir():
            if folder.is_dir() and folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)
        for row in active:
            self.start(row)

    def start(self, row: sqlite3.Row) -> None:
        run = Run.of(row)
        self._runs[run.id] = run
        run.task = asyncio.get_running_loop().create_task(self._live(run))

    async def stop(self) -> None:
        """Leave all runs where they are; the store knows how to go on. Threads see `stop` and are not waited for."""
        tasks = [run.task for run in self._runs.values() if run.task]
        for run in self._runs.values():
            run.stop.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def finished(self, prediction_id: str, seconds: float) -> None:
        """Wait for a prediction's end, for at most `seconds` of wall time."""
        run = self._runs.get(prediction_id)
        if run is not None:
            with contextlib.suppress(TimeoutError):  # the caller shows the state as it is then
                await asyncio.wait_for(run.done.wait(), seconds)

    def cancel(self, prediction_id: str) -> None:
        """Stop a prediction: one that waits at once, one that trains within a moment; one that is over stays as it is."""
        run = self._runs.get(prediction_id)
        if run is None or run.cancel_requested:
            return
        run.cancel_requested = True
        self.store.write("UPDATE predictions SET cancel_requested = 1 WHERE id = ?", run.id)
        assert run.task is not None
        if run.waited is None:
            self._end(run, "canceled")
            run.task.cancel()
        else:
            asyncio.get_running_loop().call_later(CANCEL_SECONDS, run.task.cancel)

    def repin(self, prediction_id: str, name: str, value: Any) -> bool:
        """Change one of the PINNED_RULES of a prediction that still waits, and say whether it did."""
        run = self._runs.get(prediction_id)
        if run is None or run.waited is not None:
            return False
        run.rules[name] = value
        self.store.write("UPDATE predictions SET rules = ? WHERE id = ?", json.dumps(run.rules), run.id)
        return True

    async def _live(self, run: Run) -> None:
        trainer: Trainer | None = None
        try:
            if run.cancel_requested:
                return self._end(run, "canceled")
            fault = misfortunes.PLATFORM.get(run.rules["fail"])
            if run.waited is None:
                await self._wait_for_machine(run)
                if fault and fault.when == "booting":
                    return self._end(run, "failed", error=fault.error)
                self._begin(run)
            if fault and fault.when == "starting":
                await self._spend(run, 5)
                return self._end(run, "failed", error=fault.error)
            inputs = self._inputs(run)
            if "webhook_url" in inputs:  # which no trainer declares
                return self._end(run, "succeeded", output=await self._work(run, partial(check.post, inputs)))
            trainer = Trainer(self._job(run, inputs), run.facts)
            await self._follow(run, trainer)
            self._end(run, "succeeded", output=run.facts["result"])
        except DeadlineReached:
            self._end(run, "aborted" if run.waited is None else "canceled")
        except TimeLimitReached:
            self._end(run, run.rules["time_limit"], error=TIMED_OUT if run.rules["time_limit"] == "failed" else None)
        except asyncio.CancelledError:
            if run.cancel_requested:
                return self._end(run, "canceled")
            raise
        except Exception as error:  # noqa: BLE001 (whatever the trainer raises is the prediction's error)
            self._fail(run, trainer, error)
        finally:
            self._forget(run)

    async def _wait_for_machine(self, run: Run) -> None:
        """Wait in the queue and for the boot, slice by slice: how long it takes can be changed meanwhile."""
        slice_ = WAITING_SLICE * self.clock.speed
        while (left := self._waits(run) - run.elapsed) > 0:
            await self._spend(run, min(left, slice_))
            self.store.write("UPDATE predictions SET elapsed = ? WHERE id = ?", run.elapsed, run.id)

    @staticmethod
    def _waits(run: Run) -> float:
        return float(run.rules["queue_length"] * run.rules["queue_seconds"] + run.rules["boot_seconds"])

    def _forget(self, run: Run) -> None:
        run.stop.set()
        run.done.set()
        self._runs.pop(run.id, None)
        row = self.predictions.row(run.id)
        if row["status"] not in ACTIVE:
            shutil.rmtree(self.store.scratch / run.id, ignore_errors=True)

    def _begin(self, run: Run) -> None:
        """Move to processing; inputs that the trainer does not declare are dropped here, as Cog does."""
        row = self.predictions.row(run.id)
        declared = catalogue.version_named(row["version"]).inputs
        known = {name: value for name, value in json.loads(row["input"]).items() if name in declared}
        with self.store.transaction() as db:
            db.execute(
                "UPDATE predictions SET status = 'processing', started_at = ?, waited = ?, elapsed = ?, input = ? WHERE id = ?",
                (time.time(), run.elapsed, run.elapsed, json.dumps(known, ensure_ascii=False), run.id),
            )
            delivery = self.webhooks.owe(db, self.predictions.row(run.id), "start")
        run.waited = run.elapsed
        self.webhooks.deliver(delivery)

    def _inputs(self, run: Run) -> dict[str, Any]:
        return {**json.loads(self.predictions.row(run.id)["input"]), **run.secrets}

    def _job(self, run: Run, inputs: dict[str, Any]) -> Job:
        row = self.predictions.row(run.id)
        version = catalogue.version_named(row["version"])
        images = inputs.get("images") or ""
        needs_images = bool(images) and not (inputs.get("dataloader_json") or "").strip()
        try:
            uploaded = self.files.of_input(run.account, images) if needs_images else None
        except Problem as error:
            raise RuntimeError(f"Failed to download input images: {error}") from error
        return Job(
            prediction=run.id,
            inputs=inputs,
            started_at=row["started_at"],
            step_rate=run.rules["step_rate"] or version.step_rate,
            step_lines=run.rules["step_lines"],
            upstream=run.rules["unpack"] == "upstream",
            fault=run.rules["fail"],
            scratch=self.store.scratch,
            uploaded=uploaded,
            stop=run.stop,
        )

    async def _follow(self, run: Run, trainer: Trainer) -> None:
        """Walk through the trainer's script, from where an earlier life stopped."""
        for number, step in enumerate(trainer.script()):
            if number < run.position:
                continue
            await self._spend(run, step.seconds)
            if step.work is not None:
                run.facts.update(await self._work(run, step.work))
            run.said.extend(step.lines)
            run.position = number + 1
            self._flush(run, now=step.work is not None)

    def _left(self, run: Run) -> tuple[float, Exception]:
        """Say how many simulated seconds are left to a run, and what happens then."""
        ends: list[tuple[float, Exception]] = [(math.inf, DeadlineReached())]
        if run.cancel_after is not None and not self.rules.use("ignore_deadline", run.id, run.account):
            ends.append((run.cancel_after - run.elapsed, DeadlineReached()))
        if run.rules["time_limit"] and run.waited is not None:
            ends.append((run.waited + TIME_LIMIT - run.elapsed, TimeLimitReached()))
        seconds, end = min(ends, key=lambda each: each[0])
        return max(0.0, seconds), end

    async def _spend(self, run: Run, seconds: float) -> None:
        if run.said and self.clock.wall(seconds) > FLUSH_SECONDS:
            self._flush(run, now=True)  # nobody shall wait for a line that was said before a long step
        left, end = self._left(run)
        spent = max(0.0, min(seconds, left))
        await self.clock.spend(spent)
        run.elapsed += spent
        if spent >= left:
            raise end

    async def _work(self, run: Run, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do real work in a thread, against the deadline."""
        left, end = self._left(run)
        grace = max(0.0, WORK_GRACE - run.worked)
        allowed = None if math.isinf(left) else min(left, grace) + max(0.0, self.clock.wall(left - grace))
        began = time.monotonic()
        try:
            return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._threads, work), allowed)
        except TimeoutError as error:
            if allowed is None or time.monotonic() - began < allowed:
                raise  # the work's own
            raise end from error
        finally:
            took = time.monotonic() - began
            run.worked += took
            counted = min(took, grace) + max(0.0, took - grace) * self.clock.speed
            run.elapsed += min(counted, left)

    def _flush(self, run: Run, *, now: bool) -> None:
        """Commit what was said together with how far the run is, at most every FLUSH_SECONDS unless `now`."""
        if not now and time.monotonic() - run.flushed_at < FLUSH_SECONDS:
            return
        with self.store.transaction() as db:
            grown = self._write(db, run)
        run.flushed_at = time.monotonic()
        if grown:
            self.webhooks.tell_logs(self.predictions.row(run.id))

    def _write(self, db: sqlite3.Connection, run: Run) -> bool:
        """Put what was said and how far the run is into a transaction, and say whether the log grows."""
        text = "".join(f"{line}\n" for line in run.said)
        if text:
            db.execute("INSERT INTO logs (prediction, text) VALUES (?, ?)", (run.id, self._masked(run, text)))
        db.execute(
            "UPDATE predictions SET position = ?, elapsed = ?, facts = ? WHERE id = ?",
            (run.position, run.elapsed, json.dumps(run.facts), run.id),
        )
        run.said.clear()
        return bool(text)

    @staticmethod
    def _masked(run: Run, text: str) -> str:
        for secret in run.secrets.values():
            text = text.replace(secret, REDACTED)
        return text

    def _fail(self, run: Run, trainer: Trainer | None, error: Exception) -> None:
        log.info("prediction %s failed: %s", run.id, type(error).__name__)
        text = self._masked(run, str(error)) or type(error).__name__
        run.said.extend(trainer.last_words(error) if trainer else [])
        self._end(run, "failed", error=text)

    def _end(self, run: Run, status: str, *, error: str | None = None, output: Any = None) -> None:
        """Move to a terminal state, once, and owe the terminal webhook, in one transaction."""
        now = time.time()
        owed: list[str | None] = []
        with self.store.transaction() as db:
            self._write(db, run)
            ended = db.execute(
                "UPDATE predictions SET status = ?, error = ?, output = ?, completed_at = ?, secret_input = NULL, "
                "started_at = CASE WHEN ? = 'canceled' THEN coalesce(started_at, ?) ELSE started_at END "
                "WHERE id = ? AND status IN (?, ?)",
                (status, error, output and json.dumps(output), now, status, now, run.id, *ACTIVE),
            ).rowcount
            if ended:
                row = self.predictions.row(run.id)
                owed = [self.webhooks.owe(db, row, event) for event in (("output", "completed") if output else ("completed",))]
        run.done.set()
        for delivery in owed:
            self.webhooks.deliver(delivery)
