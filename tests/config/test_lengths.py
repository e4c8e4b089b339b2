"""Bodies that come without a length, as WSGI gets them behind some proxies."""

import io
import json

import pytest

from config import lengths
from config.lengths import knowing_lengths


def call(body, **environ):
    """What the application was given, and what was answered."""
    seen, answered = {}, {}

    def application(environ, start_response):
        seen.update(body=environ["wsgi.input"].read(), length=environ.get("CONTENT_LENGTH"))
        start_response("200 OK", [])
        return [b"done"]

    asked = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", **environ}
    content = b"".join(knowing_lengths(application)(asked, lambda status, headers: answered.update(status=status)))
    return seen, answered["status"], content


def test_it_is_given_its_length():
    seen, status, _ = call(b"a body", PATH_INFO="/api/webhooks/replicate")

    assert (seen, status) == ({"body": b"a body", "length": "6"}, "200 OK")


@pytest.mark.parametrize(
    "environ", [{"PATH_INFO": "/api/cloud/storage/outputs/x"}, {"wsgi.input_terminated": False}, {"HTTP_TRANSFER_ENCODING": ""}]
)
def test_it_is_left_alone_where_it_reads_by_itself_or_where_nobody_says_where_it_ends(environ):
    seen, _, _ = call(b"a body", **{"PATH_INFO": "/", **environ})

    assert seen["length"] is None


def test_one_without_an_end_is_refused_before_it_fills_the_disk(monkeypatch):
    monkeypatch.setattr(lengths, "MOST_BYTES", 1024 * 1024)

    seen, status, content = call(b"x" * 4 * 1024 * 1024, PATH_INFO="/api/cloud/datasets")

    assert (seen, status) == ({}, "413 Content Too Large")
    assert json.loads(content)["code"] == "upload_too_large"
