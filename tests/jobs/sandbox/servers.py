"""Real processes and servers that the sandbox's tests talk to."""

import contextlib
import io
import json
import queue
import socket
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import httpx
from PIL import Image

from tests.config.processes import PATIENCE_SECONDS, free_port

ROOT = Path(__file__).parents[3]
CONFIG = {"--max_train_steps": 20, "--train_batch_size": 1}


class Sandbox:
    """A sandbox process of its own, with its Hub, on free ports."""

    def __init__(self, folder: Path, speed: int, port: int = 0, hub_port: int = 0, profile: str = "realistic"):
        self.folder = folder
        options = ["--port", str(port), "--hub-port", str(hub_port), "--speed", str(speed), "--profile", profile, "--data", str(folder)]
        command = [sys.executable, "-m", "jobs.sandbox", *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        ready, _, self.url = self.process.stdout.readline().strip().partition(" ")
        assert ready == "READY"
        self.hub_url = self.process.stdout.readline().strip().removeprefix("HUB ")
        self.hub_port = int(self.hub_url.rpartition(":")[2])
        self.port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        self.process.terminate()
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        self.process.stdout.close()
        return code

    def control(self, path: str, **body) -> httpx.Response:
        url = f"{self.url}/control/{path}"
        return httpx.post(url, json=body, trust_env=False) if body else httpx.get(url, trust_env=False)

    def evidence(self, prediction: dict) -> dict:
        return self.control(f"predictions/{prediction['id']}").json()


def memory_of(sandbox: Sandbox) -> int:
    """Read the highest resident memory of the process so far, in KiB."""
    with open(f"/proc/{sandbox.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


@dataclass
class Account:
    """A fresh account of a sandbox, so that tests that share the process do not see each other."""

    sandbox: Sandbox
    name: str
    token: str
    http: httpx.Client

    def rule(self, **rules) -> None:
        assert self.sandbox.control("settings", account=self.name, **rules).status_code == 200

    def version(self) -> dict:
        return self.http.get("/v1/models/simpletuner/advanced-trainer").json()["latest_version"]

    def upload(self, content: bytes, name: str = "dataset.zip") -> dict:
        return self.http.post("/v1/files", files={"content": (name, content, "application/zip")}).json()

    def create(self, given: dict | None = None, *, headers: dict | None = None, **body) -> dict:
        """Create a prediction that trains on `given`, which is filled up with what the schema requires."""
        response = self.http.post("/v1/predictions", json={"version": self.version()["id"], "input": given, **body}, headers=headers)
        assert response.status_code == 201, response.text
        return response.json()

    def finish(self, given: dict, **body) -> dict:
        """Create a prediction and wait for its end."""
        headers = {"Prefer": "wait=60", **body.pop("headers", {})}
        prediction = self.create(given, headers=headers, **body)
        assert prediction["status"] not in ("starting", "processing")
        return prediction

    def get(self, prediction: dict) -> dict:
        return self.http.get(f"/v1/predictions/{prediction['id']}").json()

    def wait_until(self, prediction: dict, *states: str) -> dict:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while (found := self.get(prediction))["status"] not in states:
            assert time.monotonic() < give_up, f"still {found['status']}"
            time.sleep(0.02)
        return found


def until(holds):
    """Wait until a question is answered with something true, and hand that on."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not (found := holds()):
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.02)
    return found


def inputs(**given) -> dict:
    """Fill an input up with what the newest trainer version requires."""
    required = {"images": "", "config_json": json.dumps(CONFIG), "dataloader_json": "", "max_train_steps": 20, "lycoris_config": ""}
    required["images"] = "data:application/zip;base64,UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="
    return {**required, **given}


def picture(width: int = 64, height: int = 64) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(content, "JPEG")
    return content.getvalue()


def archive(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, picture() if name.endswith(".jpg") else b"not an image")
    return content.getvalue()


@dataclass
class Receiver:
    """Takes webhooks; answers with the statuses in `answers`, then 200."""

    server: ThreadingHTTPServer
    received: queue.Queue = field(default_factory=queue.Queue)
    answers: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook?job=7&key=k%20k"

    def next(self):
        return self.received.get(timeout=PATIENCE_SECONDS)

    def all(self) -> list:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self.received.get_nowait())
        return found


@dataclass
class Delivery:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> dict:
        return json.loads(self.body)


@contextlib.contextmanager
def receiving(port: int = 0):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.received.put(Delivery(self.path, dict(self.headers), body, time.monotonic()))
            status = receiver.answers.pop(0) if receiver.answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 1024  # hundreds of predictions tell at once, and the kernel would drop what does not find room

    server = Server(("127.0.0.1", port), Handler)
    receiver = Receiver(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Bucket:
    """An S3 service by rclone; its bucket `results` is a folder."""

    url: str
    folder: Path
    access_key: str = "AKSANDBOXTEST"
    secret_key: str = "sk-sandbox-test-secret"

    def destination(self, prefix: str) -> dict:
        return {
            "s3_bucket": "results",
            "s3_endpoint_url": self.url,
            "s3_base_path": prefix,
            "s3_access_key": self.access_key,
            "s3_secret_key": self.secret_key,
        }

    def put(self, key: str, content: bytes) -> None:
        """Store an object by the service itself, which would not see a file that appears behind its back."""
        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys).put_object(Bucket="results", Key=key, Body=content)

    def backend(self, name: str, prefix: str, **more) -> dict:
        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        place = {"aws_bucket_name": "results", "aws_endpoint_url": self.url, "aws_data_prefix": prefix}
        return {"id": name, "type": "aws", "dataset_type": "image", **place, **keys, **more}


@contextlib.contextmanager
def bucket(folder: Path):
    with serving_s3(folder, free_port()) as found:
        yield found


@contextlib.contextmanager
def serving_s3(folder: Path, port: int, *, certificate: tuple[Path, Path] | None = None):
    """An S3 service by rclone on a port, whose buckets are the folders of a folder; by https with a certificate and its key."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).parent / "rclone"
    found = Bucket(f"{'https' if certificate else 'http'}://127.0.0.1:{port}", folder / "results")
    key = f"{found.access_key},{found.secret_key}"
    command = [program, "serve", "s3", "--auth-key", key, "--addr", f"127.0.0.1:{port}", "--config", folder / "none", folder]
    if certificate:
        command += ["--cert", certificate[0], "--key", certificate[1]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_SECONDS)


def _wait_for_port(port: int) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < give_up, "rclone does not answer"
        time.sleep(0.02)
