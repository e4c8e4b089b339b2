"""Accounts and their tokens; everything else in the sandbox belongs to one account."""

from __future__ import annotations

import base64
import hashlib
import secrets
import sqlite3
import time

from . import problems
from .store import Store

DEMO_TOKENS = {f"r8_Sandbox0Sandbox0Sandbox0Sandbox0Team{number}": f"team{number}" for number in range(1, 10)}
HUB_ROLES = ("write", "read", "fineGrained")
# A token of each kind for each of them; the Hub's tokens are 37 characters long.
DEMO_HUB_TOKENS = {
    f"hf_Sandbox0Sandbox0Sandbox0Sandbox0{letter}{number}": (f"team{number}", role)
    for letter, role in zip("WRF", HUB_ROLES, strict=True)
    for number in range(1, 10)
}


class Accounts:
    """Who may call the sandbox."""

    def __init__(self, store: Store):
        self.store = store
        for token, username in DEMO_TOKENS.items():
            self.add_token(token, username)
        for token, (username, role) in DEMO_HUB_TOKENS.items():
            self.add_hub_token(token, username, role)

    def add_token(self, token: str, username: str) -> None:
        """Let `token` speak for an account, which is made with its own signing secret when it is new."""
        with self.store.transaction() as db:
            _open(db, username)
            db.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (_digest(token), username))

    def add_hub_token(self, token: str, username: str, role: str) -> None:
        """Let `token` speak for an account at the Hub, as one of HUB_ROLES; a fine-grained one may write."""
        with self.store.transaction() as db:
            _open(db, username)
            db.execute("INSERT OR REPLACE INTO hub_tokens VALUES (?, ?, ?)", (_digest(token), username, role))

    def of_hub_token(self, token: str) -> sqlite3.Row | None:
        """Find the `username` and `role` behind a token of the Hub."""
        return self.store.one("SELECT account AS username, role FROM hub_tokens WHERE sha256 = ?", _digest(token))

    def of_token(self, token: str) -> sqlite3.Row | None:
        sql = "SELECT accounts.* FROM accounts JOIN tokens ON account = username WHERE sha256 = ?"
        return self.store.one(sql, _digest(token))

    def authenticate(self, authorization: str | None) -> sqlite3.Row:
        """Find the account of an Authorization header; both of Replicate's schemes count. Raises Problem 401."""
        if not authorization:
            raise problems.titled(401, "Unauthenticated", problems.NO_TOKEN)
        scheme, _, token = authorization.partition(" ")
        account = self.of_token(token.strip()) if scheme.lower() in ("bearer", "token") else None
        if account is None:
            raise problems.titled(401, "Unauthenticated", problems.BAD_TOKEN)
        return account

    def rotate_secret(self, username: str, overlap: float) -> None:
        """Give an account a new signing secret; for `overlap` seconds of wall time the old one signs, too."""
        self.store.write(
            "UPDATE accounts SET previous_secret = webhook_secret, previous_until = ?, webhook_secret = ? WHERE username = ?",
            *(time.time() + overlap, new_webhook_secret(), username),
        )

    def signing_secrets(self, username: str) -> list[str]:
        """List the secrets that sign an account's webhooks now, the newest first."""
        row = self.store.one("SELECT * FROM accounts WHERE username = ?", username)
        assert row is not None
        is_rotating = row["previous_until"] is not None and row["previous_until"] > time.time()
        return [row["webhook_secret"], row["previous_secret"]] if is_rotating else [row["webhook_secret"]]

    def named(self, name: str) -> sqlite3.Row | None:
        """Find an account by its username or by one of its tokens."""
        return self.store.one("SELECT * FROM accounts WHERE username = ?", name) or self.of_token(name)


def render(account: sqlite3.Row) -> dict[str, str]:
    """Show an account as `GET /v1/account` does; the official Python client needs `name`."""
    return {
        "type": account["type"],
        "username": account["username"],
        "name": account["name"],
        "github_url": f"https://github.com/{account['username']}",
    }


def _open(db: sqlite3.Connection, username: str) -> None:
    sql = "INSERT OR IGNORE INTO accounts (username, name, type, webhook_secret) VALUES (?, ?, 'organization', ?)"
    db.execute(sql, (username, f"Sandbox {username}", new_webhook_secret()))


def new_webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
