"""Publishing a run's output folder, as the trainer does it: by boto3 to a bucket, by huggingface_hub to the Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import s3

HUB_ADDRESS = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|/+$")


def to_bucket(inputs: dict[str, Any], folder: Path, prefix: str, stopped: Callable[[], bool]) -> None:
    """Upload a folder's files below `prefix`, as boto3 does by default: in parts above 8 MiB. Raises botocore's errors."""
    target = s3.client(
        endpoint_url=inputs.get("s3_endpoint_url"),
        access_key=inputs.get("s3_access_key"),
        secret_key=inputs.get("s3_secret_key"),
        region=inputs.get("s3_region"),
    )
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        if stopped():
            return
        target.upload_file(str(path), inputs["s3_bucket"], f"{prefix}/{path.relative_to(folder).as_posix()}")


def to_hub(inputs: dict[str, Any], folder: Path) -> str:
    """Push a folder to the repository `hub_model_id` and answer its public address. Raises huggingface_hub's errors.

    Which Hub that is, the environment says: our own (see `use_hub`), or what HF_ENDPOINT names, else the public one.
    """
    from huggingface_hub import HfApi  # takes a second to import and few runs need it

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=inputs["hf_token"])
    repository = HUB_ADDRESS.sub("", inputs["hub_model_id"])
    if "/" not in repository:
        repository = f"{api.whoami()['name']}/{repository}"
    api.create_repo(repository, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model upload from the sandbox's trainer")
    return f"https://huggingface.co/{repository}"


def use_hub(address: str) -> None:
    """Make the trainer publish to the Hub at `address`; to be called before huggingface_hub is imported, which reads them then."""
    os.environ["HF_ENDPOINT"] = address
    os.environ["HF_HUB_DISABLE_XET"] = "1"  # large files by plain HTTP, which is all that a stand-in speaks
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
