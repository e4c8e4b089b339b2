"""Accounts and their tokens; everything else in the sandbox belongs to one account."""

from __future__ import annotations

import base64
import hashlib
import secrets
import sqlite3

from . import problems
from .store import Store

DEMO_TOKENS = {f"r8_Sandbox0Sandbox0Sandbox0Sandbox0Team{number}": f"team{number}" for number in range(1, 10)}


class Accounts:
    """Who may call the sandbox."""

    def __init__(self, store: Store):
        self.store = store
        for token, username in DEMO_TOKENS.items():
            self.add_token(token, username)

    def add_token(self, token: str, username: str) -> None:
        """Let `token` speak for an account, which is made with its own signing secret when it is new."""
        with self.store.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO accounts VALUES (?, ?, 'organization', ?)",
                (username, f"Sandbox {username}", new_webhook_secret()),
            )
            db.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (_digest(token), username))

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


def new_webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
