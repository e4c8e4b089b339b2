"""A forward proxy and servers with certificates of their own, for calls that must find their way through a network."""

import base64
import contextlib
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "tunehouse", "pr0xy-pa55word"


@dataclass
class Proxy:
    """Passes plain calls and CONNECT tunnels on, to the port that it was asked for on this machine whatever the host's name.

    `asked` lists what came, `answers` refuses everything with that status, `needs_login` wants USER and PASSWORD.
    """

    port: int = 0
    needs_login: bool = False
    answers: int | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url_with_login(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}"


@contextlib.contextmanager
def proxying() -> Iterator[Proxy]:
    proxy = Proxy()
    login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def refuses(self) -> bool:
            proxy.asked.append(f"{self.command} {self.path}")
            status = 407 if proxy.needs_login and self.headers.get("Proxy-Authorization") != login else proxy.answers
            if status:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", "6")
                self.end_headers()
                self.wfile.write(b"<html>")
            return bool(status)

        def do_CONNECT(self):
            if self.refuses():
                return
            with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2]))) as there:
                self.send_response(200)
                self.end_headers()
                carry(self.connection, there)
            self.close_connection = True

        def do_any(self):
            if self.refuses():
                return
            parts = urlsplit(self.path)
            with socket.create_connection(("127.0.0.1", parts.port or 80)) as there:
                headers = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items() if not name.lower().startswith("proxy-"))
                path = f"{parts.path}?{parts.query}" if parts.query else parts.path
                there.sendall(f"{self.command} {path} HTTP/1.1\r\n{headers}\r\n".encode())
                there.sendall(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                carry(self.connection, there)
            self.close_connection = True

        do_GET = do_POST = do_any

        def log_message(self, *_):
            """The suite's output is for failures."""

    with serving(Handler) as port:
        proxy.port = port
        yield proxy


def carry(here: socket.socket, there: socket.socket) -> None:
    """Pass bytes both ways until one side has nothing more to say."""
    while True:
        for ready in select.select([here, there], [], [], 30)[0]:
            data = ready.recv(65536)
            if not data:
                return
            (there if ready is here else here).sendall(data)


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on this machine, over TLS with a `context`; yields its port."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            """A client that does not trust the certificate hangs up."""

    server = Server(("127.0.0.1", 0), handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Certificate:
    """A certificate that nobody but itself vouches for; `bundle` is the file that makes it trusted."""

    bundle: Path
    context: ssl.SSLContext


def certificate(folder: Path, *, days: int = 1, host: str = "127.0.0.1") -> Certificate:
    """Make one for a host; with `days` below zero it is expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    bundle, pair = folder / f"{host}-{days}.pem", folder / f"{host}-{days}.key.pem"
    bundle.write_bytes(pem)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair.write_bytes(pem + key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return Certificate(bundle, context)
