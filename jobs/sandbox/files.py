"""The Files API: uploads go to disk as they come, in constant memory, and expire after a day.

Source: Replicate's HTTP API reference, "files"; the recorded exchanges of its
Python client show `name`, `etag` and `checksums.md5` as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from . import problems
from .clock import stamp
from .reading import json_of
from .signing import Signer
from .store import Store

MAX_BYTES = 104_857_600
MAX_FIELD_BYTES = 1_048_576
LIFETIME = 24 * 3600  # seconds of wall time
DEFAULT_TYPE = "application/octet-stream"


class Upload:
    """Reads one multipart body: the part `content` goes to `path` and is hashed on the way, small fields stay in memory.

    Bytes over Replicate's limit are counted and thrown away, so that the client gets to read the refusal.
    """

    def __init__(self, boundary: bytes, path: Path):
        self.path = path
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.name: str | None = None
        self.content_type: str | None = None
        self.has_content = False
        self.fields: dict[str, bytes] = {}
        self._file: IO[bytes] | None = None
        self._header = bytearray()
        self._value = bytearray()
        self._headers: dict[str, str] = {}
        self._part = ""
        callbacks = {
            "on_part_begin": self._headers.clear,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._keep_header,
            "on_headers_finished": self._begin_part,
            "on_part_data": self._take,
        }
        self._parser = MultipartParser(boundary, callbacks, max_header_size=16_384)  # type: ignore[arg-type]

    async def read(self, chunks: AsyncIterator[bytes]) -> None:
        """Take the whole body in. Raises Problem 422 for one that is not multipart."""
        with self.path.open("wb") as self._file:
            try:
                async for chunk in chunks:
                    self._parser.write(chunk)
                self._parser.finalize()
            except MultipartParseError as error:
                raise problems.titled(422, "Invalid upload", f"The body is not valid multipart/form-data: {error}") from error

    def _keep_header(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._header.clear()
        self._value.clear()

    def _begin_part(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", "").encode())
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part == "content":
            self.has_content = True
            self.name = options.get(b"filename", b"").decode("utf-8", "replace") or None
            self.content_type = self._headers.get("content-type")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._part != "content":
            field = self.fields.get(self._part, b"")
            self.fields[self._part] = (field + data[start:end])[:MAX_FIELD_BYTES]
            return
        self.size += end - start
        if self.size <= MAX_BYTES and self._file is not None:
            piece = memoryview(data)[start:end]
            self._file.write(piece)
            self.sha256.update(piece)
            self.md5.update(piece)

    def metadata(self) -> dict[str, Any]:
        """Read the `metadata` part, text or JSON alike. Raises Problem 422 if it is not a JSON object."""
        try:
            metadata = json_of(self.fields.get("metadata") or b"{}")
        except ValueError as error:
            raise problems.titled(422, "Invalid metadata", "metadata is not valid JSON") from error
        if not isinstance(metadata, dict):
            raise problems.titled(422, "Invalid metadata", "metadata is not a JSON object")
        return metadata


class Files:
    """The uploaded files of all accounts."""

    def __init__(self, store: Store, base_url: str):
        self.store = store
        self.base_url = base_url
        self._signer = Signer(store, "files")
        self._drop_leftovers()

    async def receive(self, account: str, content_type: str, chunks: AsyncIterator[bytes]) -> sqlite3.Row:
        """Store an upload; it can be seen once all of it is on disk. Raises Problem 413 or 422."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise problems.titled(422, "Invalid upload", "The body is not multipart/form-data")
        file_id = base64.b64encode(str(uuid.uuid4()).encode()).decode()
        upload = Upload(options[b"boundary"], self.store.scratch / f"{secrets.token_hex(8)}.part")
        try:
            await upload.read(chunks)
            self._check(upload)
            self._keep(account, file_id, upload)
        finally:
            upload.path.unlink(missing_ok=True)
        return self.get(account, file_id)

    @staticmethod
    def _check(upload: Upload) -> None:
        if not upload.has_content:
            raise problems.invalid_fields([{"type": "required", "field": "", "description": "content is required"}])
        if upload.size > MAX_BYTES:
            raise problems.too_large()

    def _keep(self, account: str, file_id: str, upload: Upload) -> None:
        name = upload.fields.get("filename", b"").decode("utf-8", "replace") or upload.name or "file"
        declared = upload.fields.get("type", b"").decode("utf-8", "replace") or upload.content_type or DEFAULT_TYPE
        metadata = json.dumps(upload.metadata())
        now = time.time()
        row = (file_id, account, name, declared, upload.size, upload.sha256.hexdigest(), upload.md5.hexdigest(), metadata)
        upload.path.rename(self.path(file_id))
        columns = "id, account, name, content_type, size, sha256, md5, metadata, created_at, expires_at"
        self.store.write(f"INSERT INTO files ({columns}) VALUES ({', '.join('?' * 10)})", *row, now, now + LIFETIME)  # noqa: S608

    def path(self, file_id: str) -> Path:
        return self.store.uploads / hashlib.sha256(file_id.encode()).hexdigest()

    def get(self, account: str, file_id: str) -> sqlite3.Row:
        """Find an account's file. Raises Problem 404, also for an expired or a foreign one."""
        sql = "SELECT * FROM files WHERE account = ? AND id = ? AND expires_at > ?"
        row = self.store.one(sql, account, file_id, time.time())
        if row is None:
            raise problems.file_not_found()
        return row

    def list(self, account: str) -> list[sqlite3.Row]:
        sql = "SELECT * FROM files WHERE account = ? AND expires_at > ? ORDER BY seq DESC LIMIT 100"
        return self.store.all(sql, account, time.time())

    def delete(self, account: str, file_id: str) -> None:
        self.get(account, file_id)
        self._forget(file_id)

    def drop_expired(self) -> None:
        for row in self.store.all("SELECT id FROM files WHERE expires_at <= ?", time.time()):
            self._forget(row["id"])

    def _forget(self, file_id: str) -> None:
        self.store.write("DELETE FROM files WHERE id = ?", file_id)
        self.path(file_id).unlink(missing_ok=True)

    def _drop_leftovers(self) -> None:
        """Remove what an earlier life left half done: parts, and bytes whose row was never written."""
        for part in self.store.scratch.glob("*.part"):
            part.unlink()
        known = {self.path(row["id"]).name for row in self.store.all("SELECT id FROM files")}
        for path in self.store.uploads.iterdir():
            if path.name not in known:
                path.unlink()

    def of_input(self, account: str, url: str) -> tuple[Path, str] | None:
        """Say where the bytes of an input like `urls.get` are, and their name; None for an address elsewhere.

        Raises Problem 404 when the file is gone or another account's.
        """
        prefix = f"{self.base_url}/v1/files/"
        if not url.startswith(prefix):
            return None
        row = self.get(account, url.removeprefix(prefix))
        return self.path(row["id"]), row["name"]

    def render(self, row: sqlite3.Row) -> dict[str, Any]:
        return {
            "id": row["id"],
            "name": row["name"],
            "content_type": row["content_type"],
            "size": row["size"],
            "etag": row["md5"],
            "checksums": {"sha256": row["sha256"], "md5": row["md5"]},
            "metadata": json.loads(row["metadata"]),
            "created_at": stamp(row["created_at"], digits=3),
            "expires_at": stamp(row["expires_at"], digits=3),
            "urls": {"get": f"{self.base_url}/v1/files/{row['id']}"},
        }

    def download_url(self, row: sqlite3.Row, expires_at: float) -> str:
        """Sign a link to a file's bytes that works without a token until `expires_at`."""
        owner, expiry = row["account"], str(int(expires_at))
        query = urlencode({"owner": owner, "expiry": expiry, "signature": self._signer.sign(owner, row["id"], expiry)})
        return f"{self.base_url}/v1/files/{row['id']}/download?{query}"

    def signed(self, file_id: str, owner: str, expiry: str, signature: str) -> sqlite3.Row:
        """Find the file of a signed link. Raises Problem 404 when the signature is wrong or has expired."""
        genuine = self._signer.is_genuine(signature, owner, file_id, expiry)
        if not genuine or not expiry.isdigit() or int(expiry) < time.time():
            raise problems.file_not_found()
        return self.get(owner, file_id)
