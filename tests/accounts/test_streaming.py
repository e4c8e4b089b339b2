"""Downloads under both kinds of server."""

import io

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncRequestFactory, RequestFactory

from accounts import streaming

# The end of a response gives connections back.
pytestmark = pytest.mark.django_db


def test_an_asgi_server_gets_a_file_piece_by_piece(monkeypatch):
    monkeypatch.setattr(streaming, "PIECE_BYTES", 4)
    file = io.BytesIO(b"0123456789")
    response = streaming.download(AsyncRequestFactory().get("/"), streaming.FilePieces(file), name="a.bin", size=10)

    async def read():
        return [piece async for piece in response]

    pieces = async_to_sync(read)()
    response.close()

    assert pieces == [b"0123", b"4567", b"89"]
    assert file.closed


def test_a_file_that_nobody_reads_is_closed():
    for factory in (RequestFactory(), AsyncRequestFactory()):
        file = io.BytesIO(b"0123456789")

        streaming.download(factory.get("/"), streaming.FilePieces(file), name="a.bin").close()

        assert file.closed
