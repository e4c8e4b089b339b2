"""What counting adds to a request of the API."""

import pytest
from django.test import Client

from tests.factories import make_token

pytestmark = pytest.mark.django_db


def test_a_request_with_pace_costs_little_more_than_without(median_seconds, settings):
    _, token = make_token()
    client = Client(headers={"Authorization": f"Bearer {token}"})

    def ask() -> None:
        assert client.get("/api/cloud/jobs").status_code == 200

    def measure(calls: int) -> float:
        settings.RATE_LIMIT_CALLS = calls
        return median_seconds(ask, runs=100)

    off, on = measure(0), measure(1_000)

    print(f"\npace: a request with it on / off: {on / off:.2f}")
    assert on < off * 3
