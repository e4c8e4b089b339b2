"""A process that hangs in the middle of its work, as after SIGSTOP: whoever needs its locks waits a while, and not for ever."""

import os
import subprocess
import sys

import pytest
from django.db import connection

from jobs.services.dispatch import dispatch
from jobs.states import State
from tests.config.processes import wait_until
from tests.jobs import many
from tests.jobs.factories import JobFactory


@pytest.mark.django_db(transaction=True)
def test_the_queue_goes_on_although_a_dispatcher_hangs_with_the_turnstile_in_hand():
    assert dispatch() == []  # which makes the turnstile
    job = JobFactory(state=State.PENDING, started_at=None)
    environment = {**os.environ, many.DATABASE: connection.settings_dict["NAME"]}
    command = [sys.executable, "-m", "tests.jobs.stopped"]
    with subprocess.Popen(command, cwd=many.ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hanging:
        try:
            assert hanging.stdout.readline() == "held\n"
            wait_until(lambda: dispatch() == [job])
        finally:
            hanging.kill()
