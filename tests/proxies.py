"""The shipped proxy samples under the real servers, filled in where they are marked and nowhere else.

The whole of 127.0.0.0/8 is this machine, so a client chooses where it calls from by the address that it binds to.
"""

import contextlib
import ipaddress
import os
import shutil
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.config.processes import free_port
from tests.servers import ROOT, Program, Server, running, wait_for

DEPLOY = ROOT / "config" / "deploy"
MARK = "# CHANGE"
PROVIDER, OTHER_PROVIDER = "127.0.0.2", "127.0.0.3"
MEMBER, STRANGER = "127.0.1.1", "127.0.9.9"
# The samples' networks, and what stands for them. The tests themselves wait for a proxy from 127.0.0.1.
NETWORKS = {
    "34.82.0.0/16": f"{PROVIDER}/32",
    "35.185.0.0/16": f"{OTHER_PROVIDER}/32",
    "127.0.0.0/8": "127.0.0.1/32",
    "10.0.0.0/8": "127.0.1.0/24",
}
# Debian keeps servers where not everybody looks for programs.
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
MAIN_NGINX = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/tunehouse.conf;
}}
"""


@dataclass
class Proxy(Program):
    """A proxy in front of the product; `plain` is its address without https, `certificate` the one to trust."""

    plain: str
    certificate: Path

    @property
    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    @contextlib.contextmanager
    def client(self, source: str, **headers: str) -> Iterator[httpx.Client]:
        """A client that calls from the source address."""
        transport = httpx.HTTPTransport(verify=self.trusted, local_address=source)
        with httpx.Client(base_url=self.url, transport=transport, trust_env=False, timeout=60, headers=headers) as client:
            yield client


@dataclass(frozen=True)
class Place:
    """What a proxy is told: who stands behind it, and where it listens and keeps its files."""

    web: Server
    streams: Server
    folder: Path
    port: int
    plain_port: int

    @property
    def certificate(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def common(self) -> dict[str, str]:
        """What is filled in alike in every sample."""
        behind = {"127.0.0.1:8000": "{}:{}".format(*self.web.address), "127.0.0.1:8001": "{}:{}".format(*self.streams.address)}
        files = {"/etc/ssl/certs/tunehouse.pem": str(self.certificate), "/etc/ssl/private/tunehouse.key": str(self.folder / "key.pem")}
        return {"tunehouse.example.com": "127.0.0.1"} | behind | files | NETWORKS

    def fill(self, sample: str, name: str, **changes: str) -> Path:
        """Copy a sample to a name of its own, with what is marked in it replaced."""
        path = self.folder / name
        path.write_text(filled((DEPLOY / sample).read_text(), self.common | changes))
        return path


def filled(text: str, changes: dict[str, str]) -> str:
    """Replace values in the marked lines, or in those behind a line that is only a mark. Each value must stand in one of them."""
    unused, lines, is_marked = set(changes), [], False
    for line in text.splitlines():
        for old, new in changes.items() if is_marked or MARK in line else ():
            if old in line:
                line = line.replace(old, new)
                unused.discard(old)
        is_marked = line.strip().startswith(MARK)
        lines.append(line)
    assert not unused, f"not to be changed by an administrator: {unused}"
    return "\n".join(lines) + "\n"


def nginx(place: Place) -> list[str]:
    place.fill(
        "nginx.conf",
        "tunehouse.conf",
        **{"listen 443 ssl": f"listen 127.0.0.1:{place.port} ssl", "listen 80;": f"listen 127.0.0.1:{place.plain_port};"},
    )
    main = place.folder / "nginx.conf"
    main.write_text(MAIN_NGINX.format(folder=place.folder, user="user root;" if os.geteuid() == 0 else ""))
    return [str(NGINX), "-p", str(place.folder), "-c", str(main), "-e", "stderr"]


def caddy(place: Place) -> list[str]:
    sample = place.fill(
        "Caddyfile",
        "Caddyfile",
        **{
            "http_port 80 ": f"http_port {place.plain_port} ",
            "https_port 443": f"https_port {place.port}",
            "default_bind 0.0.0.0": "default_bind 127.0.0.1",
            "localhost:2019": f"localhost:{free_port()}",
        },
    )
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(sample)]


def traefik(place: Place) -> list[str]:
    routes = place.fill("traefik-routes.yml", "routes.yml")
    main = place.folder / "traefik.yml"
    changes = {":443": f"127.0.0.1:{place.port}", ":80": f"127.0.0.1:{place.plain_port}", "/etc/traefik/traefik-routes.yml": str(routes)}
    main.write_text(filled((DEPLOY / "traefik.yml").read_text(), changes))
    return [str(Path(sys.executable).with_name("traefik")), f"--configFile={main}"]


COMMANDS: dict[str, Callable[[Place], list[str]]] = {"nginx": nginx, "caddy": caddy, "traefik": traefik}


@contextlib.contextmanager
def proxied(name: str, *, web: Server, streams: Server, folder: Path) -> Iterator[Proxy]:
    """Run one of the samples in front of the product."""
    make_certificate(folder)
    place = Place(web=web, streams=streams, folder=folder, port=free_port(), plain_port=free_port())
    command, log = COMMANDS[name](place), folder / "proxy.log"
    # Caddy keeps files of its own in the home folder.
    own = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    address = f"https://127.0.0.1:{place.port}"
    with running(command, log, cwd=folder, env=os.environ | own) as process:
        wait_for(address, process, log, certificate=place.certificate)
        yield Proxy(address, process, log, f"http://127.0.0.1:{place.plain_port}", place.certificate)


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
