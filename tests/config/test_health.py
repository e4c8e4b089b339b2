"""How the product says that it fares: to strangers in a word, part by part to whoever is known, and on the admin's first page."""

from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.utils import timezone

from config import health
from jobs.models import Breaker
from jobs.states import State
from tests.factories import CredentialFactory, MembershipFactory, UserFactory, make_token
from tests.jobs.factories import JobFactory

pytestmark = pytest.mark.django_db
ADDRESSES = ("/api/cloud/health", "/health", "/health/")


def ask(client, member):
    _, key = make_token(member)
    return client.get("/api/cloud/health", headers={"X-API-Key": key}).json()


def parts(said):
    return {part["name"]: part["status"] for part in said["components"]}


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_stranger_hears_a_word(client, address):
    answer = client.get(address)

    assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})


def test_whoever_is_known_hears_of_every_part_and_of_no_other_teams_breakers(client):
    member = MembershipFactory()
    own, foreign = CredentialFactory(team=member.team), CredentialFactory()
    for credential in (own, foreign):
        Breaker.objects.create(credential=credential, address="https://api.replicate.com", state="open", opened_at=timezone.now())

    said = ask(client, member)

    assert parts(said) == {"database": "healthy", "queue": "healthy", f"circuit_breaker_replicate-{own.pk}": "unhealthy"}
    assert said["status"] == "degraded"
    assert {"version", "uptime_seconds", "timestamp"} <= said.keys()


def test_a_wrong_key_is_refused_though_none_is_needed(client):
    assert client.get("/api/cloud/health", headers={"X-API-Key": "th_wrong"}).status_code == 401


def test_work_that_waits_for_long_is_a_queue_that_does_not_fare_well(client):
    member, now = MembershipFactory(), timezone.now()
    job = JobFactory(state=State.UPLOADING, prediction_id=None, dispatched_at=now - timedelta(minutes=3))
    assert parts(ask(client, member))["queue"] == "degraded"

    job.leased_until = now + timedelta(minutes=1)
    job.save()

    assert parts(ask(client, member))["queue"] == "healthy"


def test_without_its_database_it_is_unhealthy_with_the_same_body(client, monkeypatch):
    def fail():
        raise DatabaseError

    monkeypatch.setattr(health.connection, "cursor", fail)

    answer = client.get("/health")

    assert (answer.status_code, answer.json()["status"], parts(answer.json())) == (503, "unhealthy", {"database": "unhealthy"})


def test_the_admin_shows_what_does_not_fare_well_and_where_breakers_are(client):
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    Breaker.objects.create(credential=CredentialFactory(), address="https://api.replicate.com", state="open", opened_at=timezone.now())

    page = client.get("/admin/").text

    assert ("circuit_breaker_replicate-" in page, "/admin/jobs/breaker/" in page) == (True, True)
