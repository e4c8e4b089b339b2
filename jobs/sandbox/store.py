"""What the sandbox keeps: one SQLite file and, beside it, folders with the bytes of uploaded files.

Every change is committed before anybody can see it, so a killed sandbox goes
on where it was. Only the event loop's thread touches the connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 2

SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    username TEXT PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, webhook_secret TEXT NOT NULL,
    previous_secret TEXT, previous_until REAL    -- both sign until then
);
CREATE TABLE IF NOT EXISTS tokens (sha256 TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts);
CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, account TEXT NOT NULL REFERENCES accounts,
    name TEXT NOT NULL, content_type TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, md5 TEXT NOT NULL,
    metadata TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS predictions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, account TEXT NOT NULL REFERENCES accounts,
    model TEXT NOT NULL, version TEXT NOT NULL,
    input TEXT NOT NULL,          -- as everybody may see it
    secret_input TEXT,            -- the Secret inputs, until the run is over
    webhook TEXT, webhook_events_filter TEXT NOT NULL,
    status TEXT NOT NULL, error TEXT,
    output TEXT,                  -- as JSON: the trainer's text, or what webhook-check found
    data_removed INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL, started_at REAL, completed_at REAL,   -- wall clock
    cancel_after REAL,            -- simulated seconds from creation
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    elapsed REAL NOT NULL DEFAULT 0, waited REAL,                   -- simulated seconds: in all, before the start
    position INTEGER NOT NULL DEFAULT 0,                            -- steps of the trainer's script that are done
    facts TEXT NOT NULL DEFAULT '{}', rules TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS predictions_by_account ON predictions (account, seq);
CREATE INDEX IF NOT EXISTS predictions_by_status ON predictions (status);
CREATE TABLE IF NOT EXISTS logs (seq INTEGER PRIMARY KEY AUTOINCREMENT, prediction TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS logs_by_prediction ON logs (prediction, seq);
CREATE TABLE IF NOT EXISTS deliveries (
    id TEXT PRIMARY KEY, prediction TEXT NOT NULL, account TEXT NOT NULL, event TEXT NOT NULL, status TEXT NOT NULL, url TEXT NOT NULL,
    body BLOB, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS deliveries_by_state ON deliveries (state);
CREATE INDEX IF NOT EXISTS deliveries_by_prediction ON deliveries (prediction);
CREATE TABLE IF NOT EXISTS attempts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, delivery TEXT NOT NULL REFERENCES deliveries, attempt INTEGER NOT NULL,
    response_status INTEGER, error TEXT, at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS attempts_by_delivery ON attempts (delivery);
CREATE TABLE IF NOT EXISTS hub_tokens (sha256 TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts, role TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS hub_repos (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, account TEXT NOT NULL REFERENCES accounts,
    private INTEGER NOT NULL, created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS hub_objects (   -- which bytes a repository has, committed or not
    repo TEXT NOT NULL REFERENCES hub_repos ON DELETE CASCADE, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (repo, sha256)
);
CREATE TABLE IF NOT EXISTS hub_commits (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, repo TEXT NOT NULL REFERENCES hub_repos ON DELETE CASCADE,
    title TEXT NOT NULL, tree TEXT NOT NULL, at REAL NOT NULL      -- tree: {path: {sha256, size, oid, pointerSize?}}
);
CREATE INDEX IF NOT EXISTS hub_commits_by_repo ON hub_commits (repo, seq);
CREATE TABLE IF NOT EXISTS rules (
    scope TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, times INTEGER, PRIMARY KEY (scope, name)
);
"""


class Store:
    """The sandbox's memory below `folder`, which is made readable by its owner only."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.uploads = folder / "files"
        self.scratch = folder / "scratch"
        for path in (folder, self.uploads, self.scratch):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "sandbox.sqlite3")
        self._db.row_factory = sqlite3.Row
        (folder / "sandbox.sqlite3").chmod(0o600)
        # WAL with NORMAL survives the death of the process; secrets of finished runs are overwritten, not just unlinked.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._check_version()
        self._db.executescript(SCHEMA)

    def _check_version(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, SCHEMA_VERSION):
            raise SystemExit(f"{self.folder} was written by another version of the sandbox; name another folder with --data or empty it.")
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(sql, values).fetchone()
        return row

    def all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self._db.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what happens inside together, or nothing of it; never `await` inside."""
        with self._db:
            yield self._db

    def write(self, sql: str, *values: Any) -> int:
        """Change rows by one statement and commit; the answer is how many."""
        with self._db:
            return self._db.execute(sql, values).rowcount

    def fold_log(self) -> None:
        """Bring the write-ahead log back into the database file, so that nothing overwritten lingers in it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self._db.close()
