"""What the settings make of the environment, each read by a process of its own."""

import json
import os
import subprocess
import sys

import pytest

ASK = "import json; from django.conf import settings as s; print(json.dumps([s.ALLOWED_HOSTS, s.CSRF_TRUSTED_ORIGINS]))"


def read(code, **environment):
    asked = {"DJANGO_SETTINGS_MODULE": "config.settings", **environment}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEHOUSE_", "DATABASE_", "CELERY_"))}
    return subprocess.run([sys.executable, "-c", code], env={**kept, **asked}, capture_output=True, text=True, check=False)


def test_naming_the_public_address_is_enough_for_it_to_be_answered(tmp_path):
    told = read(ASK, TUNEHOUSE_DATA=str(tmp_path), TUNEHOUSE_PUBLIC_URL="https://tune.example.com:8443/")

    hosts, origins = json.loads(told.stdout)
    assert hosts == ["localhost", "127.0.0.1", "[::1]", "tune.example.com"]
    assert origins == ["https://tune.example.com:8443"]


def test_tokens_are_taken_out_of_the_environment(tmp_path):
    code = "import os; from django.conf import settings as s; print(s.REPLICATE_API_TOKEN, s.HF_TOKEN, sorted(os.environ))"

    told = read(code, TUNEHOUSE_DATA=str(tmp_path), REPLICATE_API_TOKEN="r8_one", HF_TOKEN="hf_two")

    assert told.stdout.startswith("r8_one hf_two [")
    assert "REPLICATE_API_TOKEN" not in told.stdout
    assert "HF_TOKEN" not in told.stdout


@pytest.mark.parametrize("missing", ["SECRET_KEY", "TUNEHOUSE_ENCRYPTION_KEYS", "DATABASE_URL", "CELERY_BROKER_URL"])
def test_production_refuses_to_start_without_what_it_needs(tmp_path, missing):
    needed = {
        "SECRET_KEY": "s",
        "TUNEHOUSE_ENCRYPTION_KEYS": "k",
        "DATABASE_URL": "postgres://db.test/x",
        "CELERY_BROKER_URL": "redis://broker.test",
    }
    complete = read(ASK, TUNEHOUSE_DATA=str(tmp_path), TUNEHOUSE_PRODUCTION="1", **needed)

    refused = read(ASK, TUNEHOUSE_DATA=str(tmp_path), TUNEHOUSE_PRODUCTION="1", **{k: v for k, v in needed.items() if k != missing})

    assert complete.returncode == 0
    assert refused.returncode != 0
    assert missing in refused.stderr
    assert not (tmp_path / "secret_key").exists()
