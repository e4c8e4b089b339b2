"""Questions to an installation, answered from inside by its own code: `python -m tests.end_to_end.inside QUESTION …`."""

import json
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.apps import apps  # noqa: E402 (Django first)
from django.conf import settings  # noqa: E402

from accounts import audit  # noqa: E402
from accounts.models import AuditLine, Credential, Team  # noqa: E402
from billing import ledger  # noqa: E402
from billing.models import Hold, LedgerHead  # noqa: E402
from jobs.demo import running  # noqa: E402
from jobs.models import Job, ProviderStatus, StorageKey  # noqa: E402
from webhooks import replaying  # noqa: E402
from webhooks.models import Delivery  # noqa: E402


def secrets() -> dict[str, list[str]]:
    """What must stand in no log, by kind."""
    credentials = [credential for credential in Credential.objects.all() if credential.reveal()]  # some were removed, and wiped since
    return {
        # An S3 pair is two words, and the second is the secret.
        "provider token": [credential.reveal().rpartition(":")[2] for credential in credentials],
        "webhook secret": [key for credential in credentials for key in credential.signing_keys.split()],
        "storage key": [key.secret for key in StorageKey.objects.all()],
        "callback key": list(Job.objects.values_list("callback_key", flat=True)),
        "installation key": [settings.SECRET_KEY, *settings.ENCRYPTION_KEYS],
    }


def books() -> dict[str, Any]:
    """Whether every chain is whole, and what is still held."""
    teams = list(Team.objects.all())
    return {
        "ledgers": [ledger.verify(team).valid for team in teams],
        "audits": [audit.verify(team).valid for team in [*teams, None]],
        "unbalanced": [found for team in teams for found in ledger.unbalanced_holds(team)],
        "held": sum(LedgerHead.objects.values_list("held", flat=True)),
        "open": Hold.objects.open().count(),
    }


def proofs(job_id: str, path: str, sandbox: str, log: str) -> dict[str, bool]:
    """What the demo proves, of this job, this file and this log."""
    job = Job.objects.select_related("team", "hold", "price_line").get(job_id=job_id)
    checked = running.proofs(job, path=Path(path), sandbox=sandbox, logs=[Path(log)], secrets=["th_a-token-of-the-demo"])
    return {proof.what: proof.holds for proof in checked}


def replay() -> dict[str, Any]:
    """Apply the whole inbox again, and say which tables hold something else afterwards: but for the inbox itself, none should."""
    before = _contents()
    replayed = sum(replaying.replay(delivery) for delivery in Delivery.objects.select_related("job__team").order_by("pk").iterator())
    after = _contents()
    return {"replayed": replayed, "changed": [table for table, content in before.items() if after[table] != content]}


def _contents() -> dict[str, str]:
    """A hash of all rows of each table that tells of jobs and money."""
    models = {*apps.get_app_config("jobs").get_models(), *apps.get_app_config("billing").get_models(), AuditLine}
    models.remove(ProviderStatus)  # the provider's status page goes on being read
    return {model._meta.db_table: sha256(repr(list(model.objects.order_by("pk").values_list())).encode()).hexdigest() for model in models}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
