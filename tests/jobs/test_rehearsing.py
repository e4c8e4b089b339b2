"""Rehearsals: jobs on our own sandbox beside Replicate. They cost nothing, count nowhere, and no real token goes there."""

import pytest
from django.urls import reverse

from accounts.models import Credential, CredentialHealth
from billing.models import Hold, LedgerLine, LimitPeriod
from jobs.models import Job, ProviderSettings
from jobs.services import launching, provider, retrying
from jobs.states import State
from tests.billing.factories import SpendLimitFactory
from tests.factories import CredentialFactory
from tests.jobs.ready import NAMED, SUBMIT
from tests.jobs.sandbox.servers import free_port

REHEARSAL = f"{SUBMIT}?provider=sandbox"
BODY = {"config_name_to_load": NAMED}


@pytest.fixture
def offered(ready, settings):
    """A team on an installation with a sandbox that nobody may call yet, beside a Replicate that nobody may call."""
    settings.SANDBOX_URL = f"http://127.0.0.1:{free_port()}"
    settings.SANDBOX_CALLBACK_URL = "http://127.0.0.1:9"
    settings.PUBLIC_URL = ""
    return ready


def test_a_rehearsal_is_admitted_where_a_limit_blocks_everything(offered, settings):
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    limit = SpendLimitFactory(team=offered.team, amount=0)

    refused, admitted = offered.post(BODY), offered.post(BODY, path=REHEARSAL)

    assert (refused.status_code, admitted.status_code) == (402, 200)
    job, hold = Job.objects.get(), Hold.objects.get()
    assert (job.provider, job.destination, job.packing_path) == ("sandbox", "local", "archive")
    assert hold.is_rehearsal
    assert list(LedgerLine.objects.values_list("kind", "is_rehearsal")) == [("hold", True)]
    assert list(LimitPeriod.objects.filter(limit=limit).exclude(held=0, settled=0)) == []


def test_it_says_that_it_is_one_in_the_api_and_in_the_list_of_providers(offered):
    job_id = offered.post(BODY, path=REHEARSAL).json()["job_id"]

    job = offered.get(f"/api/cloud/jobs/{job_id}").json()["job"]
    named = [entry["id"] for entry in offered.get("/api/cloud/providers").json()["providers"]]

    assert (job["provider"], job["is_rehearsal"]) == ("sandbox", True)
    assert named == ["replicate", "sandbox", "simpletuner_io"]


def test_a_team_needs_no_token_and_no_consent_for_it(offered):
    offered.credential.delete()
    ProviderSettings.objects.create(team=offered.team, data_consent="deny")

    assert offered.post(BODY, path=REHEARSAL).status_code == 200


def test_its_token_is_made_up_once_and_is_not_the_teams(offered):
    offered.post(BODY, path=REHEARSAL)
    offered.post(BODY, path=REHEARSAL)

    made = Credential.objects.get(kind="sandbox")
    assert (len(made.secret), made.secret[:3]) == (40, "r8_")
    assert made.secret != offered.credential.secret
    assert {job.credential for job in Job.objects.select_related("credential")} == {made}


def test_looking_at_the_price_makes_no_token(offered, client):
    client.force_login(offered.member.user)

    page = client.post(reverse("jobs:new", args=[offered.team.slug]), {"config_name": NAMED, "provider": "sandbox", "check": "1"})

    said = page.content.decode()
    assert "At Replicate it would cost at most" in said
    assert "Rehearse" in said
    assert not Credential.objects.filter(kind="sandbox").exists()


def test_the_page_submits_a_rehearsal_without_any_money(offered, client):
    SpendLimitFactory(team=offered.team, amount=0)
    client.force_login(offered.member.user)
    asked = {"config_name": NAMED, "provider": "sandbox", "key": "form-1", "agreed": 10_000_000}

    response = client.post(reverse("jobs:new", args=[offered.team.slug]), asked, follow=True)

    assert Job.objects.get().is_rehearsal
    said = response.content.decode()
    assert "The rehearsal begins. It costs nothing." in said
    assert "Would have cost" in said


@pytest.mark.parametrize("elsewhere", [{"destination": "s3"}, {"destination": "hub"}, {"hub_model_id": "acme/lora"}])
def test_what_it_leaves_goes_nowhere_else(offered, elsewhere):
    CredentialFactory(team=offered.team, kind="huggingface")

    answer = offered.post({**BODY, **elsewhere}, path=REHEARSAL)

    assert (answer.status_code, answer.json()["field"]) == (422, "destination")
    assert not Job.objects.exists()


@pytest.mark.parametrize("address", ["", "the same"])
def test_without_a_sandbox_beside_the_provider_there_are_no_rehearsals(ready, settings, client, address):
    settings.SANDBOX_URL = settings.REPLICATE_BASE_URL if address else ""
    client.force_login(ready.member.user)

    answer = ready.post(BODY, path=REHEARSAL)
    page = client.get(reverse("jobs:new", args=[ready.team.slug])).content.decode()

    assert (answer.status_code, answer.json()["field"]) == (404, "provider")
    assert "sandbox" not in [entry["id"] for entry in ready.get("/api/cloud/providers").json()["providers"]]
    assert 'name="provider"' not in page


def test_a_rehearsal_never_takes_the_teams_real_token(offered):
    job = Job.objects.get(job_id=offered.post(BODY, path=REHEARSAL).json()["job_id"])
    Credential.objects.filter(pk=job.credential_id).update(health=CredentialHealth.REFUSED)
    job.refresh_from_db()

    assert not provider.take_new_credential(job)

    job.refresh_from_db()
    assert job.credential.kind == "sandbox"


def test_tokens_go_only_where_they_belong(offered, settings):
    rehearsal = Credential(team=offered.team, kind="sandbox", secret="r8_" + "x" * 37)

    assert provider.address_of(rehearsal) == settings.SANDBOX_URL
    assert provider.address_of(offered.credential) == settings.REPLICATE_BASE_URL


def test_a_sandbox_that_is_away_is_waited_for(offered):
    job = Job.objects.get(job_id=offered.post(BODY, path=REHEARSAL).json()["job_id"])
    job.move_to(State.UPLOADING, cause="dispatch")

    launching.launch(job)

    job.refresh_from_db()
    assert (job.state, job.waiting_reason) == (State.UPLOADING, "provider_down")
    assert not hasattr(job, "intent")


def test_running_a_rehearsal_again_is_a_rehearsal(offered):
    first = Job.objects.get(job_id=offered.post(BODY, path=REHEARSAL).json()["job_id"])
    first.move_to(State.FAILED, cause="launch")

    again = retrying.retry(first, caller=offered.caller).job

    assert (again.provider, again.parent, again.hold.is_rehearsal) == ("sandbox", first, True)
