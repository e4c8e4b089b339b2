"""Models, their versions with input schemas, and the hardware list.

Source: SimpleTuner's cog.yaml and predict.py (inputs, slugs); Replicate's
HTTP API reference (models, versions, hardware). Which inputs a version
requires depends on the age of the Cog that pushed it: Cog 0.16 required
none, 0.17 and 0.18 six, 0.19 and newer five.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from . import problems

OWNER = "simpletuner"

# Slug to hardware and steps a second of a rank-16 Flux LoRA, which is what sets the pace of a simulated run.
TRAINERS = {
    "advanced-trainer": ("gpu-l40s", 1.9),
    "advanced-trainer-h100": ("gpu-h100", 3.4),
    "advanced-trainer-h100-x2": ("gpu-h100-2x", 3.2),
    "advanced-trainer-h100-x4": ("gpu-h100-4x", 3.1),
    "advanced-trainer-h100-x8": ("gpu-h100-8x", 3.0),
    "advanced-trainer-l40s": ("gpu-l40s", 1.9),
    "advanced-trainer-l40s-x2": ("gpu-l40s-2x", 1.8),
    "advanced-trainer-l40s-x4": ("gpu-l40s-4x", 1.7),
    "advanced-trainer-l40s-x8": ("gpu-l40s-8x", 1.6),
}

HARDWARE = [
    {"name": "CPU", "sku": "cpu"},
    {"name": "Nvidia T4 GPU", "sku": "gpu-t4"},
    {"name": "Nvidia A100 (80GB) GPU", "sku": "gpu-a100-large"},
    {"name": "2x Nvidia A100 (80GB) GPU", "sku": "gpu-a100-large-2x"},
    {"name": "Nvidia H100 GPU", "sku": "gpu-h100"},
    {"name": "2x Nvidia H100 GPU", "sku": "gpu-h100-2x"},
    {"name": "4x Nvidia H100 GPU", "sku": "gpu-h100-4x"},
    {"name": "8x Nvidia H100 GPU", "sku": "gpu-h100-8x"},
    {"name": "Nvidia L40S GPU", "sku": "gpu-l40s"},
    {"name": "2x Nvidia L40S GPU", "sku": "gpu-l40s-2x"},
    {"name": "4x Nvidia L40S GPU", "sku": "gpu-l40s-4x"},
    {"name": "8x Nvidia L40S GPU", "sku": "gpu-l40s-8x"},
]

# The helper that calls a webhook address, on CPU. It is no trainer, and has one version.
CHECK = "webhook-check"

FIVE = ("images", "config_json", "dataloader_json", "max_train_steps", "lycoris_config")

# Oldest first: name of the variant, Cog's version, when it was pushed, which inputs it requires.
VARIANTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "none": ("0.16.12", "2026-01-20T10:00:00.000000Z", ()),
    "six": ("0.18.0", "2026-03-11T10:00:00.000000Z", (*FIVE, "hf_token")),
    "five": ("0.21.0", "2026-06-27T10:00:00.000000Z", FIVE),
}

SECRET = {"type": "string", "format": "password", "writeOnly": True, "x-cog-secret": True}
STRING: dict[str, Any] = {"type": "string"}
NULLABLE = {"nullable": True}

# In the order of the trainer's own signature, which is what x-order counts.
INPUTS: dict[str, dict[str, Any]] = {
    "images": {
        **STRING,
        "format": "uri",
        "description": "Zip or tar archive with the training images. Only read when dataloader_json is not given.",
    },
    "config_json": {**STRING, "description": "Training configuration: inline JSON, or a path inside the container."},
    "dataloader_json": {**STRING, "description": "List of data backends: inline JSON, or a path inside the container."},
    "max_train_steps": {"type": "integer", "description": "Overrides --max_train_steps of the configuration."},
    "s3_bucket": {**STRING, **NULLABLE, "description": "Bucket that checkpoints are published to."},
    "s3_region": {**STRING, **NULLABLE, "description": "Region of the bucket."},
    "s3_endpoint_url": {**STRING, **NULLABLE, "description": "Address of an S3-compatible service."},
    "s3_base_path": {**STRING, **NULLABLE, "description": "Prefix inside the bucket."},
    "s3_public_base_url": {**STRING, **NULLABLE, "description": "Public address of the bucket, used to name the result."},
    "s3_access_key": {**SECRET, **NULLABLE, "description": "Access key of the bucket."},
    "s3_secret_key": {**SECRET, **NULLABLE, "description": "Secret key of the bucket."},
    "hub_model_id": {**STRING, **NULLABLE, "description": "Hugging Face repository that the model is pushed to."},
    "hf_token": {**SECRET, "description": "Hugging Face token for gated downloads and for pushing."},
    "lycoris_config": {**STRING, "description": "LyCORIS configuration: inline JSON, or a path inside the container."},
    "return_logs": {"type": "boolean", "default": True, "description": "Print the end of debug.log after a successful run."},
}

CHECK_INPUTS: dict[str, dict[str, Any]] = {
    "webhook_url": {**STRING, "format": "uri", "description": "Address that a small JSON is posted to."},
    "timeout_seconds": {"type": "integer", "default": 10, "description": "How long to wait for its answer."},
}

SECRET_INPUTS = tuple(name for name, schema in INPUTS.items() if schema.get("x-cog-secret"))
JSON_TYPES = {"string": str, "integer": int, "boolean": bool}
TYPE_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array", type(None): "null"}


@dataclass(frozen=True)
class Version:
    """One pushed version of a trainer; `id` is 64 hex digits and always the same for a model and variant."""

    model: str
    variant: str

    @property
    def id(self) -> str:
        return hashlib.sha256(f"tunehouse sandbox {OWNER}/{self.model} {self.variant}".encode()).hexdigest()

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        return CHECK_INPUTS if self.model == CHECK else INPUTS

    @property
    def hardware(self) -> str:
        return "cpu" if self.model == CHECK else TRAINERS[self.model][0]

    @property
    def step_rate(self) -> float:
        return TRAINERS[self.model][1]

    @property
    def required(self) -> tuple[str, ...]:
        return ("webhook_url",) if self.model == CHECK else tuple(name for name in INPUTS if name in VARIANTS[self.variant][2])

    def properties(self) -> dict[str, dict[str, Any]]:
        properties = {}
        for order, (name, schema) in enumerate(self.inputs.items()):
            title = name.replace("_", " ").title()
            nullable = NULLABLE if name == "hf_token" and self.variant == "five" else {}
            properties[name] = {**schema, **nullable, "title": title, "x-order": order}
        return properties

    def render(self) -> dict[str, Any]:
        cog, pushed_at, _ = VARIANTS[self.variant]
        return {"id": self.id, "created_at": pushed_at, "cog_version": cog, "openapi_schema": self._openapi_schema()}

    def _openapi_schema(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {"type": "object", "title": "Input", "properties": self.properties()}
        if self.required:
            wanted["required"] = list(self.required)
        schemas = {
            "Input": wanted,
            "Output": {"type": "string", "title": "Output"},
            "Status": {"enum": ["starting", "processing", "succeeded", "canceled", "failed"], "type": "string", "title": "Status"},
            "WebhookEvent": {"enum": ["start", "output", "logs", "completed"], "type": "string", "title": "WebhookEvent"},
        }
        return {"openapi": "3.0.2", "info": {"title": "Cog", "version": "0.1.0"}, "paths": {}, "components": {"schemas": schemas}}

    def check(self, given: dict[str, Any]) -> None:
        """Check a prediction's input against this version; unknown names pass. Raises Problem 422."""
        missing = [("required", "input", f"{name} is required") for name in self.required if name not in given]
        wrong = [
            (kind, f"input.{name}", description)
            for name, schema in self.properties().items()
            if name in given
            for kind, description in _faults(schema, given[name])
        ]
        if missing or wrong:
            raise problems.invalid_fields([{"type": kind, "field": where, "description": text} for kind, where, text in missing + wrong])


def _faults(schema: dict[str, Any], value: Any) -> list[tuple[str, str]]:
    if value is None and schema.get("nullable"):
        return []
    if type(value) is not JSON_TYPES[schema["type"]]:
        return [("invalid_type", f"Invalid type. Expected: {schema['type']}, given: {TYPE_NAMES[type(value)]}")]
    if schema.get("format") == "uri" and not urlsplit(str(value)).scheme:
        return [("format", "Does not match format 'uri'")]
    return []


def versions(model: str, newest: str) -> list[Version]:
    """List a trainer's versions, newest first, as if none had been pushed after the variant `newest`. Raises Problem 404."""
    if model == CHECK:
        return [Version(CHECK, "five")]
    if model not in TRAINERS:
        raise problems.not_found()
    names = list(VARIANTS)
    return [Version(model, name) for name in reversed(names[: names.index(newest) + 1])]


def render_model(model: str, newest: str) -> dict[str, Any]:
    latest = versions(model, newest)[0]
    return {
        "url": f"https://replicate.com/{OWNER}/{model}",
        "owner": OWNER,
        "name": model,
        "description": "Trains diffusion models with SimpleTuner; here its stand-in in the sandbox.",
        "visibility": "public",
        "is_official": False,
        "github_url": "https://github.com/bghira/SimpleTuner",
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": latest.render(),
    }


def version_named(name: str) -> Version:
    """Find a version by `<64 hex>` or `owner/model:<64 hex>`. Raises Problem 422 for any other."""
    model, _, wanted = name.rpartition(":")
    for version in (Version(model, variant) for model in (*TRAINERS, CHECK) for variant in VARIANTS):
        if version.id == wanted and model in ("", f"{OWNER}/{version.model}"):
            return version
    raise problems.bad_version()
