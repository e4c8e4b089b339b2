"""The Hub's model repositories: their commits as rows, the bytes of their files in a folder each.

Bytes are on the disk under their SHA-256 before a row speaks of them. A commit
keeps its whole tree, so that every revision can be read; `main` is the newest.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any

from . import hub_problems
from .store import Store

BRANCH = "main"
LARGE_PATTERNS = ("*.bin", "*.ckpt", "*.gz", "*.onnx", "*.pt", "*.pth", "*.safetensors", "*.tar", "*.zip")
ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE_PATTERNS).encode()

Entry = dict[str, Any]  # what a tree says of a file: sha256, size, oid (Git's id), pointerSize if it is a large one
Tree = dict[str, Entry]


class Repositories:
    """The repositories of all accounts, named `owner/name`."""

    def __init__(self, store: Store):
        self.store = store
        self.folder = store.folder / "hub"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._drop_leftovers()

    def _drop_leftovers(self) -> None:
        """Remove bytes whose row was never written, and those of deleted repositories."""
        known = {self.path(row["repo"], row["sha256"]) for row in self.store.all("SELECT * FROM hub_objects")}
        for folder in self.folder.iterdir():
            for path in folder.iterdir():
                if path not in known:
                    path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()

    def path(self, repo: str, sha256: str) -> Path:
        return self.folder / repo / sha256

    # Repositories

    def named(self, name: str) -> sqlite3.Row | None:
        return self.store.one("SELECT * FROM hub_repos WHERE name = ?", name)

    def inventory(self) -> list[dict[str, Any]]:
        """List all repositories and the files of their newest commits, for whoever looks behind the Hub's API."""
        return [self._described(repo) for repo in self.store.all("SELECT * FROM hub_repos ORDER BY name")]

    def _described(self, repo: sqlite3.Row) -> dict[str, Any]:
        commit = self.revision(repo, BRANCH)
        files = [
            {"path": path, "size": entry["size"], "sha256": entry["sha256"], "lfs": "pointerSize" in entry}
            for path, entry in sorted(tree_of(commit).items())
        ]
        described = {"repo": repo["name"], "account": repo["account"], "private": bool(repo["private"]), "commit": commit["id"]}
        return {**described, "files": files}

    async def create(self, account: str, name: str, *, private: bool) -> bool:
        """Make a repository with a first commit that says which files are large ones, as the Hub does; False if there is one."""
        repo, now = secrets.token_hex(12), time.time()
        entry = await self._write(repo, ATTRIBUTES)
        with self.store.transaction() as db:
            sql = "INSERT OR IGNORE INTO hub_repos VALUES (?, ?, ?, ?, ?)"
            is_new = bool(db.execute(sql, (repo, name, account, private, now)).rowcount)
            if is_new:
                db.execute("INSERT INTO hub_objects VALUES (?, ?, ?)", (repo, entry["sha256"], entry["size"]))
                _add_commit(db, repo, "initial commit", {".gitattributes": entry}, now)
        if not is_new:
            shutil.rmtree(self.folder / repo)
        return is_new

    def delete(self, repo: sqlite3.Row) -> None:
        self.store.write("DELETE FROM hub_repos WHERE id = ?", repo["id"])
        shutil.rmtree(self.folder / repo["id"], ignore_errors=True)

    # Bytes

    async def receive(self, repo: sqlite3.Row, sha256: str, chunks: AsyncIterator[bytes], *, most: float) -> bool:
        """Store bytes as they come, in constant memory, and say whether it was done: of more than `most` bytes nothing is kept.

        Raises HubProblem 400 if they are not the bytes of that SHA-256.
        """
        part, size, digest = self._part(), 0, hashlib.sha256()
        try:
            with part.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > most:
                        return False
                    file.write(chunk)
                    digest.update(chunk)
            if digest.hexdigest() != sha256:
                raise hub_problems.malformed("The bytes that came do not have the SHA-256 that was announced")
            await asyncio.to_thread(_settle, part, self.path(repo["id"], sha256))
        finally:
            part.unlink(missing_ok=True)
        self._record(repo, sha256, size)
        return True

    async def keep_small(self, repo: sqlite3.Row, content: bytes) -> Entry:
        """Store the content of a regular file and return its entry."""
        entry = await self._write(repo["id"], content)
        self._record(repo, entry["sha256"], entry["size"])
        return entry

    async def _write(self, repo: str, content: bytes) -> Entry:
        part, sha256 = self._part(), hashlib.sha256(content).hexdigest()
        part.write_bytes(content)
        await asyncio.to_thread(_settle, part, self.path(repo, sha256))
        return {"sha256": sha256, "size": len(content), "oid": _git_id(content)}

    def _record(self, repo: sqlite3.Row, sha256: str, size: int) -> None:
        """Write down that bytes are here, unless the repository was deleted while they came."""
        sql = "INSERT OR IGNORE INTO hub_objects SELECT id, ?, ? FROM hub_repos WHERE id = ?"
        self.store.write(sql, sha256, size, repo["id"])

    def large(self, repo: sqlite3.Row, sha256: str) -> Entry | None:
        """Return the entry of bytes that were uploaded before; None if they were not."""
        row = self.store.one("SELECT * FROM hub_objects WHERE repo = ? AND sha256 = ?", repo["id"], sha256)
        if row is None:
            return None
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {row['size']}\n".encode()
        return {"sha256": sha256, "size": row["size"], "oid": _git_id(pointer), "pointerSize": len(pointer)}

    def _part(self) -> Path:
        return self.store.scratch / f"{secrets.token_hex(8)}.part"

    # Commits

    def revision(self, repo: sqlite3.Row, revision: str) -> sqlite3.Row:
        """Find a commit by its id, or the newest of `main`. Raises HubProblem 404, also for a repository deleted meanwhile."""
        wanted = None if revision == BRANCH else revision
        sql = "SELECT * FROM hub_commits WHERE repo = ? AND (? IS NULL OR id = ?) ORDER BY seq DESC LIMIT 1"
        row = self.store.one(sql, repo["id"], wanted, wanted)
        if row is None:
            raise hub_problems.revision_not_found(revision)
        return row

    def commit(self, repo: sqlite3.Row, title: str, added: Tree, deleted: list[str], *, parent: str | None) -> str:
        """Delete, then add, and return the new commit's id; a path that ends in a slash is a folder.

        Raises HubProblem 404 for a path that is not there, 412 if `parent` is given and no longer the newest commit.
        """
        newest = self.revision(repo, BRANCH)
        if parent and newest["id"] != parent:
            raise hub_problems.HubProblem(412, "A commit has happened since. Please refresh and try again.")
        tree = tree_of(newest)
        for path in deleted:
            kept = {each: entry for each, entry in tree.items() if each != path and not (path.endswith("/") and each.startswith(path))}
            if len(kept) == len(tree):
                raise hub_problems.entry_not_found("A file with this name doesn't exist")
            tree = kept
        for path, entry in added.items():
            # As with Git, a file takes the place of a folder of its name, and a folder that of a file.
            tree = {each: old for each, old in tree.items() if not (each + "/").startswith(path + "/") and not path.startswith(each + "/")}
            tree[path] = entry
        with self.store.transaction() as db:
            return _add_commit(db, repo["id"], title, tree, time.time())


def _add_commit(db: sqlite3.Connection, repo: str, title: str, tree: Tree, now: float) -> str:
    commit_id = secrets.token_hex(20)  # as long as Git's
    sql = "INSERT INTO hub_commits (id, repo, title, tree, at) VALUES (?, ?, ?, ?, ?)"
    db.execute(sql, (commit_id, repo, title, json.dumps(tree), now))
    return commit_id


def tree_of(commit: sqlite3.Row) -> Tree:
    tree: Tree = json.loads(commit["tree"])
    return tree


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Say whether the Hub stores a file as a large one: by its name, its size, or because it is not text."""
    return any(PurePosixPath(path).match(pattern) for pattern in LARGE_PATTERNS) or size > 10_000_000 or b"\0" in sample


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _settle(part: Path, path: Path) -> None:
    """Bring a finished file to its place, for good: it is on the disk before it has its name."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    path.parent.mkdir(mode=0o700, exist_ok=True)
    part.rename(path)
