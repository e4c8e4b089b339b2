"""Results that lie elsewhere: a job whose delivery is looked for in a bucket, weights that are whole, and services that say no."""

import contextlib
import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.utils import timezone

from jobs.models import Job, ResultDelivery
from jobs.services import deliveries
from jobs.states import State
from tests.factories import CredentialFactory
from tests.jobs.factories import JobFactory
from tests.jobs.sandbox.servers import Bucket

WEIGHTS = "pytorch_lora_weights.safetensors"


def safetensors(size: int = 64) -> bytes:
    """A whole safetensors file with one tensor of so many bytes."""
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def place(service: Bucket, name: str = "results", **other: Any) -> dict[str, Any]:
    """The bucket as a team's settings name it."""
    kept = {"bucket": name, "region": "us-east-1", "endpoint_url": service.url, "access_key_id": service.access_key}
    return {**kept, "path_prefix": "", "use_path_style": True, "public_read": False, **other}


def pair(team: Any, bucket: Bucket, *, secret: str = "", **other: Any) -> Any:
    """The team's S3 credential for the bucket, with the place that was saved along."""
    secret = f"{bucket.access_key}:{secret or bucket.secret_key}"
    return CredentialFactory(team=team, kind="s3", secret=secret, details=place(bucket, **other))


def ended_in(bucket: Bucket, *, secret: str = "", place: dict[str, Any] | None = None, **fields: Any) -> Job:
    """A job that completed a while ago and took its result to the bucket, where nobody has looked yet."""
    ago = timezone.now() - timedelta(minutes=1)
    job = JobFactory(state=State.COMPLETED, destination="s3", ended_at=ago, archived_at=ago, output_url="s3://results/x", **fields)
    job.s3_credential = pair(job.team, bucket, secret=secret, **(place or {}))
    job.save(update_fields=["s3_credential"])
    delivery = ResultDelivery.objects.create(job=job, destination="s3")
    deliveries.begin(delivery, now=timezone.now())
    return job


def checked(job: Job) -> ResultDelivery:
    """The job's delivery after one look, made now whatever pause it is in."""
    ResultDelivery.objects.filter(job=job).update(try_after=None)
    deliveries.check(ResultDelivery.objects.get(job=job))
    return ResultDelivery.objects.get(job=job)


@contextlib.contextmanager
def answering(*answers: tuple[int, str, dict[str, str]]):
    """An HTTP server that gives these answers one after another, the last one for ever, and keeps the requests it got."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            server.asked.append((self.command, self.path))
            server.headers.append(dict(self.headers))
            status, body, headers = server.script.pop(0) if len(server.script) > 1 else server.script[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body.encode())), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = do_CONNECT = answer

        def log_message(self, *args):
            pass

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.script, server.asked, server.headers = list(answers), [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(code: str, status: int = 403, **headers: str) -> tuple[int, str, dict[str, str]]:
    """How S3 says no."""
    return status, f"<Error><Code>{code}</Code><Message>no</Message></Error>", {"Content-Type": "application/xml", **headers}
