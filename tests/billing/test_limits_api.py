"""How limits stand, and topping one up, by API."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditLine
from accounts.roles import Role, Scope
from billing.models import LimitScope, TopUp
from tests.billing.factories import NOW, USD, SpendLimitFactory, hold
from tests.factories import MembershipFactory, make_token

pytestmark = pytest.mark.django_db
LIMITS = "/api/cloud/limits"


@pytest.fixture
def owner():
    return MembershipFactory()


@pytest.fixture
def limit(owner):
    return SpendLimitFactory(team=owner.team, name="runs")


def call(owner, path, body=None, *, scopes=None, **headers):
    _, key = make_token(owner, scopes=scopes)
    headers = {"Authorization": f"Bearer {key}", **headers}
    if body is None:
        return Client().get(path, headers=headers)
    return Client().post(path, body, content_type="application/json", headers=headers)


def test_limits_say_how_they_stand_and_add_up(owner, limit):
    token, _ = make_token(owner, name="nightly")
    SpendLimitFactory(team=owner.team, scope=LimitScope.PERSON, user=owner.user)
    SpendLimitFactory(team=owner.team, scope=LimitScope.TOKEN, token=token)
    SpendLimitFactory(team=owner.team, is_enabled=False)
    SpendLimitFactory()
    hold(owner.team, 26, now=timezone.now())
    call(owner, f"{LIMITS}/{limit.pk}/top-ups", {"amount": "20", "reason": "release week"})

    answer = call(owner, LIMITS)

    found = answer.json()["limits"]
    assert [(each["scope"], each["person"], each["token"]) for each in found] == [
        ("team", None, None),
        ("person", owner.user.username, None),
        ("token", None, token.key_prefix),
    ]
    first = found[0]
    assert (first["id"], first["limit"], first["top_up"], first["held"], first["left"]) == (
        limit.pk, "50.000000", "20.000000", "26.000000", "44.000000",
    )  # fmt: skip
    for each in found:
        assert each["limit_micros"] + each["top_up_micros"] == each["used_micros"] + each["held_micros"] + each["left_micros"]
    assert [(each["amount_micros"], each["reason"], each["made_by"]) for each in first["top_ups"]] == [
        (20 * USD, "release week", owner.user.username)
    ]
    assert [(each["threshold_percent"], each["total"], each["limit"], each["still_reached"]) for each in first["alerts"]] == [
        (50, "26.000000", "50.000000", False)
    ]


@pytest.mark.parametrize("amount", ["20", 20, 20.5, "0.000001", "1000000"])
def test_an_amount_may_be_text_or_a_number(owner, limit, amount):
    answer = call(owner, f"{LIMITS}/{limit.pk}/top-ups/", {"amount": amount, "reason": "release week"})

    said = answer.json()
    assert (answer.status_code, said["top_up"]["amount_micros"]) == (201, round(float(amount) * USD))
    assert said["limit"]["top_up_micros"] == TopUp.objects.get().amount
    assert AuditLine.objects.get(event_type="quota.topped_up").token_prefix != ""


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *(({"amount": amount}, "amount") for amount in (None, "", "much", "NaN", "1e999999", "0.0000001", 0, -1, True, [], "1000001")),
        *(({"reason": reason}, "reason") for reason in (None, "", "  ", "x" * 501, 5)),
        *(({"expires_at": moment}, "expires_at") for moment in ("soon", "2020-01-01", "2999-01-01", 5)),
        ({"idempotency_key": "x" * 101}, "idempotency_key"),
    ],
)
def test_what_is_wrong_is_named(owner, limit, fields, field):
    answer = call(owner, f"{LIMITS}/{limit.pk}/top-ups", {"amount": "20", "reason": "release week"} | fields)

    assert (answer.status_code, answer.json()["field"], TopUp.objects.count()) == (400, field, 0)


def test_a_repeat_with_the_same_key_answers_the_first(owner, limit):
    path, body = f"{LIMITS}/{limit.pk}/top-ups", {"amount": "20", "reason": "release week"}

    answers = [call(owner, path, body | {"idempotency_key": "a"}), call(owner, path, body, Idempotency_Key="a".upper())]
    answers += [call(owner, path, body, **{"Idempotency-Key": "a"})]

    ids = [answer.json()["top_up"]["id"] for answer in answers]
    assert (ids[0] == ids[2], ids[0] == ids[1], TopUp.objects.count()) == (True, False, 2)


def test_top_ups_are_listed_with_those_that_expired(owner, limit, time_machine):
    time_machine.move_to(NOW)  # not in the last hour of a month
    path = f"{LIMITS}/{limit.pk}/top-ups"
    soon = (timezone.now() + timedelta(hours=1)).isoformat()
    call(owner, path, {"amount": "20", "reason": "an hour", "expires_at": soon})
    TopUp.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    call(owner, path, {"amount": "5", "reason": "the period"})

    found = call(owner, path).json()["top_ups"]

    assert [(each["reason"], each["in_force"]) for each in found] == [("an hour", False), ("the period", True)]
    assert call(owner, LIMITS).json()["limits"][0]["top_up"] == "5.000000"


def test_another_teams_limit_does_not_exist(owner):
    foreign = SpendLimitFactory()
    platform = SpendLimitFactory(scope=LimitScope.PLATFORM, team=None)

    answers = [
        call(owner, f"{LIMITS}/{each.pk}/top-ups", body) for each in (foreign, platform) for body in (None, {"amount": "1", "reason": "x"})
    ]

    assert [answer.status_code for answer in answers] == [404] * 4


@pytest.mark.parametrize(
    ("role", "scopes", "statuses"),
    [
        (Role.OWNER, [Scope.BILLING], (200, 403)),
        (Role.OWNER, [Scope.ADMIN], (403, 201)),
        (Role.LEAD, None, (200, 403)),
        (Role.RESEARCHER, None, (403, 403)),
    ],
)
def test_who_sees_spending_looks_and_who_manages_tops_up(owner, limit, role, scopes, statuses):
    member = MembershipFactory(team=owner.team, role=role)

    looked = call(member, LIMITS, scopes=scopes)
    topped = call(member, f"{LIMITS}/{limit.pk}/top-ups", {"amount": "1", "reason": "x"}, scopes=scopes)

    assert (looked.status_code, topped.status_code) == statuses
