import base64
import hashlib
import hmac
import json
import sqlite3
from datetime import datetime, timedelta

import pytest

from . import servers

LIMIT = 104_857_600


def multipart(size: int, boundary: bytes = b"frontier"):
    """Yield a multipart body with `size` bytes of content, without ever holding it."""
    yield b"--" + boundary + b'\r\nContent-Disposition: form-data; name="content"; filename="big.bin"\r\n\r\n'
    for start in range(0, size, 1024**2):
        yield bytes(min(1024**2, size - start))
    yield b"\r\n--" + boundary + b"--\r\n"


def upload_of(account, size: int):
    headers = {"Content-Type": "multipart/form-data; boundary=frontier"}
    return account.http.post("/v1/files", content=multipart(size), headers=headers)


def test_an_upload_is_described(account):
    content = servers.archive("a_cat.jpg")

    response = account.http.post("/v1/files", files={"content": ("d.zip", content, "application/zip")}, data={"metadata": '{"job": 1}'})

    found = response.json()
    assert response.status_code == 201
    assert (found["name"], found["content_type"], found["size"]) == ("d.zip", "application/zip", len(content))
    assert found["metadata"] == {"job": 1}
    assert found["etag"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert found["checksums"] == {"sha256": hashlib.sha256(content).hexdigest(), "md5": found["etag"]}
    created, expires = (datetime.fromisoformat(found[name]) for name in ("created_at", "expires_at"))
    assert expires - created == timedelta(days=1)
    assert account.http.get(found["urls"]["get"]).json() == found


def test_metadata_may_come_as_a_json_part(account):
    parts = {"content": ("a", b"x"), "metadata": (None, json.dumps({"a": 1}), "application/json")}

    response = account.http.post("/v1/files", files=parts)

    assert response.json()["metadata"] == {"a": 1}


def test_metadata_that_is_no_json_is_refused(account):
    response = account.http.post("/v1/files", files={"content": ("a", b"x")}, data={"metadata": "{"})

    assert response.status_code == 422


def test_an_upload_without_content_is_refused(account):
    response = account.http.post("/v1/files", files={"file": ("a.zip", b"x")})

    assert response.status_code == 422
    assert response.json()["detail"] == "- content is required\n"


def test_a_body_that_is_not_multipart_is_refused(account):
    response = account.http.post("/v1/files", content=b"x", headers={"Content-Type": "application/zip"})

    assert response.status_code == 422


def test_files_are_listed_newest_first_and_deleted(account):
    first, second = account.upload(b"1", "first"), account.upload(b"2", "second")

    listed = account.http.get("/v1/files").json()
    deleted = account.http.delete(f"/v1/files/{first['id']}")
    gone = account.http.get(f"/v1/files/{first['id']}")

    assert [each["id"] for each in listed["results"]] == [second["id"], first["id"]]
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (gone.status_code, gone.json()) == (404, {"detail": "File not found"})
    assert account.http.delete(f"/v1/files/{first['id']}").status_code == 404


def test_a_foreign_file_is_not_found(account, open_account):
    uploaded = account.upload(b"mine")

    response = open_account(account.sandbox).http.get(f"/v1/files/{uploaded['id']}")

    assert (response.status_code, response.json()) == (404, {"detail": "File not found"})


def test_a_signed_link_needs_no_token(account):
    uploaded = account.upload(b"the bytes")
    link = account.sandbox.control(f"files/{uploaded['id']}").json()["download_url"]

    good = account.http.get(link, headers={"Authorization": ""})
    bad = account.http.get(link[:-4] + "AAAA", headers={"Authorization": ""})

    assert (good.status_code, good.content, good.headers["content-type"]) == (200, b"the bytes", "application/octet-stream")
    assert bad.status_code == 404


def test_an_expired_link_and_an_expired_file_are_not_found(tmp_path, open_account):
    sandbox = servers.Sandbox(tmp_path, speed=1)
    uploaded = open_account(sandbox).upload(b"the bytes")
    sandbox.stop()
    with sqlite3.connect(tmp_path / "sandbox.sqlite3") as db:
        key = bytes.fromhex(db.execute("SELECT value FROM keys WHERE name = 'files'").fetchone()[0])
        name = db.execute("SELECT account FROM files").fetchone()[0]
        db.execute("INSERT INTO files SELECT NULL, 'old', account, name, content_type, size, sha256, md5, metadata, 0, 1 FROM files")
    db.close()
    again = servers.Sandbox(tmp_path, speed=1)
    account = open_account(again, name)
    signature = base64.b64encode(hmac.new(key, f"{name} {uploaded['id']} 1".encode(), hashlib.sha256).digest()).decode()

    query = {"owner": name, "expiry": "1", "signature": signature}
    late = account.http.get(f"/v1/files/{uploaded['id']}/download", params=query)
    kept = account.http.get(f"/v1/files/{uploaded['id']}")
    old = account.http.get("/v1/files/old")

    assert [late.status_code, kept.status_code, old.status_code] == [404, 200, 404]
    again.stop()


def test_the_largest_file_is_taken_in_constant_memory_and_one_byte_more_is_not(account):
    before = memory_of(account.sandbox)

    largest = upload_of(account, LIMIT)
    too_large = upload_of(account, LIMIT + 1)

    assert largest.status_code == 201
    assert (largest.json()["size"], largest.json()["checksums"]["sha256"]) == (LIMIT, hashlib.sha256(bytes(LIMIT)).hexdigest())
    assert (too_large.status_code, too_large.json()) == (413, {"detail": "Files must be less than 100MB in size"})
    assert memory_of(account.sandbox) - before < 30 * 1024
    account.http.delete(f"/v1/files/{largest.json()['id']}")


def memory_of(sandbox) -> int:
    """Read the highest resident memory of the process so far, in KiB."""
    with open(f"/proc/{sandbox.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def test_the_answer_to_an_upload_can_be_held(account):
    account.rule(hold_upload_seconds=0.3, times=1)

    held = account.http.post("/v1/files", files={"content": ("a", b"x")})
    prompt = account.http.post("/v1/files", files={"content": ("a", b"x")})

    assert held.elapsed > timedelta(seconds=0.3)
    assert prompt.elapsed < timedelta(seconds=0.3)


@pytest.mark.parametrize("name", ["ñandú 日本.zip", "a" * 200])
def test_file_names_are_kept(account, name):
    assert account.upload(b"x", name)["name"] == name
