"""Signed chunks against the worked examples in Amazon's documentation, and what a changed byte does to them.

Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks",
and the same with trailing headers.
"""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import RequestFactory

from jobs.storage import signatures
from jobs.storage.body import Body
from jobs.storage.errors import SignatureWrong, TimeTooSkewed

# Amazon's example, printed in its documentation.
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
THEN = datetime(2013, 5, 24, tzinfo=UTC)
DATA = b"a" * 66560

PLAIN = {
    "payload": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "names": "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
    "seed": "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    "chunks": [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ],
    "end": b"\r\n",
    "headers": {},
}
TRAILING = {
    "payload": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "names": "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
    "seed": "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    "chunks": [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ],
    "end": b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    "headers": {"HTTP_X_AMZ_TRAILER": "x-amz-checksum-crc32c"},
}


def body_of(example):
    pieces = [DATA[:65536], DATA[65536:], b""]
    heads = [f"{len(piece):x};chunk-signature={signature}\r\n".encode() for piece, signature in zip(pieces, example["chunks"], strict=True)]
    return heads[0] + pieces[0] + b"\r\n" + heads[1] + pieces[1] + b"\r\n" + heads[2] + example["end"]


def request_of(example, body):
    headers = {
        "HTTP_HOST": "s3.amazonaws.com",
        "HTTP_X_AMZ_DATE": "20130524T000000Z",
        "HTTP_X_AMZ_STORAGE_CLASS": "REDUCED_REDUNDANCY",
        "HTTP_X_AMZ_CONTENT_SHA256": example["payload"],
        "HTTP_X_AMZ_DECODED_CONTENT_LENGTH": "66560",
        "HTTP_CONTENT_ENCODING": "aws-chunked",
        "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={example['names']},Signature={example['seed']}",
        **example["headers"],
    }
    return RequestFactory().generic("PUT", "/examplebucket/chunkObject.txt", body, content_type="", **headers)


def received(example, body, *, now=THEN):
    request = request_of(example, body)
    claim = signatures.read(request)
    signer = signatures.verify(claim, request, secret=SECRET, now=now)
    return b"".join(Body(request, payload=claim.payload, signer=signer, limit=len(DATA)))


@pytest.mark.parametrize("example", [PLAIN, TRAILING], ids=["plain", "trailer"])
def test_the_documented_chunks_are_read_and_their_signatures_fit(example):
    assert received(example, body_of(example)) == DATA


@pytest.mark.parametrize("example", [PLAIN, TRAILING], ids=["plain", "trailer"])
def test_a_byte_changed_in_a_signed_chunk_is_noticed(example):
    body = body_of(example)
    changed = body[:70000].replace(b"aaaa\r\n", b"aaab\r\n") + body[70000:]
    assert len(changed) == len(body)
    assert changed != body

    with pytest.raises(SignatureWrong):
        received(example, changed)


def test_a_trailer_that_was_not_signed_is_noticed():
    body = body_of(TRAILING).replace(b"sOO8/Q==", b"AAAAAA==")

    with pytest.raises(SignatureWrong):
        received(TRAILING, body)


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_that_is_off_by_more_than_a_quarter_of_an_hour_is_refused(minutes):
    with pytest.raises(TimeTooSkewed):
        received(PLAIN, body_of(PLAIN), now=THEN + timedelta(minutes=minutes))


@pytest.mark.parametrize("minutes", [-14, 14])
def test_a_clock_that_is_off_a_little_is_fine(minutes):
    assert received(PLAIN, body_of(PLAIN), now=THEN + timedelta(minutes=minutes)) == DATA


def test_a_wrong_secret_does_not_fit():
    request = request_of(PLAIN, b"")

    with pytest.raises(SignatureWrong):
        signatures.verify(signatures.read(request), request, secret="another", now=THEN)


def test_a_query_cannot_be_lengthened_behind_a_signature():
    request = request_of(PLAIN, b"")
    request.META["QUERY_STRING"] = "#&uploads"

    with pytest.raises(SignatureWrong):
        signatures.verify(signatures.read(request), request, secret=SECRET, now=THEN)
