"""A token's own spend limit: kept by every hold, by its whole line, and out of its own reach."""

import pytest
import time_machine
from django.utils import timezone

from accounts import tokens
from accounts.callers import Caller
from accounts.errors import NotPermitted
from accounts.models import APIToken, AuditLine
from billing import services as billing
from billing import token_limits
from billing.models import LimitPeriod, SpendLimit
from billing.token_limits import AtMost
from tests.billing.factories import PriceLineFactory
from tests.factories import MembershipFactory, make_token

pytestmark = pytest.mark.django_db

USD = 1_000_000


def caller_with(token):
    return Caller(team=token.team, user=token.made_by, role=token.role, rights=token.rights, token=token, address="192.0.2.1")


def person(membership):
    return Caller(team=membership.team, user=membership.user, role=membership.role, rights=membership.rights, token=None, address="")


@pytest.fixture(autouse=True)
def noon():
    """Periods are the calendar's, so no test may run over the end of a day."""
    with time_machine.travel(timezone.now().replace(hour=12, minute=0), tick=True):
        yield


@pytest.fixture
def owner():
    return MembershipFactory()


@pytest.fixture
def limited(owner):
    """A token that may spend 10 USD a month."""
    token, _ = token_limits.create(person(owner), name="ci", scopes=["read", "submit", "admin"], at_most=AtMost(10 * USD, "monthly"))
    return token


@pytest.fixture
def hold(limited):
    line, now = PriceLineFactory(), timezone.now()

    def take(usd, token=limited, reference=""):
        team = token.team if token else limited.team
        name = reference or f"job:l-{team.holds.count()}"
        return billing.hold(
            team=team,
            amount=int(usd * USD),
            reference=name,
            what_for="Training",
            price_line=line,
            user=limited.made_by,
            token=token,
            now=now,
        )

    return take


def left(token):
    return [status.left / USD for status in token_limits.standing([token], now=timezone.now())[token.pk]]


def test_a_token_is_refused_what_its_limit_does_not_leave(limited, hold):
    hold(8)

    with pytest.raises(billing.LimitReached) as refused:
        hold(3)

    assert "the token's monthly limit of $10.00 has $2.00 left ($0.00 used, $8.00 held)" in refused.value.detail
    assert [status["scope"] for status in refused.value.details["limits"] if status["binding"]] == ["token"]
    hold(3, token=None)
    assert left(limited) == [2]


def test_rotating_a_token_gives_it_no_new_money(limited, hold, owner):
    hold(4)
    second, _ = tokens.rotate(limited, by=owner.user)
    third, _ = tokens.rotate(second, by=owner.user)
    hold(4, token=third)

    for token in (limited, second, third):
        with pytest.raises(billing.LimitReached):
            hold(3, token=APIToken.objects.get(pk=token.pk))

    assert [left(token) for token in (limited, second, third)] == [[2]] * 3
    assert SpendLimit.objects.count() == 1


def test_a_token_that_a_limited_one_makes_spends_from_the_same_limit(limited, hold, owner):
    made, _ = tokens.create(team=limited.team, by=owner.user, name="more", scopes=["read"], caller=caller_with(limited))
    hold(8, token=made)

    with pytest.raises(billing.LimitReached):
        hold(3, token=limited)

    assert (made.origin, left(made)) == (limited, [2])


def test_a_limit_that_is_set_late_knows_what_was_spent_before(owner, hold):
    token, _ = make_token(owner)
    successor, _ = tokens.rotate(token, by=owner.user)
    hold(3, token=token)
    hold(2, token=successor)

    token_limits.choose(person(owner), successor, AtMost(6 * USD, "daily"))

    assert left(successor) == [1]
    with pytest.raises(billing.LimitReached):
        hold(2, token=successor)
    hold(1, token=successor)
    assert left(token) == [0]


def test_a_period_that_comes_back_still_knows_its_spending(limited, hold, owner):
    hold(1)
    token_limits.choose(person(owner), limited, AtMost(9 * USD, "daily"))
    hold(2)

    token_limits.choose(person(owner), limited, AtMost(10 * USD, "monthly"))

    assert left(limited) == [7]
    assert sorted(LimitPeriod.objects.values_list("limit__period", "held")) == [("daily", 3 * USD), ("monthly", 3 * USD)]


def test_the_same_limit_again_changes_nothing(limited, owner):
    before = AuditLine.objects.count()

    token_limits.choose(person(owner), limited, AtMost(10 * USD, "monthly"))

    assert AuditLine.objects.count() == before


def test_a_token_does_not_change_what_it_may_spend_itself(limited):
    with pytest.raises(NotPermitted):
        token_limits.choose(caller_with(limited), limited, None)

    assert left(limited) == [10]


def test_a_token_describes_itself_in_plain_values(limited, hold):
    hold(4)

    said = token_limits.describe(limited, now=timezone.now())

    assert (said["key_prefix"], said["team"], said["role"]) == (limited.key_prefix, limited.team.slug, "owner")
    assert said["scopes"] == ["read", "submit", "admin"]
    assert {"job.submit", "admin.users"} <= set(said["permissions"])
    assert "job.cancel.all" not in said["permissions"]
    assert [(row["scope"], row["left"], row["held_micros"]) for row in said["limits"]] == [("token", "6.000000", 4 * USD)]
    assert limited.secret_hash not in str(said)


def test_what_many_tokens_may_spend_is_asked_in_as_many_queries_as_for_one(owner, django_assert_num_queries):
    made = [
        token_limits.create(person(owner), name="ci", scopes=["read"], at_most=AtMost(USD, period))[0]
        for period in ("daily", "weekly", "monthly")
    ]

    for some in (made[:1], made):
        with django_assert_num_queries(3):
            token_limits.standing(some, now=timezone.now())
