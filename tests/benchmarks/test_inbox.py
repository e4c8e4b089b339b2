"""How fast the inbox takes deliveries: one web process with more and more senders, a long log, a full inbox."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest
from django.db import connection, transaction

from jobs.models import JobProgress, LogChunk
from jobs.services import logs
from tests.jobs.conftest import no_provider
from tests.servers import granian
from tests.webhooks.deliveries import SECRET, address_of, body_of, make_job
from webhooks.models import Delivery
from webhooks.signatures import sign

__all__ = ["no_provider"]
pytestmark = pytest.mark.django_db(transaction=True)

LINE = "Epoch 1/10 Steps:  12%|█▏        | {step}/100000 [01:02<07:33,  1.94it/s, lr=1e-4, step_loss=0.123]\n"
LINES = [LINE.format(step=step) for step in range(5000)]
LONG_LOG = "".join(LINES)  # 500 KB
SENDERS, EACH = (1, 4, 8), 100
numbers = itertools.count()


@pytest.fixture
def inbox(tmp_path, no_provider):
    """One web process as in production."""
    with granian("wsgi", tmp_path) as server:
        yield server


def prediction_id(number):
    return f"{number:026}"


def post(http, job, body):
    """Deliver once, as something new."""
    headers = sign(body, secret=SECRET, webhook_id=f"msg_{next(numbers)}", now=datetime.now(UTC))
    answer = http.post(address_of(job), content=body, headers=headers | {"content-type": "application/json"})
    assert answer.json()["status"] == "received", answer.text


def running(job, log):
    return body_of("processing", id=job.prediction_id, logs=log)


def client(inbox):
    return httpx.Client(base_url=inbox.url, trust_env=False, timeout=60)


def test_how_many_deliveries_one_web_process_takes_in_a_second(inbox):
    jobs = [make_job(prediction_id=prediction_id(number)) for number in range(max(SENDERS))]

    def send(job):
        with client(inbox) as http:
            for number in range(EACH):
                post(http, job, running(job, LINE * (number + 1)))

    def rate(senders):
        began = time.perf_counter()
        with ThreadPoolExecutor(senders) as pool:
            list(pool.map(send, jobs[:senders]))
        return senders * EACH / (time.perf_counter() - began)

    rate(1)
    rates = {senders: rate(senders) for senders in SENDERS}

    print("\ninbox: taken a second by one web process:", ", ".join(f"{rates[each]:.0f} with {each} senders" for each in SENDERS))
    assert Delivery.objects.count() == (1 + sum(SENDERS)) * EACH
    # More senders than the process can serve do not bring it down.
    assert rates[8] > rates[1] / 2


def test_a_delivery_is_taken_as_fast_with_a_log_of_many_pieces_and_in_a_full_inbox(inbox, median_seconds):
    fresh, long, piecemeal = (make_job(prediction_id=prediction_id(number)) for number in range(3))
    with transaction.atomic():
        logs.append(long, LONG_LOG)
        logs.append(piecemeal, LONG_LOG[:100])
    _keep_piece_by_piece(piecemeal)
    grown = itertools.count(1)

    with client(inbox) as http:

        def take(job, log=""):
            return median_seconds(lambda: post(http, job, running(job, log + LINE * next(grown))), runs=40)

        short, whole, pieces = take(fresh), take(long, LONG_LOG), take(piecemeal, LONG_LOG)
        few = take(fresh)
        _fill(fresh, 5000)
        many = take(fresh)

    print(
        f"\ninbox: a delivery with 500 KB of log / with some lines: {whole / short:.2f}; "
        f"kept in 5,000 pieces / in a few: {pieces / whole:.2f}; with 5,000 more deliveries kept / without: {many / few:.2f}"
    )
    assert pieces < whole * 2
    assert many < few * 2


def _keep_piece_by_piece(job):
    """The long log as thousands of webhooks leave it, a line each."""
    job.log_chunks.all().delete()
    starts = itertools.accumulate(map(len, LINES), initial=0)
    LogChunk.objects.bulk_create(LogChunk(job=job, start=start, text=line) for start, line in zip(starts, LINES, strict=False))
    JobProgress.objects.filter(job=job).update(length=len(LONG_LOG))


def _fill(job, count):
    """That many deliveries that came before; half of them wait to be applied."""
    Delivery.objects.bulk_create(
        Delivery(webhook_id=f"before_{number}", job=job, body_sha256="", body_bytes=1, state=("received", "applied")[number % 2])
        for number in range(count)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE webhooks_delivery")
