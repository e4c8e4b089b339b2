from contextlib import suppress
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.errors import Conflict, InvalidInput
from accounts.models import AuditLine
from billing import ledger, services, totals
from billing.models import LedgerHead, LimitAction, LimitPeriod, LimitPeriodKind, LimitScope, SpendLimit
from tests.billing.factories import NOW, USD, PriceLineFactory, SpendLimitFactory, hold, settle
from tests.factories import TeamFactory

pytestmark = pytest.mark.django_db

steps = st.one_of(
    st.tuples(st.just("hold"), st.integers(0, 12 * USD), st.booleans()),
    st.tuples(st.just("settle"), st.integers(0, 15 * USD), st.booleans()),
    st.tuples(st.just("adjust"), st.integers(-8 * USD, 8 * USD), st.booleans()),
    st.tuples(st.just("limit"), st.integers(0, 60 * USD), st.sampled_from(LimitAction.values)),
    st.tuples(st.just("days"), st.integers(1, 20), st.none()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lives=st.lists(steps, max_size=25))
def test_lines_sum_to_the_stored_totals_whatever_happens(lives):
    team, price_line, now, taken = TeamFactory(time_zone="Pacific/Auckland"), PriceLineFactory(), NOW, []
    limit = SpendLimitFactory(team=team, period=LimitPeriodKind.WEEKLY)
    SpendLimitFactory(team=team, period=LimitPeriodKind.MONTHLY, action=LimitAction.WARN)

    for step, number, choice in lives:
        if step == "hold":
            try:
                taken.append(hold(team, number / USD, is_rehearsal=choice, price_line=price_line, now=now).hold)
            except services.LimitReached:
                assert limit.is_blocking
        elif step == "settle" and taken:
            settle(taken[number % len(taken)], number / USD, flag="look" if choice else "", now=now)
        elif step == "adjust" and taken:
            with suppress(InvalidInput, Conflict):
                whose = {"team": team} if choice else {"hold": taken[number % len(taken)]}
                services.adjust(**whose, amount=number, reason="invoice", by=None, now=now)
        elif step == "limit":
            limit.amount, limit.action = number, choice
            limit.save()
        elif step == "days":
            now += timedelta(days=number)

        assert totals.differences() == []
    head = LedgerHead.objects.filter(team=team).first()
    assert ledger.totals(team) == (ledger.Totals(held=head.held, charged=head.charged) if head else ledger.Totals(0, 0))
    assert ledger.unbalanced_holds(team) == []
    assert ledger.verify(team).valid


def test_the_command_says_that_all_is_well(capsys):
    settle(hold(SpendLimitFactory().team, 4).hold, 1)

    call_command("rebuild_totals")

    assert capsys.readouterr().out == "All stored totals equal the sums over the ledger.\n"


def test_the_command_names_what_differs_and_repairs_it_when_told_to(capsys):
    limit = SpendLimitFactory()
    settle(hold(limit.team, 4).hold, 1)
    hold(limit.team, 2)
    LimitPeriod.objects.update(settled=3 * USD)
    LedgerHead.objects.update(held=0)

    with pytest.raises(CommandError, match="2 stored totals differ"):
        call_command("rebuild_totals")
    period = LimitPeriod.objects.get()
    assert capsys.readouterr().out.splitlines() == [
        f"Team {limit.team.slug}: held is stored as 0, the lines sum to 2000000 (-2000000)",
        f"Limit period {period.pk} ({period}): settled is stored as 3000000, the lines sum to 1000000 (+2000000)",
    ]

    call_command("rebuild_totals", write=True)
    assert totals.differences() == []
    assert (LimitPeriod.objects.get().settled, LedgerHead.objects.get().held) == (1 * USD, 2 * USD)
    line = AuditLine.objects.get(event_type="totals.rebuilt")
    assert (line.team, sorted(line.before.values()), sorted(line.after.values())) == (None, [0, 3 * USD], [1 * USD, 2 * USD])


def test_repairing_keeps_what_a_limit_was_overrun_by():
    limit = SpendLimitFactory(scope=LimitScope.PLATFORM, team=None)
    settle(hold(TeamFactory(), 50).hold, 55, flag="billed beyond the deadline")
    LimitPeriod.objects.update(settled=0, overrun=0)

    totals.rebuild()

    period = limit.periods.get()
    assert (period.settled, period.overrun) == (55 * USD, 5 * USD)
    assert SpendLimit.objects.get().amount == 50 * USD
