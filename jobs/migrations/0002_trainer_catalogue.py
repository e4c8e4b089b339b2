"""The trainers that SimpleTuner publishes on Replicate, as rows that an administrator may change.

Source: SimpleTuner's own list of Replicate profiles; the first is the model of its Replicate guide.
"""

from django.db import migrations

TRAINERS = [
    # profile, model, label, hardware, hardware type, GPUs
    ("advanced-trainer", "simpletuner/advanced-trainer", "1x L40S", "gpu-l40s", "L40S (48GB)", 1),
    ("l40s", "simpletuner/advanced-trainer-l40s", "1x L40S (own profile)", "gpu-l40s", "L40S (48GB)", 1),
    ("l40s-x2", "simpletuner/advanced-trainer-l40s-x2", "2x L40S", "gpu-l40s-2x", "L40S (48GB)", 2),
    ("l40s-x4", "simpletuner/advanced-trainer-l40s-x4", "4x L40S", "gpu-l40s-4x", "L40S (48GB)", 4),
    ("l40s-x8", "simpletuner/advanced-trainer-l40s-x8", "8x L40S", "gpu-l40s-8x", "L40S (48GB)", 8),
    ("h100", "simpletuner/advanced-trainer-h100", "1x H100", "gpu-h100", "H100 (80GB)", 1),
    ("h100-x2", "simpletuner/advanced-trainer-h100-x2", "2x H100", "gpu-h100-2x", "H100 (80GB)", 2),
    ("h100-x4", "simpletuner/advanced-trainer-h100-x4", "4x H100", "gpu-h100-4x", "H100 (80GB)", 4),
    ("h100-x8", "simpletuner/advanced-trainer-h100-x8", "8x H100", "gpu-h100-8x", "H100 (80GB)", 8),
]


def ship(apps, schema_editor):
    Trainer = apps.get_model("jobs", "Trainer")
    for profile, model, label, hardware, hardware_type, gpu_count in TRAINERS:
        Trainer.objects.get_or_create(
            profile=profile,
            defaults={
                "model": model,
                "label": label,
                "hardware": hardware,
                "hardware_type": hardware_type,
                "gpu_count": gpu_count,
                "is_default": profile == "advanced-trainer",
            },
        )


def take_back(apps, schema_editor):
    apps.get_model("jobs", "Trainer").objects.filter(profile__in=[row[0] for row in TRAINERS]).delete()


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]

    operations = [migrations.RunPython(ship, take_back)]
