"""Provider settings as the API's description shows them: every key with its type and what it is for."""

from typing import Any

from billing.models import LimitAction, LimitPeriodKind
from jobs.models.catalogue import MOST_RETRIES, AddressMode

TEXT: dict[str, Any] = {"type": "string", "nullable": True}
FLAG: dict[str, Any] = {"type": "boolean"}
NETWORKS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


def _whole(least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def _with(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {**schema, "description": description}


BUCKET: dict[str, Any] = {
    "type": "object",
    "properties": {
        "bucket": {"type": "string"},
        "region": {"type": "string"},
        "endpoint_url": TEXT,
        "access_key_id": {"type": "string"},
        "secret_access_key": {"type": "string", "writeOnly": True},
        "path_prefix": {"type": "string"},
        "use_path_style": FLAG,
        "public_read": FLAG,
    },
}

PROPERTIES: dict[str, dict[str, Any]] = {
    "webhook_url": _with(TEXT, "Public address of this server without a path; the path where webhooks arrive is appended."),
    "webhook_require_signature": _with(FLAG, "Whether an unsigned delivery is refused. One with a wrong signature always is."),
    "webhook_allowed_ips": _with(NETWORKS, "Addresses and networks that may deliver; empty means all. Text with commas is split."),
    "webhook_address_mode": {
        "type": "string",
        "enum": AddressMode.values,
        "description": "A well signed delivery from another address: block holds it until it is released, observe takes it and tells.",
    },
    "webhook_rate_limit_max": _with(_whole(1, 10_000), "Unsigned or badly signed deliveries from one address in one window."),
    "webhook_rate_limit_window": _with(_whole(1, 3_600), "Seconds."),
    "webhook_sends_logs": _with(FLAG, "Whether the provider delivers logs as they grow, beside start and end."),
    "webhook_sends_output": _with(FLAG, "Whether the provider delivers outputs as they come."),
    "s3_rate_limit_max": _with(_whole(1, 10_000), "One reader's storage requests in one window; a job's own key has 1,000 times as many."),
    "s3_rate_limit_window": _with(_whole(1, 3_600), "Seconds."),
    "cost_limit_enabled": _with(FLAG, "Whether the cost limit holds. With an amount of 0 it blocks everything."),
    "cost_limit_amount": {"type": "number", "minimum": 0, "description": "US dollars for each period."},
    "cost_limit_period": {"type": "string", "enum": LimitPeriodKind.values, "description": "Calendar periods in the team's zone."},
    "cost_limit_action": {"type": "string", "enum": LimitAction.values, "description": "What happens to a job that would pass it."},
    "version_override": _with(TEXT, "owner/model:hash; pins the trainer's version."),
    "hardware_profile": _with(TEXT, "The profile of a submission that names none."),
    "hardware_info": {
        "type": "object",
        "description": "By profile or hardware: name and cost_per_second as shown. Money goes by the price book.",
    },
    "ssl_verify": _with(FLAG, "Whether certificates of the provider are checked."),
    "ssl_ca_bundle": _with(TEXT, "Path of a file with certificates on this server."),
    "proxy_url": _with(TEXT, "Proxy for calls to the provider: http, https or socks5. Its password is never shown."),
    "http_timeout": {"type": "number", "minimum": 0, "maximum": 600, "description": "Seconds; 0 for the default."},
    "s3_endpoint_enabled": _with(FLAG, "Whether trainers may upload to this server."),
    "s3_public_url": _with(TEXT, "Address of the storage endpoint, where it is not webhook_url's."),
    "s3_output_path": _with(TEXT, "Where results lie on this server; set by its operator."),
    "s3_delivery": _with({**BUCKET, "nullable": True}, "A bucket of the team's own. Null removes it with its keys."),
    "preferences": {"type": "object", "description": "Kept for the caller's pages, and read by nobody here."},
    "max_runtime_minutes": _with({**_whole(1, 1440), "nullable": True}, "The longest ceiling that a job may have."),
    "retries_platform_faults": _with(
        _whole(0, MOST_RETRIES), "How often a job is run again by itself that a fault of the provider's platform ended, as a new job."
    ),
    "org_id": _with(TEXT, "Of simpletuner_io, which this server does not run jobs on: always null."),
    "api_base_url": _with(TEXT, "As org_id."),
}

SETTINGS: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": PROPERTIES}
CONFIG: dict[str, Any] = {
    "type": "object",
    "required": ["provider", "config"],
    "properties": {"provider": {"type": "string"}, "config": SETTINGS},
}
