"""The world of the matrix: built once for a module, in a transaction that never commits."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.db import transaction
from django.test import override_settings

from tests.matrix import world as worlds


class Refusing(BaseHTTPRequestHandler):
    """Takes no token and no signature, whatever is asked."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b'{"title": "Unauthenticated", "detail": "You did not pass a valid authentication token", "status": 401}'
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def elsewhere():
    """Everybody whom the product calls: there, and turning it away at once."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def world(django_db_setup, django_db_blocker, elsewhere):
    addresses = dict.fromkeys(["REPLICATE_BASE_URL", "PUBLIC_URL", "STATUS_PAGE_URL", "HF_ENDPOINT"], elsewhere)
    fast = {"PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"]}
    # A walk along all routes may take longer than a sign-in counts as fresh.
    fresh = {"ACCOUNT_REAUTHENTICATION_TIMEOUT": 86400}
    with django_db_blocker.unblock(), override_settings(**addresses, **fast, **fresh), transaction.atomic():
        yield worlds.build()
        transaction.set_rollback(True)
