"""One job from submit to delivered result, through the public API with a token, and proof that all of it is true."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from billing import ledger
from billing.prices import dollars
from jobs.models import Job, StorageKey
from jobs.models.results import Artifact
from jobs.states import State

STEPS = 300
PATIENCE_SECONDS = 300


class DemoFailed(Exception):
    """What did not come true, in a sentence."""


@dataclass(frozen=True)
class Proof:
    """One thing that was checked, and what was found."""

    what: str
    holds: bool
    found: str


def run(*, address: str, token: str, config: str, show: Callable[[float, str], None]) -> Job:
    """Submit the demo job and wait for its end, showing how far it is. Returns the job as it ended.

    Raises DemoFailed.
    """
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False) as api:
        submitted = _said(api.post("/api/cloud/jobs/submit", json={"config_name_to_load": config, "tracker_run_name": "demo"}))
        job_id = submitted["job_id"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            status = _said(api.get(f"/api/cloud/jobs/{job_id}"))["job"]
            show(*_how_far(api, status))
            if status["is_terminal"]:
                break
            if time.monotonic() > deadline:
                raise DemoFailed(f"The job is still {status['status']} after {PATIENCE_SECONDS} seconds.")
            time.sleep(0.25)
    job = Job.objects.select_related("team", "hold", "price_line").get(job_id=job_id)
    if job.state != State.COMPLETED:
        raise DemoFailed(f"The job ended as {job.state}: {job.error}")
    return _cleaned_up(job, deadline)


def _said(answer: httpx.Response) -> Any:
    body = answer.json()
    if answer.is_error:
        raise DemoFailed(f"The API refused: {body.get('detail', answer.status_code)}")
    return body


def _how_far(api: httpx.Client, status: dict[str, Any]) -> tuple[float, str]:
    if status["status"] == State.RUNNING:
        inline = _said(api.get(f"/api/cloud/jobs/{status['job_id']}/inline-progress"))
        return inline["progress"] or 0.0, inline["stage"] or "Training"
    return (100.0 if status["is_terminal"] else 0.0), status["status"]


def _cleaned_up(job: Job, deadline: float) -> Job:
    """The job once its provider's copy is deleted and its keys are revoked."""
    while job.cleaned_up_at is None:
        if time.monotonic() > deadline:
            raise DemoFailed("Nobody cleaned up behind the job.")
        time.sleep(0.25)
        job.refresh_from_db()
    return job


def weights(job: Job) -> Artifact:
    """The artifact that counts: the final LoRA."""
    found = job.artifacts.filter(kind="weights").order_by("-size_bytes").first()
    if found is None:
        raise DemoFailed("No weights arrived in our storage.")
    return found


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def proofs(job: Job, *, path: Path, sandbox: str, logs: list[Path], secrets: list[str]) -> list[Proof]:
    """Check against the outside: the sandbox's own record, the file on the disk, the ledger, the written logs."""
    return [_same_hash(job, path, sandbox), _ledger_balances(job), _data_deleted(job), _no_secret_in(logs, [*secrets, *_job_secrets(job)])]


def _same_hash(job: Job, path: Path, sandbox: str) -> Proof:
    """The file that we hold is the one that the trainer wrote on its own disk."""
    record = httpx.get(f"{sandbox}/control/predictions/{job.prediction_id}", timeout=30, trust_env=False).json()
    kept = sha256_of(path)
    written = {item["sha256"] for item in record["files"] if Path(item["key"]).name == path.name}
    return Proof("artifact is what the trainer wrote", written == {kept} and kept == weights(job).sha256, f"SHA-256 {kept[:16]}…")


def _ledger_balances(job: Job) -> Proof:
    assert job.hold is not None and job.hold.charge is not None  # noqa: PT018 - a settled job has both
    verified = ledger.verify(job.team)
    unbalanced = ledger.unbalanced_holds(job.team)
    released = job.hold.amount - job.hold.charge
    words = f"{dollars(job.hold.amount)} held = {dollars(job.hold.charge)} charged + {dollars(released)} released"
    return Proof("ledger balances", verified.valid and not unbalanced, words)


def _data_deleted(job: Job) -> Proof:
    upload = getattr(job, "provider_upload", None)
    deleted = upload is not None and upload.deleted_at is not None
    return Proof("provider's copy of the data is deleted", deleted, f"{upload.archive_bytes:,} bytes" if upload else "none was uploaded")


def _job_secrets(job: Job) -> list[str]:
    keys = list(StorageKey.objects.filter(job=job))
    return [*(key.secret for key in keys), job.credential.reveal(), *job.credential.signing_keys.split(), job.callback_key]


def _no_secret_in(logs: list[Path], secrets: list[str]) -> Proof:
    written = "".join(path.read_text(errors="replace") for path in logs)
    leaked = sum(secret in written for secret in secrets if secret)
    found = f"{leaked} of {len(secrets)} secrets in {len(written):,} characters of logs"
    return Proof("no secret in the logs", leaked == 0 and bool(written), found)
