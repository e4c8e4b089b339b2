"""Real servers around the storage endpoint: granian with both interfaces, and Traefik with a certificate in front."""

import contextlib
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import connection

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 60

TRAEFIK = """
http:
  routers:
    all: {{rule: "PathPrefix(`/`)", service: tunehouse, entryPoints: [https], tls: {{}}}}
  services:
    tunehouse: {{loadBalancer: {{passHostHeader: true, servers: [{{url: "{target}"}}]}}}}
tls:
  stores:
    default: {{defaultCertificate: {{certFile: "{folder}/cert.pem", keyFile: "{folder}/key.pem"}}}}
"""


@dataclass
class Server:
    """A server that runs. `outputs` is where its artifacts go."""

    url: str
    process: subprocess.Popen
    outputs: Path
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.rpartition("/")[2].partition(":")
        return host, int(port)

    def memory_bytes(self) -> int:
        """Resident memory of the server and its workers."""
        return sum(process.memory_info().rss for process in self._processes())

    def forget_peak(self) -> None:
        """Begin to measure the peak anew. Source: proc(5), /proc/pid/clear_refs."""
        for process in self._processes():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """The most that was resident since the peak was forgotten."""
        status = "".join(Path(f"/proc/{process.pid}/status").read_text() for process in self._processes())
        return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    def _processes(self) -> list[psutil.Process]:
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]


@contextlib.contextmanager
def granian(interface: str, folder: Path) -> Iterator[Server]:
    """Tunehouse under granian on the test's database, with a folder of its own for what is stored."""
    port = free_port()
    environment = os.environ | {"DATABASE_URL": database_url(), "TUNEHOUSE_OUTPUTS": str(folder / "outputs")}
    command = [sys.executable, "-m", "granian", "--interface", interface, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--blocking-threads", "8" if interface == "wsgi" else "1", "--no-ws", f"config.{interface}:application"]
    with running(command, folder / "server.log", cwd=ROOT, env=environment) as process:
        wait_for(f"http://127.0.0.1:{port}", process, folder / "server.log")
        yield Server(f"http://127.0.0.1:{port}", process, folder / "outputs", folder / "server.log")


@contextlib.contextmanager
def traefik(target: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """An https proxy that does not buffer: its address and the certificate to trust."""
    make_certificate(folder)
    port = free_port()
    (folder / "routes.yml").write_text(TRAEFIK.format(target=target, folder=folder))
    program = Path(sys.executable).with_name("traefik")
    command = [str(program), f"--entryPoints.https.address=127.0.0.1:{port}", f"--providers.file.filename={folder}/routes.yml"]
    command += ["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]
    with running(command, folder / "proxy.log", cwd=folder, env=dict(os.environ)) as process:
        wait_for(f"https://127.0.0.1:{port}", process, folder / "proxy.log", certificate=folder / "cert.pem")
        yield f"https://127.0.0.1:{port}", folder / "cert.pem"


@contextlib.contextmanager
def running(command: list[str], log: Path, *, cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    with log.open("wb") as output, subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def wait_for(address: str, process: subprocess.Popen, log: Path, *, certificate: Path | None = None) -> None:
    """Return when the product answers at an address; a proxy listens before it knows its routes and certificate."""
    deadline = time.monotonic() + START_SECONDS
    trusted = ssl.create_default_context(cafile=certificate) if certificate else True
    with httpx.Client(verify=trusted, trust_env=False, timeout=START_SECONDS) as client:
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{address}/api/cloud/health/live").status_code == 200:
                    return
            threading.Event().wait(0.02)
    raise AssertionError(log.read_text())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def database_url() -> str:
    """The address of the database that the tests use, for a process of its own."""
    found = connection.settings_dict
    user = quote(found["USER"], safe="") + (f":{quote(found['PASSWORD'], safe='')}" if found["PASSWORD"] else "")
    if found["HOST"].startswith("/"):
        return f"postgres://{user}@/{found['HOST']}/{found['NAME']}"
    place = f"{found['HOST']}:{found['PORT']}" if found["PORT"] else found["HOST"]
    return f"postgres://{user}@{place}/{found['NAME']}"


def make_certificate(folder: Path) -> None:
    """A certificate for this machine that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tunehouse tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key(), serial_number=x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
