import importlib
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.apps import apps

from billing import pricebook
from billing.models import PriceLine
from tests.billing.factories import NOW, hold
from tests.factories import TeamFactory

pytestmark = pytest.mark.django_db
shipped = importlib.import_module("billing.migrations.0003_price_book")


@pytest.fixture(autouse=True)
def price_book():
    """As a new installation has it; tests with transactions of their own empty the tables."""
    shipped.ship(apps, None)


@pytest.mark.parametrize(
    ("hardware", "gpu_count", "usd_per_hour"),
    [
        ("gpu-l40s", 1, "3.51"),
        ("gpu-l40s-2x", 2, "7.02"),
        ("gpu-l40s-4x", 4, "14.04"),
        ("gpu-l40s-8x", 8, "28.08"),
        ("gpu-h100", 1, "5.49"),
        ("gpu-h100-2x", 2, "10.98"),
        ("gpu-h100-4x", 4, "21.96"),
        ("gpu-h100-8x", 8, "43.92"),
    ],
)
def test_the_price_book_ships_with_what_replicate_lists(hardware, gpu_count, usd_per_hour):
    line = pricebook.line_for(hardware=hardware, on=NOW)

    assert (line.gpu_count, line.usd_per_second * 3600) == (gpu_count, Decimal(usd_per_hour))
    assert line.source.startswith("Replicate's pricing page")


def test_a_price_holds_from_its_date_on():
    PriceLine.objects.create(hardware="gpu-l40s", usd_per_second=Decimal("0.001"), effective_from=datetime(2026, 12, 1, tzinfo=UTC))

    before = pricebook.line_for(hardware="gpu-l40s", on=datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
    after = pricebook.line_for(hardware="gpu-l40s", on=datetime(2026, 12, 1, tzinfo=UTC))

    assert (before.usd_per_second, after.usd_per_second) == (Decimal("0.000975"), Decimal("0.001"))


@pytest.mark.parametrize(("hardware", "on"), [("gpu-b200", NOW), ("", NOW), ("gpu-l40s", datetime(2020, 1, 1, tzinfo=UTC))])
def test_hardware_without_a_price_is_refused_and_never_guessed(hardware, on):
    with pytest.raises(pricebook.UnknownHardware, match=repr(hardware)) as refused:
        pricebook.line_for(hardware=hardware, on=on)

    assert (refused.value.status, refused.value.field) == (422, "hardware")


def test_shipping_the_price_book_again_changes_nothing():
    PriceLine.objects.filter(hardware="cpu").update(usd_per_second=Decimal("0.0002"))
    before = list(PriceLine.objects.values())

    shipped.ship(apps, None)

    assert list(PriceLine.objects.values()) == before


def test_withdrawing_the_price_book_leaves_the_lines_that_money_was_held_by():
    used = pricebook.line_for(hardware="gpu-l40s", on=NOW)
    own = PriceLine.objects.create(hardware="gpu-b200", usd_per_second=Decimal("0.002"), effective_from=NOW)
    hold(TeamFactory(), 4, price_line=used)

    shipped.withdraw(apps, None)

    assert set(PriceLine.objects.all()) == {used, own}
