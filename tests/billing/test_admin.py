from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditLine
from billing.models import Hold, LimitAction, LimitPeriodKind, LimitScope, PriceLine, SpendAlert, SpendLimit, TopUp
from tests.billing.factories import NOW, USD, PriceLineFactory, SpendLimitFactory, hold, settle
from tests.factories import TeamFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client):
    user = UserFactory(is_staff=True, is_superuser=True)
    client.force_login(user)
    return client


@pytest.fixture
def rows():
    """A row of every model, and the text that its page shows."""
    limit = SpendLimitFactory()
    held = hold(limit.team, 30).hold
    settle(held, 26.5)
    period = limit.periods.get()
    return {
        "priceline": (held.price_line, "gpu-test"),
        "spendlimit": (limit, "50.00"),
        "limitperiod": (period, "$26.50"),
        "hold": (held, "$26.50"),
        "ledgerline": (held.lines.get(kind="charge"), "26.500000"),
        "spendalert": (SpendAlert.objects.get(), "50"),
        "topup": (TopUp.objects.create(period=period, amount=7 * USD, reason="one more run"), "$7.00"),
    }


@pytest.mark.parametrize("model", ["priceline", "spendlimit", "limitperiod", "hold", "ledgerline", "spendalert", "topup"])
def test_every_row_of_money_can_be_searched_and_opened(staff, rows, model):
    row, text = rows[model]

    listed = staff.get(reverse(f"admin:billing_{model}_changelist"), {"q": "e"})
    opened = staff.get(reverse(f"admin:billing_{model}_change", args=[row.pk]))

    assert (listed.status_code, opened.status_code) == (200, 200)
    assert text in listed.content.decode()


@pytest.mark.parametrize("model", ["limitperiod", "hold", "ledgerline", "spendalert", "topup"])
def test_what_services_write_cannot_be_changed_by_hand(staff, rows, model):
    row, _ = rows[model]

    answers = [
        staff.post(reverse(f"admin:billing_{model}_change", args=[row.pk]), {}),
        staff.post(reverse(f"admin:billing_{model}_delete", args=[row.pk]), {"post": "yes"}),
        staff.post(reverse(f"admin:billing_{model}_add"), {}),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]


@pytest.mark.parametrize("model", ["spendlimit", "limitperiod", "hold", "ledgerline", "spendalert"])
def test_a_list_costs_the_same_queries_with_one_row_and_with_three(staff, model, django_assert_num_queries):
    url = reverse(f"admin:billing_{model}_changelist")
    hold(SpendLimitFactory().team, 30)
    staff.get(url)
    with CaptureQueriesContext(connection) as one:
        staff.get(url)
    for _ in range(2):
        hold(SpendLimitFactory().team, 30)

    with django_assert_num_queries(len(one)):
        staff.get(url)


def test_a_limit_is_made_in_dollars(staff):
    team = TeamFactory()

    answer = staff.post(
        reverse("admin:billing_spendlimit_add"),
        {"scope": "team", "team": team.pk, "name": "runs", "amount_usd": "12.5", "period": "weekly", "action": "warn", "is_enabled": "on"},
    )

    assert answer.status_code == 302
    limit = SpendLimit.objects.get()
    assert (limit.team, limit.amount, limit.period, limit.action) == (team, 12_500_000, LimitPeriodKind.WEEKLY, LimitAction.WARN)
    assert AuditLine.objects.get().after["amount_usd"] == "12.5"


def test_a_limit_names_what_its_scope_calls_for(staff):
    fields = {"name": "runs", "amount_usd": "12.5", "period": "weekly", "action": "warn", "is_enabled": "on"}

    answer = staff.post(reverse("admin:billing_spendlimit_add"), {"scope": LimitScope.TEAM, **fields})

    assert "Name the team, and the person or token" in answer.content.decode()
    assert SpendLimit.objects.count() == 0


def test_a_limit_is_raised_in_dollars_and_keeps_its_scope_and_period(staff):
    limit = SpendLimitFactory()
    fields = {"name": limit.name, "amount_usd": "75", "action": "block", "is_enabled": "on", "period": "daily", "scope": "platform"}

    staff.post(reverse("admin:billing_spendlimit_change", args=[limit.pk]), fields)

    limit.refresh_from_db()
    assert (limit.amount, limit.period, limit.scope) == (75 * USD, "monthly", "team")


def price(line, usd_per_second):
    return {
        "hardware": line.hardware,
        "name": line.name,
        "gpu_count": 1,
        "usd_per_second": usd_per_second,
        "billed_time": "active",
        "effective_from_0": f"{line.effective_from:%Y-%m-%d}",
        "effective_from_1": "00:00:00",
        "source": "a contract",
    }


def test_a_price_line_that_money_was_held_by_is_read_only(staff):
    used, unused = PriceLineFactory(), PriceLineFactory(hardware="gpu-next")
    hold(TeamFactory(), 4, price_line=used)

    answers = [staff.post(reverse("admin:billing_priceline_change", args=[line.pk]), price(line, "0.5")) for line in (used, unused)]

    assert [answer.status_code for answer in answers] == [403, 302]
    assert list(PriceLine.objects.filter(pk__in=[used.pk, unused.pk]).order_by("pk").values_list("usd_per_second", flat=True)) == [
        Decimal("0.000975"),
        Decimal("0.5"),
    ]


def test_a_new_price_is_a_new_line_with_a_later_date(staff):
    old = PriceLineFactory()
    hold(TeamFactory(), 4, price_line=old)

    answer = staff.post(reverse("admin:billing_priceline_add"), {**price(old, "0.001"), "effective_from_0": "2026-12-01"})

    assert answer.status_code == 302
    new = PriceLine.objects.in_force(hardware=old.hardware, on=datetime(2026, 12, 1, tzinfo=UTC)).first()
    assert new.usd_per_second == Decimal("0.001")
    assert Hold.objects.get().price_line == old
    assert PriceLine.objects.in_force(hardware=old.hardware, on=NOW).first() == old


def test_staff_without_more_rights_look_and_change_nothing(client):
    client.force_login(UserFactory(is_staff=True))
    limit = SpendLimitFactory()

    assert client.get(reverse("admin:billing_spendlimit_changelist")).status_code == 200
    assert client.post(reverse("admin:billing_spendlimit_change", args=[limit.pk]), {}).status_code == 403
