"""The account's secret is changed without a gap: both are valid for a while, each by itself, and nothing is asked that need not be."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import Credential
from tests.webhooks.deliveries import OTHER_SECRET, SECRET, body_of, make_job, signed
from tests.webhooks.test_inbox import deliver

THIRD = "whsec_dGhlIHRoaXJkIHNlY3JldCBvZiB0aGUgYWNjb3VudA=="


@pytest.fixture
def job(db, no_provider):
    job = make_job()
    Credential.objects.filter(pk=job.credential.pk).update(signing_keys=f"{OTHER_SECRET}\n{SECRET}")
    return job


@pytest.fixture
def account_says(monkeypatch):
    """What the account's secret is at the provider, and how often it was asked."""
    asked = []

    class Gateway:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def signing_secret(self):
            asked.append(1)
            return THIRD

    monkeypatch.setattr("jobs.services.provider.gateway", lambda **_: Gateway())
    Credential.objects.update(signing_keys_fetched_at=timezone.now() - timedelta(seconds=61))
    return asked


def test_the_new_and_the_former_secret_are_both_right_and_the_provider_is_not_asked(job, account_says):
    answers = [
        deliver(job, body_of("processing"), secret=OTHER_SECRET, webhook_id="msg_1"),
        deliver(job, secret=SECRET, webhook_id="msg_2"),
    ]

    assert ([answer.status_code for answer in answers], account_says) == ([200, 200], [])


def test_a_delivery_that_both_have_signed_is_right(job):
    body, at = body_of(), datetime.now(UTC)
    one, other = signed(body, at=at), signed(body, secret=OTHER_SECRET, at=at)

    both = one | {"webhook-signature": f"{one['webhook-signature']} {other['webhook-signature']}"}

    assert deliver(job, body, headers=both).status_code == 200


def test_after_a_change_the_newest_two_are_kept_and_the_oldest_is_wrong(job, account_says):
    Credential.objects.update(signing_keys_fetched_at=timezone.now() - timedelta(seconds=61))

    rotated = deliver(job, secret=THIRD)
    kept = Credential.objects.get().signing_keys.split()
    oldest = deliver(job, secret=SECRET, webhook_id="msg_2")
    former = deliver(job, body_of("processing"), secret=OTHER_SECRET, webhook_id="msg_3")

    assert [answer.status_code for answer in (rotated, oldest, former)] == [200, 401, 200]
    assert (kept, account_says) == ([THIRD, OTHER_SECRET], [1])


def test_wrong_signatures_ask_once_a_minute_however_many_come(job, account_says):
    Credential.objects.update(signing_keys_fetched_at=timezone.now() - timedelta(seconds=61))

    answers = [deliver(job, secret="whsec_bm9ib2R5J3Mgc2VjcmV0", webhook_id=f"msg_{number}").status_code for number in range(10)]

    assert (answers, account_says) == ([401] * 10, [1])
