"""Deliveries that nothing proves to be the provider's are counted; those that it signed never are."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditLine, PaceCount
from jobs.models import ProviderSettings
from tests.webhooks.test_inbox import OTHER_SECRET, PATH, address_of, body_of, make_job, signed
from webhooks import views
from webhooks.models import Delivery


@pytest.fixture(autouse=True)
def pace_is_on(settings, time_machine):
    settings.RATE_LIMIT_CALLS = 1
    # The beginning of a window of a minute, near the time of now by which secrets are rested.
    time_machine.move_to(timezone.now().replace(second=0, microsecond=0), tick=False)


@pytest.fixture
def job(db, no_provider):
    job = make_job()
    ProviderSettings.objects.create(team=job.team, webhook_rate_limit_max=3)
    return job


def deliver(to, body=None, *, headers=None, address="203.0.113.9"):
    return Client().post(to, body or body_of(), content_type="application/json", headers=headers or {}, REMOTE_ADDR=address)


def statuses(times, to, body=None, **options):
    return [deliver(to, body, **options).status_code for _ in range(times)]


def good(number=1):
    return signed(body_of(), webhook_id=f"msg_{number}")


def bad():
    return signed(body_of(), secret=OTHER_SECRET)


def test_unsigned_and_badly_signed_deliveries_are_let_in_at_the_teams_pace(job):
    answers = [*statuses(2, address_of(job)), *statuses(2, address_of(job), headers=bad())]
    refused = deliver(address_of(job))

    assert answers == [401, 401, 401, 429]
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limit_exceeded")
    assert refused.json()["detail"] == "Rate limit exceeded. Please try again later."
    assert int(refused["Retry-After"]) == refused.json()["details"]["retry_after"] > 0
    assert (refused["X-RateLimit-Limit"], refused["X-RateLimit-Remaining"]) == ("3", "0")
    assert not Delivery.objects.exists()


def test_what_is_well_signed_is_let_in_however_much_of_it_comes_and_whatever_came_before(job):
    statuses(5, address_of(job))

    answers = [deliver(address_of(job), headers=good(number)).status_code for number in range(10)]

    assert answers == [200] * 10
    assert Delivery.objects.count() == 10


def test_a_well_signed_delivery_costs_no_query_more(job, settings):
    def queries(number):
        with CaptureQueriesContext(connection) as ran:
            answer = deliver(address_of(job), headers=good(number))
        assert (answer.status_code, "X-RateLimit-Limit" in answer) == (200, False)
        return len(ran)

    queries(0)
    with_pace = queries(1)
    settings.RATE_LIMIT_CALLS = 0

    assert with_pace == queries(2)
    assert not PaceCount.objects.exists()


def test_unsigned_deliveries_that_a_team_takes_are_counted_as_well(job):
    ProviderSettings.objects.update(webhook_require_signature=False)

    answers = [deliver(address_of(job), body_of(logs=f"{number}")).status_code for number in range(4)]

    assert answers == [200, 200, 200, 429]
    assert Delivery.objects.count() == 3


def test_each_address_and_each_team_counts_alone(job):
    other = make_job(prediction_id="a" * 26)
    statuses(4, address_of(job))

    assert statuses(1, address_of(job), address="203.0.113.10") == [401]
    assert statuses(1, address_of(other)) == [401]


@pytest.mark.parametrize(
    ("to", "body", "status"),
    [
        (PATH, b"{}", 401),
        (PATH, b"{", 400),
        (PATH, b"[]", 400),
        (f"{PATH}?job=j-0000000000", None, 404),
        (PATH, body_of(id="a" * 26), 404),
        (PATH, b"[" * 101, 413),
        ("/api/cloud/webhooks/replicate/", b"{}", 401),
    ],
)
def test_deliveries_that_name_no_job_count_by_their_address_with_the_default(job, monkeypatch, to, body, status):
    if status == 413:
        monkeypatch.setattr(views, "LARGEST_BODY_BYTES", 100)

    answers = statuses(102, to, body)

    assert answers == [status] * 100 + [429] * 2
    assert statuses(1, to, body, address="203.0.113.10") == [status]


def test_the_window_is_the_teams(job, time_machine):
    ProviderSettings.objects.update(webhook_rate_limit_window=5)
    statuses(4, address_of(job))

    time_machine.shift(10)

    assert statuses(4, address_of(job)) == [401, 401, 401, 429]


def test_the_first_refusal_leaves_a_line_and_the_others_none_of_any_kind(job):
    statuses(8, address_of(job))

    events = list(AuditLine.objects.order_by("pk").values_list("team", "event_type", "address"))
    assert events[-4:] == [(job.team.pk, "webhook.rejected", "")] * 3 + [(job.team.pk, "security.rate_limited", "203.0.113.9")]


def test_off_counts_nothing(job, settings):
    settings.RATE_LIMIT_CALLS = 0

    assert statuses(5, address_of(job)) == [401] * 5
    assert not PaceCount.objects.exists()
