from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
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


@pytest.mark.parametrize("model", ["limitperiod", "hold", "ledgerline", "spendalert"])
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
    assert AuditLine.objects.get(event_type="spend_limit.created").after["amount_usd"] == "12.5"


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


@time_machine.travel(NOW, tick=False)
def test_a_price_that_is_in_force_is_read_only_and_one_to_come_is_not(staff):
    now, later = PriceLineFactory(), PriceLineFactory(hardware="gpu-next", effective_from=NOW + timedelta(days=1))

    answers = [staff.post(reverse("admin:billing_priceline_change", args=[line.pk]), price(line, "0.5")) for line in (now, later)]

    assert [answer.status_code for answer in answers] == [403, 302]
    assert list(PriceLine.objects.filter(pk__in=[now.pk, later.pk]).order_by("pk").values_list("usd_per_second", flat=True)) == [
        Decimal("0.000975"),
        Decimal("0.5"),
    ]
    assert AuditLine.objects.get(event_type="price_line.updated").after["usd_per_second"] == "0.5"


@time_machine.travel(NOW, tick=False)
def test_the_list_of_prices_offers_nothing_that_changes_or_deletes_many_at_once(staff):
    line = PriceLineFactory()
    listed = reverse("admin:billing_priceline_changelist")

    staff.post(listed, {"action": "delete_selected", "_selected_action": [line.pk], "post": "yes"})
    staff.post(listed, {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": line.pk, "form-0-usd_per_second": "9"})

    assert PriceLine.objects.get(pk=line.pk).usd_per_second == Decimal("0.000975")


@time_machine.travel(NOW, tick=False)
@pytest.mark.parametrize(("day", "clock", "status"), [("2026-11-22", "00:00:00", 200), ("2026-11-23", "11:59:59", 200), ("", "", 302)])
def test_a_price_for_the_past_is_refused_and_one_without_a_time_begins_now(staff, day, clock, status):
    old = PriceLineFactory()

    answer = staff.post(reverse("admin:billing_priceline_add"), {**price(old, "0.001"), "effective_from_0": day, "effective_from_1": clock})

    assert answer.status_code == status
    assert ("would change what gpu-test cost in the past" in answer.content.decode()) == (status == 200)
    begins = [line.effective_from for line in PriceLine.objects.filter(hardware="gpu-test").exclude(pk=old.pk)]
    assert begins == ([] if status == 200 else [NOW])


@time_machine.travel(NOW, tick=False)
def test_hardware_without_any_price_may_get_one_of_the_past(staff):
    unknown = PriceLine(hardware="gpu-b200", name="B200", effective_from=NOW - timedelta(days=30))

    answer = staff.post(reverse("admin:billing_priceline_add"), price(unknown, "0.002"))

    assert answer.status_code == 302
    assert AuditLine.objects.filter(event_type="price_line.created").exists()


@time_machine.travel(NOW, tick=False)
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


def test_a_platform_limit_is_changed_in_dollars_and_counts_from_the_next_hold_on(staff):
    limit, team = SpendLimitFactory(scope=LimitScope.PLATFORM, team=None, name="all"), TeamFactory()
    hold(team, 48)

    staff.post(
        reverse("admin:billing_spendlimit_change", args=[limit.pk]),
        {"name": "all", "amount_usd": "60", "action": "block", "is_enabled": "on"},
    )
    hold(team, 12)

    line = AuditLine.objects.get(event_type="spend_limit.updated")
    assert (line.team, line.before["amount_usd"], line.after["amount_usd"]) == (None, "50.000000", "60")
    assert (limit.periods.get().ceiling, limit.periods.get().left) == (60 * USD, 0)


def test_the_platforms_limit_is_topped_up_and_audited(staff):
    limit, of_a_team = SpendLimitFactory(scope=LimitScope.PLATFORM, team=None), SpendLimitFactory()
    asked = {"limit": limit.pk, "amount_usd": "20.5", "reason": "launch", "expires_at_0": "", "expires_at_1": ""}

    page = staff.get(reverse("admin:billing_topup_add"))
    staff.post(reverse("admin:billing_topup_add"), asked | {"limit": of_a_team.pk})
    answer = staff.post(reverse("admin:billing_topup_add"), asked)

    assert (page.status_code, answer.status_code) == (200, 302)
    made = TopUp.objects.get()
    assert (made.period.limit, made.amount, made.reason) == (limit, 20_500_000, "launch")
    assert AuditLine.objects.get(event_type="quota.topped_up").team is None
    assert staff.post(reverse("admin:billing_topup_change", args=[made.pk]), {"reason": "x"}).status_code == 403


def test_a_top_up_that_is_refused_says_why(staff):
    limit = SpendLimitFactory(scope=LimitScope.PLATFORM, team=None)
    asked = {"limit": limit.pk, "amount_usd": "20.5", "reason": "launch", "expires_at_0": "2020-01-01", "expires_at_1": "00:00"}

    answer = staff.post(reverse("admin:billing_topup_add"), asked, follow=True)

    assert [str(message)[:36] for message in answer.context["messages"]] == ["A top-up must expire in the future. "]
    assert TopUp.objects.count() == 0


def test_staff_send_a_trial_of_the_platforms_alerts(staff):
    limit = SpendLimitFactory(scope=LimitScope.PLATFORM, team=None)

    answer = staff.post(
        reverse("admin:billing_spendlimit_changelist"), {"action": "try_alert", "_selected_action": [limit.pk]}, follow=True
    )

    assert [str(message) for message in answer.context["messages"]] == ["A trial alert is on its way to 1 person."]
    assert AuditLine.objects.get(event_type="spend_alert.tried").team is None
