"""Signatures of links that work without a token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from .store import Store


class Signer:
    """Signs by a key of its own, which the store keeps under `name`."""

    def __init__(self, store: Store, name: str):
        store.write("INSERT OR IGNORE INTO keys VALUES (?, ?)", name, secrets.token_hex(32))
        row = store.one("SELECT value FROM keys WHERE name = ?", name)
        assert row is not None
        self._key = bytes.fromhex(row["value"])

    def sign(self, *parts: str) -> str:
        digest = hmac.new(self._key, " ".join(parts).encode(), hashlib.sha256).digest()
        return base64.b64encode(digest).decode()

    def is_genuine(self, signature: str, *parts: str) -> bool:
        return hmac.compare_digest(self.sign(*parts).encode(), signature.encode())
