"""A limit that is changed while somebody spends against it: nobody waits for the other with something that the other needs."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from accounts.models import APIToken
from accounts.roles import Role
from billing import documented, token_limits
from billing.documented import CostLimit
from billing.models import LimitPeriod
from billing.token_limits import AtMost
from tests.billing.factories import USD, hold
from tests.factories import MembershipFactory, make_token
from tests.jobs.ready import caller_of

pytestmark = pytest.mark.django_db(transaction=True)


def documented_limit(member, token: APIToken, usd: int) -> None:
    documented.save(member.team, CostLimit(is_enabled=True, amount=usd * USD, period="monthly", action="block"))


def token_limit(member, token: APIToken, usd: int) -> None:
    token_limits.choose(caller_of(member), token, AtMost(amount=usd * USD, period="monthly"))


def hold_without_waiting(team, token: APIToken) -> None:
    """Hold money by a connection of its own, and give up where that waits for somebody, at the latest as it is committed."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        hold(team, 4, token=token)
    finally:
        connection.close()


@pytest.mark.parametrize("change", [documented_limit, token_limit])
def test_the_first_hold_of_a_period_does_not_wait_for_who_changes_the_limit(change):
    member = MembershipFactory(role=Role.OWNER)
    token, _ = make_token(member)
    change(member, token, 50)

    with ThreadPoolExecutor(1) as elsewhere, transaction.atomic():
        change(member, token, 60)
        elsewhere.submit(hold_without_waiting, member.team, token).result(timeout=60)

    assert LimitPeriod.objects.get().held == 4 * USD
