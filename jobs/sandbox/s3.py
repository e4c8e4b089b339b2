"""boto3 as the trainer uses it: default settings, only the given keys, never the machine's own.

Source: SimpleTuner's S3 publishing provider and S3 data backend.
"""

from __future__ import annotations

import threading
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
