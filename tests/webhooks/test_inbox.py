"""The inbox: what is let in, kept, applied once, and what everybody else is told."""

import hashlib
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from accounts.models import AuditLine, Credential
from billing.models import LedgerLine
from jobs import tasks as job_tasks
from jobs.models import Job, JobEvent, JobProgress, LogChunk, ProviderSettings
from jobs.services import logs
from tests.billing.factories import race
from tests.webhooks.deliveries import LOG, OTHER_SECRET, PATH, SECRET, address_of, body_of, make_job, signed
from webhooks import applying, receiving, replaying, tasks, views
from webhooks.models import Delivery


@pytest.fixture
def job(db, no_provider):
    return make_job()


def deliver(job, body=None, *, headers=None, to=None, **options):
    """POST a delivery as Replicate does; signed unless `headers` are given."""
    body = body_of() if body is None else body
    headers = signed(body, **options) if headers is None else headers
    return Client().post(to or address_of(job), body, content_type="application/json", headers=headers)


def said(answer):
    return answer.status_code, answer.json().get("code"), answer.json().get("detail")


# --- A job that somebody holds --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_while_somebody_keeps_the_job_for_long_a_delivery_is_asked_to_come_again(no_provider, monkeypatch):
    monkeypatch.setattr(receiving, "PATIENCE_SECONDS", 0.1)
    job, is_held, may_end = make_job(), threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            Job.objects.locked(job.pk)
            is_held.set()
            may_end.wait()
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait()
    try:
        answer, kept = deliver(job), Delivery.objects.count()
    finally:
        may_end.set()
        holder.join()

    assert (answer.status_code, answer.json()["code"], answer["Retry-After"], kept) == (503, "not_ready", "5", 0)
    assert (deliver(job).status_code, Delivery.objects.count()) == (200, 1)


# --- Let in -----------------------------------------------------------------------------------------------


def test_a_signed_delivery_is_kept_and_applied_once(job):
    answer = deliver(job)
    kept = Delivery.objects.get()
    before = Job.objects.get().state

    applying.apply(kept)
    applying.apply(kept)

    job.refresh_from_db()
    kept.refresh_from_db()
    assert (answer.status_code, answer.json()) == (200, {"status": "received", "job_id": job.job_id, "updates": {}})
    assert (before, job.state, job.cost, logs.read(job)) == ("queued", "completed", 97_988, LOG)
    assert (kept.state, kept.attempts, kept.webhook_id, kept.job) == ("applied", 1, "msg_1", job)
    assert list(job.events.values_list("state", "cause")) == [("completed", "webhook")]
    assert JobProgress.objects.get().heard_at is not None


@pytest.mark.parametrize(
    "path", [PATH, f"{PATH}/", "/api/cloud/webhook/replicate", "/api/cloud/webhooks/replicate", "/api/cloud/webhooks/replicate/"]
)
def test_the_inbox_has_several_addresses(job, path):
    assert deliver(job, to=address_of(job, path)).status_code == 200


def test_a_delivery_without_our_callback_finds_its_job_by_the_prediction(job):
    assert deliver(job, to=PATH).json()["job_id"] == job.job_id


def test_what_is_kept_is_neither_the_input_nor_the_log(job):
    body = body_of()

    deliver(job, body)

    kept = Delivery.objects.get()
    assert (kept.body_sha256, kept.body_bytes) == (hashlib.sha256(body).hexdigest(), len(body))
    assert (kept.logs_length, kept.logs_sha256) == (len(LOG), hashlib.sha256(LOG.encode()).hexdigest())
    assert sorted(kept.content) == ["error", "id", "metrics", "output", "status"]
    assert sorted(kept.headers) == ["content-type", "webhook-id", "webhook-timestamp"]
    everything = "".join(str(list(model.objects.values_list())) for model in (Delivery, Job, LogChunk, AuditLine, JobEvent))
    assert "succeeded" in everything
    assert "pLaNtEd" not in everything


@pytest.mark.django_db(transaction=True)
def test_a_delivery_is_committed_before_it_is_answered(no_provider, monkeypatch):
    job = make_job()
    seen_by_others = []

    def look():
        seen_by_others.extend(Delivery.objects.values_list("webhook_id", flat=True))
        seen_by_others.append(logs.read(job))
        connection.close()

    def bell(**_):
        other = threading.Thread(target=look)
        other.start()
        other.join()

    monkeypatch.setattr(tasks.apply, "delay", bell)

    assert deliver(job).status_code == 200
    assert seen_by_others == ["msg_1", LOG]


@pytest.mark.django_db(transaction=True)
def test_a_bell_that_cannot_be_rung_does_not_lose_the_delivery(no_provider, monkeypatch):
    job = make_job()

    def broken(**_):
        raise OSError("no broker")

    monkeypatch.setattr(tasks.apply, "delay", broken)
    answer = deliver(job)

    applied = applying.apply_unapplied()

    assert (answer.status_code, applied, Job.objects.get().state) == (200, 1, "completed")


# --- Again ------------------------------------------------------------------------------------------------


def test_a_repeat_is_counted_and_changes_nothing(job):
    body = body_of()
    deliver(job, body)
    applying.apply_unapplied()

    # A resend is signed anew, with the time of the attempt.
    again = deliver(job, body, at=datetime.now(UTC) - timedelta(seconds=60))
    applying.apply_unapplied()

    assert (again.status_code, again.json()) == (200, {"status": "ignored", "reason": "duplicate", "job_id": job.job_id})
    assert (Delivery.objects.get().repeats, JobEvent.objects.count(), LedgerLine.objects.count()) == (1, 1, 3)


@pytest.mark.django_db(transaction=True)
def test_twenty_repeats_at_once_are_one_delivery(no_provider):
    job = make_job()
    body = body_of()

    answers = race(lambda number: deliver(job, body).status_code, times=20)
    race(lambda number: applying.apply(Delivery.objects.select_related("job__team").get()), times=6)

    assert answers == [200] * 20
    assert (Delivery.objects.get().repeats, Delivery.objects.get().attempts) == (19, 1)
    assert (LedgerLine.objects.filter(kind="charge").count(), LogChunk.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_repeats_that_come_while_their_delivery_is_applied_are_answered(no_provider):
    job = make_job()

    def deliver_and_apply(number):
        webhook_id = f"msg_{number // 6}"
        answer = deliver(job, body_of("processing", logs=LOG * (1 + number // 6)), webhook_id=webhook_id)
        applying.apply(Delivery.objects.select_related("job__team").get(webhook_id=webhook_id))
        return answer.status_code

    answers = race(deliver_and_apply, times=60)

    assert answers == [200] * 60
    assert list(Delivery.objects.values_list("state", "repeats", "attempts")) == [("applied", 5, 1)] * 10


def test_a_job_is_locked_before_its_deliveries(job, django_assert_num_queries):
    def locked_first(work, at_most):
        with django_assert_num_queries(at_most, exact=False) as queries:
            work()
        return next(query["sql"] for query in queries if query["sql"].endswith("FOR NO KEY UPDATE") or query["sql"].startswith("UPDATE"))

    first = [locked_first(lambda: deliver(job), 40), locked_first(lambda: applying.apply(Delivery.objects.get()), 60)]

    assert ['FROM "jobs_job"' in sql and sql.endswith("FOR NO KEY UPDATE") for sql in first] == [True, True]


def test_the_same_id_with_other_bytes_is_put_apart(job):
    deliver(job, body_of("processing"))
    other = deliver(job, body_of("failed", logs="another log"))

    applying.apply_unapplied()

    states = Delivery.objects.order_by("pk").values_list("state", flat=True)
    assert (other.status_code, list(states)) == (200, ["applied", "quarantined"])
    assert (Job.objects.get().state, logs.read(job)) == ("running", LOG)


def test_a_delivery_in_quarantine_is_not_replayed(job):
    deliver(job, body_of("processing"))
    deliver(job, body_of("failed"))

    replayed = [replaying.replay(delivery) for delivery in Delivery.objects.order_by("pk")]

    assert (replayed, Job.objects.get().state) == ([True, False], "running")
    assert list(Delivery.objects.order_by("pk").values_list("state", flat=True)) == ["applied", "quarantined"]


def test_replaying_the_whole_inbox_changes_nothing(job):
    for number, status in enumerate(["starting", "processing", "succeeded", "processing", "failed"]):
        deliver(job, body_of(status), webhook_id=f"msg_{number}")
    applying.apply_unapplied()
    tables = (Job, JobEvent, LogChunk, LedgerLine, AuditLine)
    before = [list(model.objects.order_by("pk").values()) for model in tables]
    assert Job.objects.get().state == "completed"

    for delivery in Delivery.objects.order_by("-pk"):
        replaying.replay(delivery)

    assert [list(model.objects.order_by("pk").values()) for model in tables] == before


def test_the_log_is_kept_once_however_many_deliveries_bring_it(job):
    for number in range(1, 5):
        deliver(job, body_of("processing", logs=LOG * number), webhook_id=f"msg_{number}")

    assert (logs.read(job), LogChunk.objects.count()) == (LOG * 4, 4)
    assert sum(len(chunk.text) for chunk in LogChunk.objects.all()) == len(LOG) * 4


# --- Turned away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-400, 400])
def test_a_delivery_signed_long_ago_or_in_the_future_is_refused(job, seconds):
    answer = deliver(job, at=datetime.now(UTC) + timedelta(seconds=seconds))

    assert said(answer) == (401, "invalid_signature", "Webhook timestamp is more than 300 seconds away from the server's clock.")
    assert not Delivery.objects.exists()


def test_another_teams_secret_opens_nothing(job):
    make_job(prediction_id="a" * 26)
    Credential.objects.exclude(pk=job.credential.pk).update(signing_keys=OTHER_SECRET)

    answer = deliver(job, secret=OTHER_SECRET)

    assert said(answer) == (401, "invalid_signature", "Invalid webhook signature")
    assert (answer["WWW-Authenticate"], Delivery.objects.count()) == ("Bearer", 0)
    line = AuditLine.objects.get(event_type="webhook.rejected")
    assert (line.team, line.target_id, line.after) == (job.team, job.job_id, {"address": "127.0.0.1"})


def test_a_changed_body_is_refused(job):
    body = body_of("processing")

    assert deliver(job, body_of("succeeded"), headers=signed(body)).status_code == 401


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_told(job, missing):
    headers = signed(body_of())
    del headers[missing]

    answer = deliver(job, headers=headers)

    assert said(answer) == (401, "invalid_signature", "Webhook signature required but not provided.")
    assert not Delivery.objects.exists()


def test_without_a_secret_nothing_is_believed(job):
    Credential.objects.update(signing_keys="")

    answer = deliver(job)

    assert said(answer) == (401, "invalid_signature", "Webhook signature verification failed: no signing secret configured.")


def test_a_changed_secret_is_fetched_anew_at_most_once_a_minute(db, settings, account):
    settings.REPLICATE_BASE_URL = account.sandbox.url
    theirs = account.http.get("/v1/webhooks/default/secret").json()["key"]
    job = make_job()
    Credential.objects.update(secret=account.token, signing_keys_fetched_at=timezone.now() - timedelta(seconds=30))

    too_soon = deliver(job, secret=theirs)
    Credential.objects.update(signing_keys_fetched_at=timezone.now() - timedelta(seconds=61))
    fetched = deliver(job, secret=theirs)
    former = deliver(job, body_of("failed"), secret=SECRET, webhook_id="msg_2")

    assert [answer.status_code for answer in (too_soon, fetched, former)] == [401, 200, 200]
    assert Credential.objects.get().signing_keys.split() == [theirs, SECRET]


def test_a_hand_test_proves_that_the_address_is_reachable_and_says_what_is_missing(job):
    answer = Client().post(PATH, "{}", content_type="application/x-www-form-urlencoded")

    assert said(answer) == (401, "invalid_signature", "Webhook signature required but not provided.")
    assert "webhook-id, webhook-timestamp and webhook-signature" in answer.json()["hint"]


def test_a_hand_test_is_refused_by_a_new_installation_too(db):
    assert Client().post(PATH, "{}", content_type="application/json").status_code == 401


def test_a_hand_test_is_ignored_where_signatures_are_switched_off(job):
    ProviderSettings.objects.create(team=job.team, webhook_require_signature=False)

    answer = Client().post(PATH, "{}", content_type="application/json")

    assert (answer.status_code, answer.json()) == (200, {"status": "ignored", "reason": "no job_id"})


@pytest.mark.parametrize(
    "query",
    ["?job=j-aaaaaaaaaa&callback=x", "?job={id}", "?job={id}&callback=", "?job={id}&callback=wrong", "?job={id}&callback=%FF", "?job=%00"],
)
def test_a_job_that_is_not_known_by_its_key_is_not_found_and_nothing_is_kept(job, query):
    answer = deliver(job, to=PATH + query.format(id=job.job_id))

    assert said(answer) == (404, "job_not_found", "No job of this installation belongs to this delivery.")
    assert not Delivery.objects.exists()


@pytest.mark.parametrize("named", ["z" * 26, "a\0b", "\ud800", "x" * 5000, 5, ["k"]])
def test_an_unknown_prediction_is_not_found(job, named):
    assert deliver(job, body_of(id=named), to=PATH).status_code == 404


def test_a_prediction_that_is_not_the_jobs_changes_nothing(job):
    deliver(job, body_of(id="z" * 26))

    applying.apply_unapplied()

    assert (Job.objects.get().state, logs.read(job)) == ("queued", "")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "Invalid JSON payload"),
        (b"{", "Invalid JSON payload"),
        (b"\xff", "Invalid JSON payload"),
        (b"[" * 100_000, "Invalid JSON payload"),
        (b"[1]", "Invalid webhook payload: it is not an object."),
    ],
)
def test_a_body_that_is_no_object_is_refused(job, body, sentence):
    assert said(deliver(job, body, headers={"webhook-id": "msg_1"})) == (400, "invalid_payload", sentence)


def test_a_body_without_an_id_is_refused_once_it_is_proven(job):
    body = json.dumps({"status": "succeeded"}).encode()

    answer = deliver(job, body)

    assert said(answer) == (400, "invalid_payload", "Invalid webhook payload: A prediction has an id.")
    assert not Delivery.objects.exists()


def test_a_body_that_is_too_large_is_refused_and_the_provider_asked_instead(job, monkeypatch):
    asked = []
    monkeypatch.setattr(job_tasks.poll_job, "delay", lambda *, job_pk: asked.append(job_pk))
    monkeypatch.setattr(views, "LARGEST_BODY_BYTES", 1000)
    large = b'{"id": "' + b"x" * 1000 + b'"}'

    answers = [deliver(job, large, headers={}), deliver(job, large, headers={}, to=f"{PATH}?job={job.job_id}&callback=guess")]
    at_the_limit = deliver(job, body_of(logs="").ljust(1000))

    assert [said(answer)[:2] for answer in answers] == [(413, "upload_too_large")] * 2
    assert (asked, at_the_limit.status_code) == ([job.pk], 200)


def test_32_mib_are_let_in(job):
    assert views.LARGEST_BODY_BYTES == 32 * 1024 * 1024


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_only_post_delivers(job, method):
    answer = getattr(Client(), method)(address_of(job))

    assert (answer.status_code, answer["Allow"], answer.json()["code"]) == (405, "POST", "method_not_allowed")


# --- Unsigned ---------------------------------------------------------------------------------------------


def test_unsigned_deliveries_are_taken_where_the_team_switched_signatures_off(job):
    ProviderSettings.objects.create(team=job.team, webhook_require_signature=False)

    first, again = deliver(job, headers={}), deliver(job, headers={})

    assert (first.json()["status"], again.json()["reason"]) == ("received", "duplicate")


def test_a_wrong_signature_is_never_taken(job):
    ProviderSettings.objects.create(team=job.team, webhook_require_signature=False)

    assert deliver(job, secret=OTHER_SECRET).status_code == 401


# --- Addresses --------------------------------------------------------------------------------------------


def allow(job, *networks):
    ProviderSettings.objects.create(team=job.team, webhook_allowed_ips=list(networks))


def from_address(job, address, **headers):
    body = body_of()
    return Client().post(address_of(job), body, content_type="application/json", headers=signed(body) | headers, REMOTE_ADDR=address)


@pytest.mark.parametrize(("address", "status"), [("34.82.1.1", 200), ("34.83.0.0", 403), ("127.0.0.1", 403), ("::ffff:34.82.1.1", 200)])
def test_a_team_may_name_the_addresses_that_deliver(job, address, status):
    allow(job, "34.82.0.0/16", "35.185.0.0/16")

    answer = from_address(job, address)

    assert answer.status_code == status
    if status == 403:
        assert said(answer) == (403, "ip_not_allowed", "IP address not in allowlist")
        assert AuditLine.objects.get(event_type="webhook.rejected").after == {"address": address}


FORGED = [
    "34.82.1.1", "34.82.1.1, 10.0.0.1", "10.0.0.1, 34.82.1.1", " 34.82.1.1 ", "34.82.1.1:443", "[::ffff:34.82.1.1]", "::ffff:34.82.1.1",
    "for=34.82.1.1", '"34.82.1.1"', "127.0.0.1, 34.82.1.1", ",34.82.1.1", "34.82.1.1,", "unknown, 34.82.1.1", "34.82.1.1\t",
]  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_a_forged_header_of_a_stranger_opens_nothing(job, header, forged):
    allow(job, "34.82.0.0/16")

    assert from_address(job, "203.0.113.7", **{header: forged}).status_code == 403


def test_our_own_proxy_is_believed_about_its_client_only(job, settings):
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    allow(job, "34.82.0.0/16")

    honest = from_address(job, "10.0.0.1", **{"X-Forwarded-For": "203.0.113.7, 34.82.1.1"})
    forged = from_address(job, "10.0.0.1", **{"X-Forwarded-For": "34.82.1.1, 203.0.113.7"})

    assert (honest.status_code, forged.status_code) == (200, 403)
