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


def test_07_an_upload_is_described(account):
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


def test_10_metadata_may_come_as_a_json_part(account):
    parts = {"content": ("a", b"x"), "metadata": (None, json.dumps({"a": 1}), "application/json")}

    response = account.http.post("/v1/files", files=parts)

    assert response.json()["metadata"] == {"a": 1}


def test_10_metadata_that_is_no_json_is_refused(account):
    response = account.http.post("/v1/files", files={"content": ("a", b"x")}, data={"metadata": "{"})

    assert response.status_code == 422


def test_08_an_upload_without_content_is_refused(account):
    response = account.http.post("/v1/files", files={"file": ("a.zip", b"x")})

    assert response.status_code == 422
    assert response.json()["detail"] == "- content is required\n"


def test_a_body_that_is_not_multipart_is_refused(account):
    response = account.http.post("/v1/files", content=b"x", headers={"Content-Type": "application/zip"})

    assert response.status_code == 422


def test_11_files_are_listed_newest_first_and_deleted(account):
    first, second = account.upload(b"1", "first"), account.upload(b"2", "second")

    listed = account.http.get("/v1/files").json()
    deleted = account.http.delete(f"/v1/files/{first['id']}")
    gone = account.http.get(f"/v1/files/{first['id']}")

    assert [each["id"] for each in listed["results"]] == [second["id"], first["id"]]
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (gone.status_code, gone.json()) == (404, {"detail": "File not found"})
    assert account.http.delete(f"/v1/files/{first['id']}").status_code == 404


def test_02_a_foreign_file_is_not_found(account, open_account):
    uploaded = account.upload(b"mine")

    response = open_account(account.sandbox).http.get(f"/v1/files/{uploaded['id']}")

    assert (response.status_code, response.json()) == (404, {"detail": "File not found"})


def test_12_a_signed_link_needs_no_token(account):
    uploaded = account.upload(b"the bytes")
    link = account.sandbox.control(f"files/{uploaded['id']}").json()["download_url"]

    good = account.http.get(link, headers={"Authorization": ""})
    bad = account.http.get(link[:-4] + "AAAA", headers={"Authorization": ""})

    assert (good.status_code, good.content, good.headers["content-type"]) == (200, b"the bytes", "application/octet-stream")
    assert bad.status_code == 404


def test_11_and_12_expired_files_and_links_are_not_found_nor_trained_on(tmp_path, open_account):
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
    account.rule(queue_seconds=0, boot_seconds=0)
    trained = account.finish(servers.inputs(images=f"{again.url}/v1/files/old"))

    assert [late.status_code, kept.status_code, old.status_code] == [404, 200, 404]
    assert (trained["status"], trained["error"]) == ("failed", "Failed to download input images: File not found")
    again.stop()


def test_09_the_largest_file_is_taken_in_constant_memory_and_one_byte_more_is_not(account):
    before = servers.memory_of(account.sandbox)

    largest = upload_of(account, LIMIT)
    too_large = upload_of(account, LIMIT + 1)

    assert largest.status_code == 201
    assert (largest.json()["size"], largest.json()["checksums"]["sha256"]) == (LIMIT, hashlib.sha256(bytes(LIMIT)).hexdigest())
    assert (too_large.status_code, too_large.json()) == (413, {"detail": "Files must be less than 100MB in size"})
    assert servers.memory_of(account.sandbox) - before < 30 * 1024
    account.http.delete(f"/v1/files/{largest.json()['id']}")


def test_09_a_file_that_is_too_large_can_be_refused_by_a_page_of_html(account):
    account.rule(too_large_answer="html")

    refused = upload_of(account, LIMIT + 1)

    assert (refused.status_code, refused.headers["content-type"]) == (413, "text/html; charset=utf-8")


def test_a_sandbox_killed_in_the_middle_of_an_upload_keeps_nothing_of_it(tmp_path, open_account):
    sandbox = servers.Sandbox(tmp_path, speed=1)
    account = open_account(sandbox)

    def interrupted():
        for number, piece in enumerate(multipart(LIMIT)):
            if number == 30:
                servers.until(lambda: [part for part in (tmp_path / "scratch").iterdir() if part.stat().st_size > 10 * 1024**2])
                sandbox.kill()
            yield piece

    with pytest.raises(servers.httpx.TransportError):
        account.http.post("/v1/files", content=interrupted(), headers={"Content-Type": "multipart/form-data; boundary=frontier"})
    left = list((tmp_path / "scratch").iterdir())

    again = servers.Sandbox(tmp_path, speed=1, port=sandbox.port)
    listed = account.http.get("/v1/files").json()["results"]

    assert (len(left), listed) == (1, [])
    assert [*(tmp_path / "scratch").iterdir(), *(tmp_path / "files").iterdir()] == []
    again.stop()


def test_the_answer_to_an_upload_can_be_held(account):
    account.rule(hold_upload_seconds=1.5, times=1)

    held = account.http.post("/v1/files", files={"content": ("a", b"x")})
    prompt = account.http.post("/v1/files", files={"content": ("a", b"x")})

    assert held.elapsed > timedelta(seconds=1.5) > prompt.elapsed


@pytest.mark.parametrize("name", ["ñandú 日本.zip", "a" * 200])
def test_file_names_are_kept(account, name):
    assert account.upload(b"x", name)["name"] == name
