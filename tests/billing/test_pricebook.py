import importlib
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

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


# Source: replicate-api.md 8.5, line by line: what Replicate lists, GPUs, US dollars a second and, where they are told, an hour.
LISTED = [
    ("gpu-h100", 1, "0.001525", "5.49"),
    ("gpu-h100-2x", 2, "0.003050", "10.98"),
    ("gpu-h100-4x", 4, "0.006100", "21.96"),
    ("gpu-h100-8x", 8, "0.012200", "43.92"),
    ("gpu-l40s", 1, "0.000975", "3.51"),
    ("gpu-l40s-2x", 2, "0.001950", "7.02"),
    ("gpu-l40s-4x", 4, "0.003900", "14.04"),
    ("gpu-l40s-8x", 8, "0.007800", "28.08"),
    ("cpu", 0, "0.000100", None),
    ("cpu-small", 0, "0.000025", None),
    ("gpu-t4", 1, "0.000225", None),
    ("gpu-a100-large", 1, "0.001400", None),
    ("gpu-a100-large-2x", 2, "0.002800", None),
    ("gpu-a100-large-4x", 4, "0.005600", None),
    ("gpu-a100-large-8x", 8, "0.011200", None),
    ("gpu-a40-small", 1, "0.000575", None),
    ("gpu-a40-large", 1, "0.000725", None),
]


@pytest.mark.parametrize(("hardware", "gpu_count", "usd_per_second", "usd_per_hour"), LISTED)
def test_the_price_book_ships_with_what_replicate_lists(hardware, gpu_count, usd_per_second, usd_per_hour):
    line = pricebook.line_for(hardware=hardware, on=NOW)

    assert (line.gpu_count, line.usd_per_second, line.billed_time) == (gpu_count, Decimal(usd_per_second), "active")
    assert usd_per_hour is None or line.usd_per_hour == Decimal(usd_per_hour)
    assert "Replicate's pricing page" in line.source


def test_the_price_book_ships_with_nothing_else():
    assert set(PriceLine.objects.values_list("hardware", flat=True)) == {hardware for hardware, *_ in LISTED}


def test_a_rate_has_nine_decimals():
    PriceLine.objects.create(hardware="gpu-fine", usd_per_second=Decimal("0.000972222"), effective_from=NOW)

    assert pricebook.line_for(hardware="gpu-fine", on=NOW).usd_per_second == Decimal("0.000972222")


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


@pytest.mark.parametrize(
    "field", [{"usd_per_second": Decimal(9)}, {"hardware": "cpu"}, {"effective_from": NOW}, {"billed_time": "instance"}]
)
def test_a_used_line_changes_by_no_way(field):
    used = pricebook.line_for(hardware="gpu-l40s", on=NOW)
    hold(TeamFactory(), 4, price_line=used)

    with pytest.raises(IntegrityError, match="Money was held by the price of gpu-l40s"), transaction.atomic():
        PriceLine.objects.filter(hardware__in=["gpu-l40s", "gpu-h100"]).update(**field)
    for name, value in field.items():
        setattr(used, name, value)
    with pytest.raises(IntegrityError), transaction.atomic():
        used.save()

    assert pricebook.line_for(hardware="gpu-l40s", on=NOW).usd_per_second == Decimal("0.000975")


def test_used_lines_are_deleted_by_no_way_and_unused_ones_may_be():
    hold(TeamFactory(), 4, price_line=pricebook.line_for(hardware="gpu-l40s", on=NOW))

    with pytest.raises(ProtectedError):
        PriceLine.objects.all().delete()
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_priceline")
    PriceLine.objects.exclude(hardware="gpu-l40s").delete()

    assert PriceLine.objects.get().hardware == "gpu-l40s"


def test_saving_a_used_line_as_it_is_is_no_change():
    used = pricebook.line_for(hardware="gpu-l40s", on=NOW)
    hold(TeamFactory(), 4, price_line=used)

    used.save()

    assert pricebook.is_frozen(used, now=NOW)


def test_what_is_to_come_is_told_and_not_in_force():
    PriceLine.objects.create(hardware="gpu-l40s", usd_per_second=Decimal("0.001"), effective_from=datetime(2027, 1, 1, tzinfo=UTC))

    assert [(line.hardware, line.usd_per_second) for line in pricebook.coming(after=NOW)] == [("gpu-l40s", Decimal("0.001"))]
    assert pricebook.in_force(on=NOW)["gpu-l40s"].usd_per_second == Decimal("0.000975")
