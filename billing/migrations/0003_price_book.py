from datetime import UTC, datetime
from decimal import Decimal

from django.db import migrations

# Well before the first job of any installation. A later price is a new line with a later date.
EFFECTIVE_FROM = datetime(2025, 5, 1, tzinfo=UTC)

GENERAL = "Replicate's pricing page (replicate.com/pricing)"
COMMITTED = "Replicate's pricing page (replicate.com/pricing): with a committed-spend contract"
WITHDRAWN = "An older copy of Replicate's pricing page; no longer on the newest"

# hardware, name, GPUs, USD per second, source
PRICES = [
    ("cpu-small", "CPU (Small)", 0, "0.000025", GENERAL),
    ("cpu", "CPU", 0, "0.000100", GENERAL),
    ("gpu-t4", "Nvidia T4 GPU", 1, "0.000225", GENERAL),
    ("gpu-a40-small", "Nvidia A40 (Small) GPU", 1, "0.000575", WITHDRAWN),
    ("gpu-a40-large", "Nvidia A40 (Large) GPU", 1, "0.000725", WITHDRAWN),
    ("gpu-l40s", "Nvidia L40S GPU", 1, "0.000975", GENERAL),
    ("gpu-l40s-2x", "2x Nvidia L40S GPU", 2, "0.001950", GENERAL),
    ("gpu-l40s-4x", "4x Nvidia L40S GPU", 4, "0.003900", COMMITTED),
    ("gpu-l40s-8x", "8x Nvidia L40S GPU", 8, "0.007800", COMMITTED),
    ("gpu-a100-large", "Nvidia A100 (80GB) GPU", 1, "0.001400", GENERAL),
    ("gpu-a100-large-2x", "2x Nvidia A100 (80GB) GPU", 2, "0.002800", GENERAL),
    ("gpu-a100-large-4x", "4x Nvidia A100 (80GB) GPU", 4, "0.005600", GENERAL),
    ("gpu-a100-large-8x", "8x Nvidia A100 (80GB) GPU", 8, "0.011200", GENERAL),
    ("gpu-h100", "Nvidia H100 GPU", 1, "0.001525", GENERAL),
    ("gpu-h100-2x", "2x Nvidia H100 GPU", 2, "0.003050", COMMITTED),
    ("gpu-h100-4x", "4x Nvidia H100 GPU", 4, "0.006100", COMMITTED),
    ("gpu-h100-8x", "8x Nvidia H100 GPU", 8, "0.012200", COMMITTED),
]


def ship(apps, schema_editor):
    """A line that is there already stays as it is: somebody may have corrected it."""
    PriceLine = apps.get_model("billing", "PriceLine")
    for hardware, name, gpu_count, usd_per_second, source in PRICES:
        PriceLine.objects.get_or_create(
            hardware=hardware,
            effective_from=EFFECTIVE_FROM,
            defaults={"name": name, "gpu_count": gpu_count, "usd_per_second": Decimal(usd_per_second), "source": source},
        )


def withdraw(apps, schema_editor):
    """A line that a hold is pinned to stays: the money facts that name it do too."""
    PriceLine = apps.get_model("billing", "PriceLine")
    Hold = apps.get_model("billing", "Hold")
    shipped = PriceLine.objects.filter(effective_from=EFFECTIVE_FROM, hardware__in=[hardware for hardware, *_ in PRICES])
    shipped.exclude(pk__in=Hold.objects.values("price_line")).delete()


class Migration(migrations.Migration):
    dependencies = [("billing", "0002_ledger_is_append_only")]

    operations = [migrations.RunPython(ship, withdraw)]
