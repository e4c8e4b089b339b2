"""Deliveries as Replicate makes them, and the job that they are for."""

import json
from datetime import UTC, datetime

from django.utils import timezone
from standardwebhooks import Webhook

from accounts.models import Credential
from jobs.models import LaunchIntent
from jobs.states import State
from tests.jobs.factories import JobFactory, hold_for

PATH = "/api/webhooks/replicate"
SECRET = "whsec_c2ltcGxldHVuZXItc2FuZGJveC1rMDAx"
OTHER_SECRET = "whsec_YW5vdGhlciB0ZWFtJ3Mgb3duIHNlY3JldC4u"
ID = "k3m8v0b5t1rgm0cqy7nsd2w4ez"
LOG = "Step 1/2\nStep 2/2\n"


def make_job(**fields):
    """A job at the provider whose account's secret we hold."""
    job = JobFactory(**({"state": State.QUEUED, "prediction_id": ID, "started_at": None} | fields))
    hold_for(job, micros=3_568_500)
    LaunchIntent.objects.create(job=job, version="v", first_call_at=timezone.now(), called_at=timezone.now(), is_settled=True)
    Credential.objects.filter(pk=job.credential.pk).update(signing_keys=SECRET, signing_keys_fetched_at=timezone.now())
    return job


def body_of(status="succeeded", **fields):
    said = {"id": ID, "status": status, "logs": LOG, "output": None, "error": None, "metrics": {"predict_time": 100.5}}
    said |= {"input": {"prompt": "pLaNtEd prompt", "hf_token": "hf_pLaNtEdpLaNtEd"}}
    return json.dumps(said | fields).encode()


def signed(body, *, secret=SECRET, webhook_id="msg_1", at=None):
    at = at or datetime.now(UTC)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, at, body.decode()),
    }


def address_of(job, path=PATH):
    return f"{path}?job={job.job_id}&callback={job.callback_key}"
