"""What in a log or an error text tells why a run failed: one pattern for each documented cause.

Source: SimpleTuner's Cog predictor (predict.py, simpletuner/cog.py) for its own sentences; PyTorch, huggingface_hub and botocore
for theirs; Replicate docs, reference/error-codes, for E1001.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jobs.replicate.logs import LINE_BREAK

# Of one piece of a log no more than its end is looked at: what ends a run stands there.
SCANNED_CHARACTERS = 256 * 1024
SHOWN_CHARACTERS = 300

SIGNS: dict[str, re.Pattern[str]] = {
    "out_of_memory": re.compile(
        r"(?:CUDA|HIP) out of memory|CUDA error: out of memory|torch\.(?:cuda\.)?OutOfMemoryError|\(?\bE1001\)?[ \t]*\.?[ \t]*$",
        re.MULTILINE,
    ),
    "gated_model": re.compile(r"gated repo|access to model \S+ is restricted|must have access to it and be authenticated", re.IGNORECASE),
    "bad_hub_token": re.compile(
        r"hf_token is required|invalid user token|(?:401|403) (?:Client Error|Forbidden)[^\n]*(?:huggingface\.co|hf\.co)|"
        r"don't have the rights to create a model|Invalid username or password",
        re.IGNORECASE,
    ),
    "model_not_found": re.compile(
        r"RepositoryNotFoundError|404 Client Error[^\n]*(?:huggingface\.co|hf\.co)|is not a valid model identifier"
    ),
    "archive_not_unpacked": re.compile(r"Unsafe (?:zip|tar) path detected"),
    "archive_unreadable": re.compile(r"Unsupported dataset archive format|Dataset archive not found"),
    "no_images": re.compile(r"No images were discovered", re.IGNORECASE),
    "no_data": re.compile(r"Either dataset_archive or dataloader config must be provided|Dataloader config not found"),
    "config_unreadable": re.compile(r"config_json looks like JSON but failed to parse|No training config found\."),
    "nan_loss": re.compile(r"NaN values in the training loss|loss (?:is|became) NaN", re.IGNORECASE),
    "nsfw": re.compile(r"\bNSFW\b", re.IGNORECASE),
    "disk_full": re.compile(r"No space left on device|\[Errno 28\]|Disk quota exceeded"),
    "bucket_refused": re.compile(
        r"S3UploadFailedError|NoSuchBucket|InvalidAccessKeyId|SignatureDoesNotMatch|\(AccessDenied\)|"
        r"error occurred \(\w+\) when calling the (?:PutObject|CreateMultipartUpload|UploadPart|CompleteMultipartUpload|HeadBucket)"
    ),
    "storage_unreachable": re.compile(
        r"Could not connect to the endpoint URL|(?:Read|Connect) timeout on endpoint URL|"
        r"Connection was closed before we received a valid response from endpoint URL"
    ),
    "gpu_fault": re.compile(r"CUDA error: (?!out of memory)|uncorrectable ECC|^\[EVENT\] gpu\.fault|NCCL (?:error|watchdog)", re.MULTILINE),
    "killed": re.compile(r"exited with status (?:-9|137)\b|died with <Signals\.SIGKILL|Killed by signal 9", re.IGNORECASE),
    "trainer_stopped": re.compile(
        r"Accelerate launch exited with status|^\[ERROR\] Fatal Error: \S|^[\w.]*(?:Error|Exception): \S", re.MULTILINE
    ),
}
# Words that a healthy log holds as well count only where the trainer names them as its error.
ONLY_AS_ERROR = frozenset({"nsfw"})


@dataclass(frozen=True)
class Sign:
    """Where in a log a pattern was found: the line's number from 1 on, its text, and the character at which the pattern begins."""

    line: int
    text: str
    at: int


def found_in(text: str, *, first_line: int = 1, start: int = 0) -> dict[str, Sign]:
    """The last line of each sign in a piece of a log, which begins at character `start` and on line `first_line` of the whole."""
    skipped = max(0, len(text) - SCANNED_CHARACTERS)
    places = {name: max((match.start() for match in pattern.finditer(text, skipped)), default=-1) for name, pattern in SIGNS.items()}
    return {name: _sign(text, at, first_line=first_line, start=start) for name, at in places.items() if at >= 0}


def _sign(text: str, at: int, *, first_line: int, start: int) -> Sign:
    ends = [found.end() for found in LINE_BREAK.finditer(text, 0, at)]
    following = LINE_BREAK.search(text, at)
    line = text[ends[-1] if ends else 0 : following.start() if following else len(text)].strip()
    return Sign(line=first_line + len(ends), text=line[:SHOWN_CHARACTERS], at=start + at)


def kept(signs: Mapping[str, Sign]) -> dict[str, dict[str, int | str]]:
    """The same as plain JSON."""
    return {name: asdict(sign) for name, sign in signs.items()}


def read(name: str, said: Mapping[str, Mapping[str, Any]]) -> Sign | None:
    """One of those that were kept."""
    return Sign(**said[name]) if name in said else None
