"""The page on which a job is submitted: what it says a job costs, what it refuses and where, and what it needs before."""

import json
import re

import pytest
from django.urls import reverse

from accounts.models import AuditLine, Credential
from accounts.roles import Role
from billing.models import Hold
from jobs.models import Consent, Job, ProviderSettings
from jobs.services import consent
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory, make_member
from tests.jobs.ready import CONFIG, NAMED
from tests.pages import INLINE

# 20 steps likely take less than the shortest ceiling: half an hour, and the minute that cancelling takes.
WORST = round(1860 * 0.000975 * USD)


@pytest.fixture
def team(ready, client):
    client.force_login(ready.member.user)
    ProviderSettings.objects.create(team=ready.team, data_consent="allow")
    return ready.team


def address(team, query=""):
    return reverse("jobs:new", args=[team.slug]) + query


def page_of(client, team, query=""):
    response = client.get(address(team, query))
    assert response.status_code == 200
    return response.content.decode()


def send(client, team, **fields):
    return client.post(address(team), {"config_name": NAMED, "key": "form-1", "agreed": WORST, **fields})


def errors(response):
    return {field: [re.sub("<[^>]+>", "", text) for text in found] for field, found in response.context["form"].errors.items()}


# --- What it says ------------------------------------------------------------------------------------------------


def test_the_page_says_at_once_what_the_first_config_would_cost(client, team):
    SpendLimitFactory(team=team, amount=10 * USD)

    page = page_of(client, team)

    assert "At most <strong>" in page
    assert 'title="1.813500 USD">$1.81' in page
    assert "It takes $1.81 of the $10.00 that the team&#x27;s monthly limit has left. $8.19 are left after it" in page
    assert "Submit for at most $1.81" in page
    assert (Job.objects.count(), Hold.objects.count()) == (0, 0)


def test_a_check_answers_the_panel_alone_and_writes_nothing(client, team):
    asked = {"config_name": NAMED, "max_minutes": 60, "hardware_profile": "h100", "check": "1"}

    answer = client.post(address(team), asked, headers={"HX-Request": "true"}).content.decode()

    assert answer.strip().startswith("<aside")
    assert f'name="agreed" value="{round(3660 * 0.001525 * USD)}"' in answer
    assert (Job.objects.count(), AuditLine.objects.filter(event_type="job.refused").count()) == (0, 0)


def test_without_scripts_the_check_button_answers_the_whole_page_with_what_was_typed(client, team):
    page = send(client, team, run_name="spring <1>", max_minutes="60", check="1").content.decode()

    assert "Submit for at most $3.57" in page
    assert 'value="spring &lt;1&gt;"' in page


def test_what_does_not_fit_a_limit_is_said_before_it_is_sent(client, team):
    SpendLimitFactory(team=team, amount=1 * USD)

    page = page_of(client, team)

    assert "It is refused by the team&#x27;s monthly limit: $1.00 are left until it resets," in page
    assert "disabled" in page


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("warn", "It goes beyond the team&#x27;s monthly limit, of which $1.00 are left. That limit only warns, and the job goes on."),
        ("require_approval", "the team&#x27;s monthly limit, beyond which somebody must approve, has $1.00 left."),
    ],
)
def test_what_a_limit_that_does_not_block_does_is_said_before_it_is_sent(client, team, action, said):
    SpendLimitFactory(team=team, amount=1 * USD, action=action)

    page = page_of(client, team)

    assert said in page
    assert "Submit for at most $1.81" in page
    assert "No spend limit is set" not in page


def test_a_team_without_a_config_begins_with_a_pasted_one(client, team):
    team.configs.all().delete()

    page = page_of(client, team)

    assert "No configuration provided." in page
    assert "Submit for at most" not in page


# --- Submitting -----------------------------------------------------------------------------------------------------


def test_the_button_submits_what_it_said(client, team, ready):
    response = send(client, team, dataset=str(ready.version), run_name="spring", destination="local")

    job = Job.objects.select_related("hold").get()
    assert (response.status_code, response["Location"]) == (302, job.get_absolute_url())
    assert (job.hold.amount, job.run_name, job.dataset_version, job.submitted_by) == (WORST, "spring", ready.version, ready.member.user)
    assert "The job was submitted. $1.81 are held for it." in client.get(job.get_absolute_url()).content.decode()


def test_nothing_is_submitted_for_more_than_the_button_said(client, team):
    first = send(client, team, hardware_profile="h100")
    again = send(client, team, hardware_profile="h100", agreed=first.context["quote"].plan.worst_case)

    assert errors(first) == {"__all__": ["It can now cost up to $2.84. Look at it again, then submit."]}
    assert again.status_code == 302
    assert Job.objects.get().trainer.profile == "h100"


def test_a_double_click_submits_once(client, team):
    answers = [send(client, team)["Location"] for _ in range(2)]

    assert answers == [Job.objects.get().get_absolute_url()] * 2


def test_a_form_that_was_sent_before_gets_a_new_key_and_asks_again(client, team):
    send(client, team)

    changed = send(client, team, run_name="another")
    key = changed.context["key"]
    send(client, team, run_name="another", key=key)

    assert (list(errors(changed)), key != "form-1", Job.objects.count()) == (["__all__"], True, 2)


def test_a_pasted_config_is_submitted_as_it_stands(client, team, ready):
    response = send(client, team, config_name="", config_json=json.dumps(CONFIG | {"lora_rank": 8}), dataset=str(ready.version))

    assert response.status_code == 302
    assert Job.objects.get().config["lora_rank"] == 8


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"config_json": "{}"}, "config_json", "Choose a config or paste one, not both."),
        ({"config_name": "", "config_json": "{"}, "config_json", "Enter a valid JSON."),
        ({"config_name": "", "config_json": "[1]"}, "config_json", "This must be a JSON object."),
        ({"config_name": "", "config_json": '{"model_family": "no-such"}'}, "config_json", "no-such"),
        ({"dataloader_json": "{}"}, "dataloader_json", "This must be a list of JSON objects."),
        ({"dataloader_json": "[1]"}, "dataloader_json", "This must be a list of JSON objects."),
        ({"config_name": "unknown"}, "config_name", "Select a valid choice"),
        ({"dataset": "houses@7"}, "dataset", "Select a valid choice"),
        ({"hardware_profile": "tpu"}, "hardware_profile", "Select a valid choice"),
        ({"max_minutes": "0"}, "max_minutes", "greater than or equal to 1"),
        ({"max_minutes": "1441"}, "max_minutes", "less than or equal to 1440"),
        ({"destination": "hub"}, "hub_model_id", "The Hub needs the name of a repository."),
        ({"destination": "hub", "hub_model_id": "me/it"}, "hub_model_id", "No Hugging Face token is saved"),
        ({"destination": "s3"}, "destination", "No S3 bucket"),
        ({"from_job": "j-unknown"}, "__all__", "Job not found"),
    ],
)
def test_what_is_wrong_stands_at_its_field(client, team, fields, field, says):
    response = send(client, team, **fields)

    found = errors(response)
    assert (response.status_code, list(found), Job.objects.count()) == (200, [field], 0)
    assert says in found[field][0]


def test_a_limit_that_fills_up_meanwhile_refuses_on_the_form(client, team, monkeypatch):
    SpendLimitFactory(team=team, amount=1 * USD)

    response = send(client, team)

    assert "Cost limit exceeded" in errors(response)["__all__"][0]
    assert Job.objects.count() == 0


def test_without_a_replicate_token_the_form_says_so_in_the_persons_language(client, team):
    Credential.objects.all().delete()

    response = client.get(address(team), headers={"Accept-Language": "es"})

    assert '<li>Este equipo no tiene guardado ningún token de Replicate. <span lang="en">REPLICATE_API_TOKEN not set' in (
        response.content.decode()
    )


# --- Again ----------------------------------------------------------------------------------------------------------


def test_a_job_runs_again_with_what_it_had(client, team, ready):
    first = ready.submit(run_name="spring", max_seconds=3600, hardware_profile="h100", config_name="", config=CONFIG, dataset="houses@1")

    form = client.get(address(team, f"?from={first.job_id}")).context["form"]
    initial = {name: value if isinstance(value, str) else json.dumps(value) for name, value in form.initial.items() if value is not None}
    send(client, team, **{"config_name": "", **initial, "agreed": 100 * USD})

    second = Job.objects.exclude(pk=first.pk).get()
    same = ["config", "dataset_version", "trainer", "destination", "run_name", "config_name"]
    assert [getattr(second, name) for name in same] == [getattr(first, name) for name in same]
    assert (second.parent, second.link) == (first, "rerun")
    assert f"?from={second.job_id}" in client.get(second.get_absolute_url()).content.decode()


def test_only_who_sees_a_jobs_config_can_begin_with_it(client, team):
    team.shows_details = False
    team.save()
    theirs, foreign = JobFactory(team=team), JobFactory()

    assert client.get(address(team, f"?from={theirs.job_id}")).status_code == 403
    assert client.get(address(team, f"?from={foreign.job_id}")).status_code == 404


# --- Consent ----------------------------------------------------------------------------------------------------------


def test_before_the_first_upload_somebody_agrees_once_to_where_the_data_goes(client, team):
    ProviderSettings.objects.update(data_consent="ask")

    page = page_of(client, team)
    refused = send(client, team)
    send(client, team, agrees="on")

    given = Consent.objects.get()
    assert "about an hour after the end; our copy of the log stays at least 90 days" in page
    assert errors(refused) == {"agrees": ["The team's data is not uploaded before somebody has agreed."]}
    assert (given.team, given.statement_sha256, Job.objects.count()) == (team, consent.fingerprint(team), 1)
    assert AuditLine.objects.get(event_type="data_consent.given").team == team
    assert "about an hour after the end" not in page_of(client, team)


def test_other_facts_ask_again_and_the_language_does_not(client, team, settings):
    ProviderSettings.objects.update(data_consent="ask")
    send(client, team, agrees="on")

    in_spanish = client.get(address(team), headers={"Accept-Language": "es"}).content.decode()
    settings.LOG_RETENTION_DAYS = 365

    assert "Acepto en nombre del equipo" not in in_spanish
    assert "at least 365 days" in page_of(client, team)


def test_data_that_lies_elsewhere_needs_no_consent(client, team):
    ProviderSettings.objects.update(data_consent="ask")
    team.configs.update(dataset=None)

    response = send(client, team, dataloader_json='[{"id": "a", "type": "huggingface", "dataset_name": "me/it"}]')

    assert (response.status_code, Consent.objects.count()) == (302, 0)


def test_a_team_that_denies_uploads_submits_none(client, team):
    ProviderSettings.objects.update(data_consent="deny")

    assert errors(send(client, team)) == {
        "__all__": ["The team does not allow its data to be uploaded. An owner can change this under Settings, Data."]
    }


# --- Rights, and how the page is made ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 200), (Role.LEAD, 200), (Role.OWNER, 200)])
def test_who_may_submit(client, team, role, status):
    client.force_login(make_member(team, role).user)

    assert client.get(address(team)).status_code == status
    assert client.post(address(team), {"check": "1"}).status_code == status
    assert (address(team) in client.get(team.get_absolute_url()).content.decode()) is (status == 200)


def test_a_stranger_finds_no_form(client, team):
    client.force_login(MembershipFactory().user)

    assert [client.get(address(team)).status_code, send(client, team).status_code, Job.objects.count()] == [404, 404, 0]


def test_the_page_asks_as_often_for_many_datasets_as_for_one(client, team, ready, django_assert_num_queries):
    with django_assert_num_queries(70):
        page_of(client, team)
    for number in range(2, 5):
        ready.version.pk, ready.version.number = None, number
        ready.version.save()

    with django_assert_num_queries(70):
        page_of(client, team)


def test_the_page_carries_no_scripts_or_styles_of_its_own(client, team):
    assert INLINE.findall(page_of(client, team)) == []
