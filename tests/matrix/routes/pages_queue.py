"""The pages of the queue."""

from datetime import timedelta

from django.utils import timezone

from accounts.roles import Right
from tests.matrix.routes.api_queue import WAITING
from tests.matrix.table import Route, get, page, post

QUEUE = "/t/<team>/queue"


def tomorrow(_side):
    return {"not_before": f"{timezone.now() + timedelta(days=1):%Y-%m-%dT%H:%M}"}


ROUTES: list[Route] = [
    get(f"{QUEUE}/", Right.READ),
    post(f"{QUEUE}/mode/", Right.QUEUE, form={"mode": "paused"}, answers=302),
    post(f"{QUEUE}/numbers/", Right.MANAGE, form={"team_max_concurrent": "4"}, answers=302),
    post(f"{QUEUE}/<job_id>/priority/", Right.QUEUE, form={"priority": "45"}, at=WAITING, answers=302),
    *page("/t/<team>/jobs/<job_id>/start/", Right.CANCEL_OWN, form=tomorrow, at=WAITING, others_need=Right.CANCEL_ALL),
]
