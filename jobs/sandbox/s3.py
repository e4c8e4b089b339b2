"""boto3 as the trainer uses it: default settings, only the given keys, never the machine's own.

Source: SimpleTuner's S3 publishing provider and S3 data backend.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import NoCredentialsError

_one_at_a_time = threading.Lock()  # clients may be shared between threads, making them may not
_session = boto3.session.Session()


def client(*, endpoint_url: str | None, access_key: str | None, secret_key: str | None, region: str | None) -> Any:
    """Make an S3 client. Raises NoCredentialsError without a key pair, where boto3 would look for the operator's own."""
    if not access_key or not secret_key:
        raise NoCredentialsError
    with _one_at_a_time:
        return _session.client(
            "s3",
            endpoint_url=endpoint_url or None,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name=region or "us-east-1",
        )


def publish(inputs: dict[str, Any], folder: Path, prefix: str, stopped: Callable[[], bool]) -> None:
    """Upload a folder's files below `prefix`, as boto3 does by default: in parts above 8 MiB. Raises botocore's errors."""
    target = client(
        endpoint_url=inputs.get("s3_endpoint_url"),
        access_key=inputs.get("s3_access_key"),
        secret_key=inputs.get("s3_secret_key"),
        region=inputs.get("s3_region"),
    )
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        if stopped():
            return
        target.upload_file(str(path), inputs["s3_bucket"], f"{prefix}/{path.relative_to(folder).as_posix()}")
