"""Publishing to the Hugging Face Hub, as the trainer does it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ADDRESS = re.compile(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|/+$")


def publish(inputs: dict[str, Any], folder: Path) -> str:
    """Push a folder to the repository `hub_model_id` and answer its address. Raises huggingface_hub's errors.

    The Hub's address can be moved by the environment variable HF_ENDPOINT, which huggingface_hub reads.
    """
    from huggingface_hub import HfApi  # takes a second to import and few runs need it

    api = HfApi(token=inputs["hf_token"])
    repository = ADDRESS.sub("", inputs["hub_model_id"])
    if "/" not in repository:
        repository = f"{api.whoami()['name']}/{repository}"
    api.create_repo(repository, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model upload from the sandbox's trainer")
    return f"https://huggingface.co/{repository}"
