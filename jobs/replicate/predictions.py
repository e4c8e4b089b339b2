"""What Replicate says about one run: its prediction object, read into a value.

Source: Replicate docs, reference/http#predictions.get, topics/predictions/lifecycle, reference/error-codes.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

# Replicate's words and ours. Cog itself says `error` where Replicate says `failed`.
STATES = {
    "starting": "queued",
    "processing": "running",
    "succeeded": "completed",
    "failed": "failed",
    "error": "failed",
    "canceled": "cancelled",
    "cancelled": "cancelled",
    "aborted": "cancelled",
}
TERMINAL = frozenset({"completed", "failed", "cancelled"})

# Faults of the platform after which the same run may well succeed. E1001, out of memory, is not one of them.
RETRYABLE_FAULTS = frozenset({"PA", "E1000", "E6716", "E8367", "E8765", "E9243", "E9828"})
_FAULT = re.compile(r"\((?:code:\s*)?(PA|E\d{4})\)\s*\.?\s*$")


class MalformedPrediction(ValueError):
    """The text is not a prediction object: no JSON, no object, or no id in it."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One run as Replicate describes it at one moment.

    `status` is Replicate's own word, `state` ours, or None where the word is unknown to us. `seconds` is the billed
    time (without queue and boot) and `total_seconds` the whole, both exact. `logs` is None where the answer holds
    none, which is not the same as an empty log. What may hold secrets or prompts is not in the repr.
    """

    id: str
    status: str
    state: str | None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    deadline: datetime | None = None
    model: str | None = None
    version: str | None = None
    data_removed: bool = False
    seconds: Decimal | None = None
    total_seconds: Decimal | None = None
    error: str | None = field(default=None, repr=False)
    logs: str | None = field(default=None, repr=False)
    output: Any = field(default=None, repr=False)
    input: dict[str, Any] = field(default_factory=dict, repr=False)
    webhook: str | None = field(default=None, repr=False)
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_known(self) -> bool:
        """Say whether we understand Replicate's word for the state."""
        return self.state is not None

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def shows_logs(self) -> bool:
        """Say whether this is the whole of the log, be it empty or null: lists and some webhooks leave it out."""
        return "logs" in self.raw

    @property
    def is_aborted(self) -> bool:
        """Say whether the deadline passed before the run began; such a run is not billed."""
        return self.status == "aborted"

    @property
    def met_its_deadline(self) -> bool:
        """Say whether the run was stopped at its deadline, or later."""
        is_told = self.deadline is not None and self.completed_at is not None
        return self.status == "canceled" and is_told and self.completed_at >= self.deadline  # type: ignore[operator]

    @property
    def output_urls(self) -> list[str]:
        """List every http(s) address in the output, in order, each once."""
        return list(dict.fromkeys(_urls_in(self.output)))

    @property
    def platform_fault(self) -> str | None:
        """Name the code of the platform's fault (`PA`, `E8765`) that ended the run, if one did.

        Source: Replicate docs, reference/error-codes.
        """
        return fault_in(self.error) if self.state == "failed" and self.error else None

    @property
    def is_retryable_fault(self) -> bool:
        return self.platform_fault in RETRYABLE_FAULTS


def fault_in(error: str) -> str | None:
    """Name the code of the platform's fault that an error text ends in, if it ends in one."""
    found = _FAULT.search(error)
    return found[1] if found else None


def parse(said: bytes | str | Mapping[str, Any]) -> Prediction:
    """Read a prediction as Replicate sends it, in an answer, a list or a webhook.

    Keys may be missing in any state but the last, time stamps have 0 to 9 fractional digits. An unknown status is
    kept in `status`, and `state` is None. `raw` is plain JSON that PostgreSQL can hold.

    Raises MalformedPrediction.
    """
    if isinstance(said, bytes | str):
        try:
            # Decimal, so that a billed time of 0.1 s is exactly that; NaN and Infinity are not numbers here.
            said = json.loads(said, parse_float=Decimal, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            raise MalformedPrediction("The text is not JSON.") from None
    if not isinstance(said, Mapping):
        raise MalformedPrediction("A prediction is a JSON object.")
    if not isinstance(said.get("id"), str) or not said["id"]:
        raise MalformedPrediction("A prediction has an id.")

    raw: dict[str, Any] = storable(said)
    metrics = said.get("metrics")
    metrics = metrics if isinstance(metrics, Mapping) else {}
    status = raw.get("status")
    status = status.strip().lower() if isinstance(status, str) else ""
    given = raw.get("input")
    return Prediction(
        id=raw["id"],
        status=status,
        state=STATES.get(status),
        created_at=moment(raw.get("created_at")),
        started_at=moment(raw.get("started_at")),
        completed_at=moment(raw.get("completed_at")),
        deadline=moment(raw.get("deadline")),
        model=_text(raw.get("model")),
        version=_text(raw.get("version")),
        data_removed=raw.get("data_removed") is True,
        seconds=_seconds(metrics.get("predict_time")),
        total_seconds=_seconds(metrics.get("total_time")),
        error=_error(raw.get("error")),
        logs=_text(raw.get("logs")),
        output=raw.get("output"),
        input=given if isinstance(given, dict) else {},
        webhook=_text(raw.get("webhook")),
        raw=raw,
    )


def storable(value: Any) -> Any:
    """Turn parsed JSON into what a JSON column can hold: finite floats for decimals, no NULs, no lone surrogates."""
    if isinstance(value, str):
        return _storable_text(value)
    if isinstance(value, Mapping):
        return {_storable_text(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    return value


def _storable_text(text: str) -> str:
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _error(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def moment(value: Any) -> datetime | None:
    """Read one of Replicate's time stamps, with any number of fractional digits; None where there is none."""
    try:
        read = datetime.fromisoformat(value)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _seconds(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        seconds = Decimal(str(value))
    except InvalidOperation:
        return None
    return seconds if seconds.is_finite() and seconds >= 0 else None


def _urls_in(output: Any) -> Iterator[str]:
    if isinstance(output, str):
        if output.startswith(("http://", "https://")):
            yield output
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from _urls_in(item)
    elif isinstance(output, list):
        for item in output:
            yield from _urls_in(item)
