"""What the Hub shows, and how it reads what it is asked."""

from __future__ import annotations

import base64
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import PurePosixPath
from typing import Any

from starlette.requests import Request

from . import hub_problems
from .clock import stamp
from .reading import json_of
from .repositories import Entry, Tree, tree_of

MAX_LINE_BYTES = 20 * 1024**2  # of a commit; a regular file stands in one line
SHA256 = re.compile(r"[0-9a-f]{64}")


def render_caller(caller: sqlite3.Row) -> dict[str, Any]:
    """Show whose token it is and what it may, as the Hub does for each kind of token."""
    name, role = caller["username"], caller["role"]
    token: dict[str, Any] = {"displayName": f"sandbox {role}", "role": role, "createdAt": "2026-01-01T00:00:00.000Z"}
    if role == "fineGrained":
        scoped = {"entity": {"_id": name, "type": "user", "name": name}, "permissions": ["repo.content.read", "repo.write"]}
        token["fineGrained"] = {"canReadGatedRepos": True, "global": [], "scoped": [scoped]}
    return {
        "type": "user",
        "id": name,
        "name": name,
        "fullname": f"Sandbox {name}",
        "isPro": False,
        "orgs": [],
        "auth": {"type": "access_token", "accessToken": token},
    }


def render_model(repo: sqlite3.Row, commit: sqlite3.Row, *, with_metadata: bool) -> dict[str, Any]:
    """Show a repository at a commit."""
    tree = tree_of(commit)
    return {
        "_id": repo["id"],
        "id": repo["name"],
        "modelId": repo["name"],
        "author": repo["account"],
        "sha": commit["id"],
        "private": bool(repo["private"]),
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "createdAt": stamp(repo["created_at"], digits=3),
        "lastModified": stamp(commit["at"], digits=3),
        "usedStorage": sum(entry["size"] for entry in tree.values()),
        "siblings": [{"rfilename": path, **(render_metadata(tree[path]) if with_metadata else {})} for path in sorted(tree)],
    }


def render_metadata(entry: Entry) -> dict[str, Any]:
    """Show a file as `siblings` do on demand."""
    shown = {"size": entry["size"], "blobId": entry["oid"]}
    if "pointerSize" in entry:
        shown["lfs"] = {"sha256": entry["sha256"], "size": entry["size"], "pointerSize": entry["pointerSize"]}
    return shown


def render_entry(path: str, entry: Entry | None) -> dict[str, Any]:
    """Show a file, or a folder, which has no entry, as listings do."""
    if entry is None:
        return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
    shown = {"type": "file", "path": path, "oid": entry["oid"], "size": entry["size"]}
    if "pointerSize" in entry:
        shown["lfs"] = {"oid": entry["sha256"], "size": entry["size"], "pointerSize": entry["pointerSize"]}
    return shown


def with_folders(tree: Tree) -> set[str]:
    """List a tree's files and the folders that they are in."""
    return {str(each) for path in tree for each in (PurePosixPath(path), *PurePosixPath(path).parents) if str(each) != "."}


async def read_json(request: Request) -> dict[str, Any]:
    """Read a JSON object. Raises HubProblem 400."""
    try:
        asked = json_of(await request.body())
    except ValueError as error:
        raise hub_problems.malformed("The body is not JSON") from error
    if not isinstance(asked, dict):
        raise hub_problems.malformed("The body is not a JSON object")
    return asked


def objects(asked: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Read a list of JSON objects. Raises HubProblem 400."""
    found = asked.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise hub_problems.malformed(f'"{name}" must be a list of objects')
    return found


def announced(asked: dict[str, Any]) -> Iterator[tuple[str, int, bytes]]:
    """Read path, size and first bytes of the files that somebody wants to upload. Raises HubProblem 400."""
    for file in objects(asked, "files"):
        try:
            yield path_in(file), int(file["size"]), base64.b64decode(file["sample"])
        except (ValueError, TypeError, KeyError) as error:
            raise hub_problems.malformed("A file is announced by {path, size, sample}") from error


def large_objects(asked: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Read SHA-256 and size of the large files that somebody wants to upload. Raises HubProblem 400."""
    for each in objects(asked, "objects"):
        sha256, size = each.get("oid"), each.get("size")
        if not isinstance(sha256, str) or not SHA256.fullmatch(sha256) or not isinstance(size, int):
            raise hub_problems.malformed("An object is announced by {oid, size}, oid being its SHA-256")
        yield sha256, size


async def operations(request: Request) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Read the lines of a commit one by one. Raises HubProblem 400 for one that is too long or makes no sense."""
    rest = bytearray()
    async for chunk in request.stream():
        rest += chunk
        *whole, last = rest.split(b"\n") if b"\n" in chunk else (rest,)
        for line in whole:
            yield _operation(line)
        rest = last
        if len(rest) > MAX_LINE_BYTES:
            raise hub_problems.malformed("A regular file in this commit is too large; upload it as a large one")
    if rest.strip():
        yield _operation(rest)


def _operation(line: bytearray) -> tuple[str, dict[str, Any]]:
    try:
        read = json_of(line)
        key, value = read["key"], read["value"]
    except (ValueError, TypeError, KeyError) as error:
        raise hub_problems.malformed("A line of this commit is not {key, value}") from error
    if not isinstance(value, dict):
        raise hub_problems.malformed("A line of this commit has no value")
    return str(key), value


def path_in(value: dict[str, Any]) -> str:
    """Read the path of a file in a repository. Raises HubProblem 400 for one that would lead out of it."""
    path = str(value.get("path", "")).rstrip("/")
    if any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise hub_problems.malformed(f"Invalid path in repo: {path!r}")
    return path


def content_of(value: dict[str, Any]) -> bytes:
    """Read the content of a regular file. Raises HubProblem 400."""
    content = str(value.get("content", ""))
    try:
        return base64.b64decode(content, validate=True) if value.get("encoding") == "base64" else content.encode()
    except ValueError as error:
        raise hub_problems.malformed("The content of a file is not base64") from error
