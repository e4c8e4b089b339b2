"""What a long log costs: the database's bytes for each of its own while it grows by webhooks."""

import pytest
from django.db import connection, transaction
from django.db.models import Sum
from django.db.models.functions import Length

from jobs.services import logs
from tests.jobs.factories import JobFactory

SIZE, WEBHOOKS = 5_000_000, 2_000
MOST_WRITTEN = 3
LINE = "Epoch 1/10, Steps:  12%|#2        | {step}/60000 [01:02<07:33,  1.94it/s, lr=1e-4, step_loss={loss:.4f}]\r"


def growing(*, size=SIZE, times=WEBHOOKS):
    """The whole log as each of the webhooks brings it: a bar that is drawn anew at each step."""
    lines, length = [], 0
    while length < size:
        lines.append(LINE.format(step=len(lines) + 1, loss=0.1 + (len(lines) * 7919 % 1000) / 10_000))
        length += len(lines[-1])
    text = "".join(lines)
    return [text[: len(text) * number // times] for number in range(1, times + 1)]


def written_bytes():
    """How far the write-ahead log is: all that was ever written, dead rows, indexes and whole pages among it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_a_log_of_five_megabytes_writes_at_most_three_times_its_size():
    job = JobFactory()
    texts = growing()

    before = written_bytes()
    for text in texts:
        with transaction.atomic():
            logs.append(job, text)
    written = written_bytes() - before

    kept = job.log_chunks.aggregate(total=Sum(Length("text")))["total"]
    print(
        f"\nlog: {len(texts[-1]):,} characters in {len(texts):,} webhooks: {written / len(texts[-1]):.2f} bytes written for each, "
        f"{kept / len(texts[-1]):.2f} of text; {job.series.count():,} points"
    )
    assert kept == len(texts[-1])
    assert written <= MOST_WRITTEN * len(texts[-1])
