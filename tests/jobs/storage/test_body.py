"""Bodies that are short, long, wrong or oddly framed: what is not whole and right is never stored."""

import asyncio
import base64
import errno
import hashlib
import http.client
import zlib

import pytest

from jobs.models import Artifact
from jobs.storage.objects import MAX_OBJECT_BYTES
from jobs.storage.spooling import answering_when_full

from .signing import TRAILER, UNSIGNED, chunked, exchange, signed

DATA = b"The weights, byte by byte. " * 100
CRC32_HEADER = "x-amz-checksum-crc32"
CRC32 = base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode()


def aws_chunked(data, *, trailer=f"x-amz-checksum-crc32:{CRC32}\r\n"):
    return f"{len(data):x}\r\n".encode() + data + f"\r\n0\r\n{trailer}\r\n".encode()


def answer_to_waiting(server, path, headers):
    """Status and Connection header of the answer to a client that waits for "100 Continue" and is not told so."""
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    connection.putrequest("PUT", f"/api/cloud/storage{path}")
    for name, value in (headers | {"Expect": "100-continue"}).items():
        connection.putheader(name, value)
    connection.endheaders()
    head = connection.sock.recv(65536).decode("latin-1")
    connection.close()
    status, _, rest = head.removeprefix("HTTP/1.1 ").partition(" ")
    said = [line.partition(": ")[2] for line in rest.splitlines() if line.lower().startswith("connection:")]
    return int(status), "".join(said)


def stored(server):
    """Every file below the artifacts, hidden ones, too."""
    return [path for path in server.outputs.rglob("*") if path.is_file()]


@pytest.fixture
def path(job):
    return f"/outputs/{job.job_id}/x.safetensors"


def test_chunks_with_a_trailer_and_without_a_length_come_in_whole(server, pair, path):
    headers = signed(server, pair, "PUT", path, payload=TRAILER, x_amz_decoded_content_length=str(len(DATA)), x_amz_trailer=CRC32_HEADER)
    body = aws_chunked(DATA)

    status, _ = exchange(server, "PUT", path, headers | {"Transfer-Encoding": "chunked"}, chunked(body[:1000], body[1000:]))

    assert status == 200
    assert Artifact.objects.get().sha256 == hashlib.sha256(DATA).hexdigest()


def test_chunks_that_are_not_what_was_announced_are_not_stored(server, pair, path):
    for what, length, body, word in [
        ("short", len(DATA) + 1, aws_chunked(DATA), b"IncompleteBody"),
        ("long", len(DATA) - 1, aws_chunked(DATA), b"IncompleteBody"),
        ("cut", len(DATA), aws_chunked(DATA)[:-300], b"IncompleteBody"),
        ("no trailer", len(DATA), aws_chunked(DATA, trailer=""), b"IncompleteBody"),
        ("wrong trailer", len(DATA), aws_chunked(DATA, trailer="x-amz-checksum-crc32:AAAAAA==\r\n"), b"BadDigest"),
        ("bad trailer", len(DATA), aws_chunked(DATA, trailer="x-amz-checksum-crc32:nonsense\r\n"), b"InvalidDigest"),
        ("not chunked", len(DATA), b"no chunks at all, but enough bytes to be looked at\r\n", b"InvalidRequest"),
        ("empty", len(DATA), b"", b"IncompleteBody"),
        ("empty, and said so", 0, b"", b"IncompleteBody"),
    ]:
        headers = signed(server, pair, "PUT", path, payload=TRAILER, x_amz_decoded_content_length=str(length), x_amz_trailer=CRC32_HEADER)

        status, answer = exchange(server, "PUT", path, headers | {"Transfer-Encoding": "chunked"}, chunked(body))

        assert (what, status, word in answer) == (what, 400, True), answer
    assert not Artifact.objects.exists()
    assert stored(server) == []


def test_a_connection_that_ends_in_the_middle_stores_nothing(server, pair, path):
    headers = signed(server, pair, "PUT", path, Content_Length=str(len(DATA)))

    # Under ASGI the server itself notices and answers for us.
    status, _ = exchange(server, "PUT", path, headers, DATA[:-10], closes=True)

    assert status >= 400
    assert not Artifact.objects.exists()
    assert stored(server) == []


def test_a_body_that_breaks_its_own_word_is_not_stored(server, pair, path):
    for payload, given, status, word in [
        (hashlib.sha256(b"other").hexdigest(), {}, 400, b"XAmzContentSHA256Mismatch"),
        (UNSIGNED, {"Content_MD5": base64.b64encode(bytes(16)).decode()}, 400, b"BadDigest"),
        (UNSIGNED, {"Content_MD5": "nonsense"}, 400, b"InvalidDigest"),
        (UNSIGNED, {"x_amz_checksum_sha256": base64.b64encode(bytes(32)).decode()}, 400, b"BadDigest"),
        (UNSIGNED, {"x_amz_checksum_crc32c": "AAAAAA=="}, 400, b"BadDigest"),
        (UNSIGNED, {"x_amz_checksum_what": "AAAAAA=="}, 400, b"InvalidRequest"),
        ("nonsense", {}, 400, b"InvalidRequest"),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", {}, 501, b"NotImplemented"),
    ]:
        headers = signed(server, pair, "PUT", path, payload=payload, Content_Length=str(len(DATA)), **given)

        answer = exchange(server, "PUT", path, headers, DATA)

        assert (answer[0], word in answer[1]) == (status, True), (payload, given, answer)
    assert not Artifact.objects.exists()
    assert stored(server) == []


def test_checksums_of_clients_with_amazons_runtime_are_checked(server, pair, path):
    for name, digest in {"crc32c": "e3069283", "crc64nvme": "ae8b14860a799888"}.items():
        given = {f"x-amz-checksum-{name}": base64.b64encode(bytes.fromhex(digest)).decode()}

        status, answer = exchange(server, "PUT", path, signed(server, pair, "PUT", path, Content_Length="9", **given), b"123456789")

        assert (name, status) == (name, 200), answer


def test_a_client_that_asks_first_is_told_to_go_on(server, pair, path):
    headers = signed(server, pair, "PUT", path, Content_Length=str(len(DATA)))
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    connection.putrequest("PUT", f"/api/cloud/storage{path}")
    for name, value in (headers | {"Expect": "100-continue"}).items():
        connection.putheader(name, value)
    connection.endheaders()

    go_on = b"".join(iter(lambda: connection.sock.recv(1), b"\n"))
    connection.sock.recv(2)
    connection.send(DATA)
    response = connection.getresponse()
    response.read()
    connection.close()

    assert go_on.startswith(b"HTTP/1.1 100 ")
    assert response.status == 200
    assert Artifact.objects.get().size_bytes == len(DATA)


def test_the_connection_ends_with_an_answer_that_came_without_100_continue(server, pair, path):
    """Older botocore reads the next answer on that connection wrongly."""
    empty = hashlib.sha256(b"").hexdigest()
    headers = signed(server, pair, "PUT", path, payload=empty, Content_Length="0")

    assert answer_to_waiting(server, path, headers) == (200, "close")


def test_a_large_body_is_refused_before_it_is_sent(wsgi, pair):
    path = "/outputs/j-elsewhere/x"
    headers = signed(wsgi, pair, "PUT", path, Content_Length=str(2**30))

    assert answer_to_waiting(wsgi, path, headers) == (403, "close")


def test_a_body_of_unknown_length_is_refused(server, pair, path):
    headers = signed(server, pair, "PUT", path)

    status, answer = exchange(server, "PUT", path, headers | {"Transfer-Encoding": "chunked"}, chunked(DATA))

    assert (status, b"MissingContentLength" in answer) == (411, True)
    assert not Artifact.objects.exists()


def test_an_empty_body_without_any_digest_is_refused(server, pair, path):
    headers = signed(server, pair, "PUT", path, Content_Length="0")

    status, answer = exchange(server, "PUT", path, headers)

    assert (status, b"MissingRequestBodyError" in answer) == (400, True)
    assert not Artifact.objects.exists()


def test_an_object_above_the_largest_is_refused_by_what_its_headers_say(server, pair, path):
    lengths = {"Content_Length": str(len(DATA)), "x_amz_decoded_content_length": str(MAX_OBJECT_BYTES + 1)}
    headers = signed(server, pair, "PUT", path, payload=TRAILER, **lengths)

    status, answer = exchange(server, "PUT", path, headers, DATA)

    assert (status, b"EntityTooLarge" in answer) == (413, True)


def test_names_that_are_no_plain_paths_are_refused(server, pair, job):
    unplain = ["../other/x", "a/../../x", "a//b", "./a", "folder/", "a%00b", "a%0Ab", "a%0A", "a%5C..%5Cb", "%E2%80%A8.txt", "%EF%BF%BF"]
    overlong = ["a" * 256, "/".join(["a" * 200] * 6)]
    for name, word in [(name, b"InvalidArgument") for name in unplain] + [(name, b"KeyTooLongError") for name in overlong]:
        path = f"/outputs/{job.job_id}/{name}"

        status, answer = exchange(server, "PUT", path, signed(server, pair, "PUT", path, Content_Length=str(len(DATA))), DATA)

        assert (name, status, word in answer) == (name, 400, True), answer
    assert not Artifact.objects.exists()
    assert stored(server) == []


def test_a_request_that_is_not_signed_right_is_refused_in_s3s_words(server, pair, path):
    good = signed(server, pair, "GET", path)

    def answer(**changes):
        headers = {name: value for name, value in (good | changes).items() if value}
        return exchange(server, "GET", path, headers)

    for changes, status, word in [
        ({"Authorization": "AWS4-HMAC-SHA256 nonsense"}, 400, b"AuthorizationHeaderMalformed"),
        ({"Authorization": f"AWS {pair.access_key}:signature"}, 501, b"NotImplemented"),
        ({"Authorization": good["Authorization"].replace("/s3/", "/ec2/")}, 400, b"AuthorizationHeaderMalformed"),
        ({"X-Amz-Date": "20201301T000000Z"}, 400, b"AuthorizationHeaderMalformed"),
        ({"X-Amz-Content-SHA256": None}, 400, b"InvalidRequest"),
        ({"X-Amz-Content-SHA256": "0" * 64}, 403, b"SignatureDoesNotMatch"),
    ]:
        got = answer(**changes)
        assert (got[0], word in got[1]) == (status, True), (changes, got)


def test_a_document_with_entities_is_refused(server, pair, path):
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>'
    begun = exchange(server, "POST", f"{path}?uploads", signed(server, pair, "POST", f"{path}?uploads"))[1]
    upload = begun.partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()
    where = f"{path}?uploadId={upload}"

    status, answer = exchange(server, "POST", where, signed(server, pair, "POST", where, Content_Length=str(len(bomb))), bomb)

    assert (status, b"MalformedXML" in answer) == (400, True)


def test_a_body_that_does_not_fit_where_asgi_spools_it_is_answered_in_words():
    """Django raises this before any view runs; the disk is not filled here, since other tests write to it."""
    asked = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.request", "body": b"x"}]
    sent = []

    async def spooling(scope, receive, send):
        raise OSError(errno.ENOSPC, "No space left on device")

    async def receive():
        return asked.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(answering_when_full(spooling)({"type": "http", "path": "/api/cloud/storage/outputs/x"}, receive, send))

    assert (sent[0]["status"], b"<Code>InsufficientStorage</Code>" in sent[1]["body"], asked) == (507, True, [])
