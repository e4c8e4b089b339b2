"""Live streams behind the proxies: every line at once, by the process that is there for them."""

import pytest
from django.db import transaction

from jobs.models import Job
from jobs.services import logs
from jobs.states import State
from tests.factories import MembershipFactory, make_token
from tests.jobs.factories import JobFactory
from tests.proxies import MEMBER


@pytest.mark.django_db(transaction=True)
def test_a_line_of_a_log_arrives_before_the_next_is_written(proxy, streams):
    job = JobFactory()
    _, token = make_token(MembershipFactory(team=job.team))
    told = ""

    with (
        proxy.client(MEMBER, Authorization=f"Bearer {token}") as client,
        client.stream("GET", f"/api/cloud/jobs/{job.job_id}/logs/stream") as answer,
    ):
        lines = answer.iter_lines()
        for number in range(3):
            told += f"line {number}\n"
            with transaction.atomic():
                logs.append(job, told)
            assert next(line for line in lines if line.startswith("data: ")) == f"data: line {number}"
        is_connected = streams.is_connected()
        Job.objects.filter(pk=job.pk).update(state=State.COMPLETED)
        rest = [line for line in lines if line]

    assert answer.headers["Content-Type"] == "text/event-stream"
    assert is_connected
    assert rest == ["event: done", "data: completed"]
