"""Denied rights in the audit trail: of writes, by whoever is known, once a minute."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import audit, denials
from accounts.callers import Caller
from accounts.models import AuditLine
from accounts.roles import Role, Scope
from tests.factories import MembershipFactory, make_token

pytestmark = pytest.mark.django_db

CONSENT = "/api/cloud/data-consent/setting"
DENIED = "security.permission_denied"


@pytest.fixture
def viewer():
    return MembershipFactory(role=Role.VIEWER)


@pytest.fixture
def put(viewer):
    _, key = make_token(viewer, scopes=[Scope.READ])

    def send(path=CONSENT, key=key):
        headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "ci-1"}
        return Client().put(path, {}, content_type="application/json", headers=headers).status_code

    return send


def denied():
    return list(AuditLine.objects.filter(event_type=DENIED).order_by("sequence"))


def test_a_denied_write_leaves_a_line_in_the_teams_chain(put, viewer):
    assert put() == 403

    (line,) = denied()
    assert (line.team, line.actor, line.target_id, line.correlation_id) == (viewer.team, viewer.user.username, "admin.config", "ci-1")
    assert (line.action, line.address) == (f"Denied admin.config: PUT {CONSENT}", "127.0.0.1")
    assert line.token_prefix.startswith("th_")


def test_a_member_with_a_cookie_is_told_of_as_well(viewer):
    client = Client()
    client.force_login(viewer.user)

    assert client.put(CONSENT, {}, content_type="application/json").status_code == 403

    assert [(line.actor, line.token_prefix) for line in denied()] == [(viewer.user.username, "")]


def test_a_minute_has_one_line_for_each_caller_and_permission(put, viewer):
    _, other = make_token(viewer, scopes=[Scope.READ])
    with time_machine.travel(datetime(2026, 11, 25, 12, tzinfo=UTC), tick=False) as clock:
        put()
        clock.shift(59)
        put()
        assert len(denied()) == 1
        put("/api/cloud/providers/replicate")
        assert len(denied()) == 1
        Client().post("/api/cloud/jobs/sync", headers={"Authorization": f"Bearer {other}"})
        put(key=other)
        assert len(denied()) == 3

        clock.shift(2)
        put()

    assert [line.target_id for line in denied()] == ["admin.config", "job.submit", "admin.config", "admin.config"]


def test_reading_too_much_and_strangers_leave_no_line(viewer):
    _, key = make_token(viewer, scopes=[Scope.READ])

    assert Client().get("/api/audit", headers={"Authorization": f"Bearer {key}"}).status_code == 403
    assert Client().put(CONSENT, {}, content_type="application/json").status_code == 401

    assert denied() == []


@pytest.mark.django_db(transaction=True)
def test_many_at_once_leave_one_line():
    member = MembershipFactory(role=Role.VIEWER)
    caller = Caller(team=member.team, user=member.user, role=member.role, rights=member.rights, token=None, address="192.0.2.1")
    now = timezone.now() + timedelta(seconds=1)

    def note(_):
        try:
            return denials.note(caller, permission="admin.config", asked_for="PUT /", now=now)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(note, range(16))) == 1
    assert audit.verify(member.team).valid
