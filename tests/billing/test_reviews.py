"""Flagged charges: somebody says what is true, once, and it stays who, when and why."""

from decimal import Decimal

import pytest

from accounts.errors import InvalidInput
from accounts.models import AuditLine
from billing import ledger, reviews, totals
from billing.models import Hold, LedgerLine
from tests.billing.factories import NOW, USD, SpendLimitFactory, hold, settle
from tests.factories import TeamFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def limit():
    return SpendLimitFactory()


@pytest.fixture
def flagged(limit):
    """A run of which nobody knows what it cost: charged to the ceiling of $4.00."""
    held = hold(limit.team, 4).hold
    settle(held, 4, flag="unknown_at_provider")
    return held


def settle_as(held, **options):
    return reviews.settle_as(held, **{"reason": "invoice 2026-11, line 7", "by": None, "now": NOW, **options})


@pytest.mark.parametrize(
    ("said", "charge", "adjusted"),
    [
        ({"seconds": Decimal("600")}, 585_000, [-3_415_000]),
        ({"seconds": Decimal(0)}, 0, [-4 * USD]),
        ({"amount": 1_234_567}, 1_234_567, [-2_765_433]),
        ({"amount": 0}, 0, [-4 * USD]),
        ({"amount": 4 * USD}, 4 * USD, []),
        ({"amount": 5 * USD}, 5 * USD, [USD]),
    ],
)
def test_a_review_says_what_is_true(limit, flagged, said, charge, adjusted):
    staff = UserFactory(username="ada")

    settle_as(flagged, **said, by=staff)

    held = Hold.objects.get()
    assert (held.charge, held.billed_seconds) == (charge, said.get("seconds"))
    assert (held.flag, held.reviewed_at, held.reviewed_by, held.review) == ("unknown_at_provider", NOW, staff, "invoice 2026-11, line 7")
    assert (held.needs_a_look, Hold.objects.needing_a_look().count()) == (False, 0)
    assert list(LedgerLine.objects.filter(kind="adjust").values_list("amount", flat=True)) == adjusted
    assert LedgerLine.objects.get(kind="charge").amount == 4 * USD
    assert limit.periods.get().settled == charge
    assert (totals.differences(), ledger.unbalanced_holds(limit.team)) == ([], [])
    line = AuditLine.objects.get(event_type="hold.reviewed")
    assert (line.actor, line.before, line.after["charged"]) == ("ada", {"charged": 4 * USD}, charge)


def test_a_review_is_closed_once(flagged):
    settle_as(flagged, amount=USD)

    with pytest.raises(reviews.NothingToReview, match=r"looked at job:.* before: invoice 2026-11"):
        settle_as(flagged, amount=2 * USD)

    assert Hold.objects.get().charge == USD


@pytest.mark.parametrize(
    "said", [{}, {"seconds": Decimal(1), "amount": 1}, {"seconds": Decimal(-1)}, {"amount": -1}, {"amount": 1, "reason": " "}]
)
def test_a_review_that_says_nothing_true_changes_nothing(flagged, said):
    with pytest.raises(InvalidInput):
        settle_as(flagged, **said)

    assert Hold.objects.get().needs_a_look


def test_only_what_is_settled_and_flagged_is_reviewed():
    team = TeamFactory()
    waiting, plain = hold(team, 4).hold, hold(team, 4).hold
    settle(plain, 1)

    with pytest.raises(reviews.NothingToReview, match="not settled yet"):
        settle_as(waiting, amount=0)
    with pytest.raises(reviews.NothingToReview, match="not flagged; adjust it instead"):
        settle_as(plain, amount=0)
