"""What SimpleTuner's webhook-check does: post a small JSON to an address and say what came back."""

from __future__ import annotations

import time
from typing import Any

import httpx


def post(inputs: dict[str, Any]) -> dict[str, Any]:
    """Call the address once, by no proxy and no redirect; latency in milliseconds."""
    began = time.monotonic()
    try:
        with httpx.Client(timeout=inputs.get("timeout_seconds", 10), trust_env=False) as http:
            status = http.post(inputs["webhook_url"], json={"event": "webhook_check", "test": True}).status_code
    except httpx.HTTPError as error:
        return {"success": False, "status_code": None, "latency_ms": None, "error": type(error).__name__}
    latency = round((time.monotonic() - began) * 1000, 1)
    return {"success": 200 <= status < 300, "status_code": status, "latency_ms": latency, "error": None}
