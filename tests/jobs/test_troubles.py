"""Each documented trouble where it occurs: on the job's page, in the list and in the API, for those who can do something and for others."""

import html
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Credential, Membership
from accounts.roles import Role
from jobs.models import Job, JobProgress, ProviderSettings, ProviderStatus
from jobs.services import ending, logs, statuspage
from jobs.states import State
from tests.factories import CredentialFactory, MembershipFactory, UserFactory, make_token
from tests.jobs.factories import JobFactory, TrainerFactory, make_member
from tests.jobs.ready import catalogue
from tests.pages import INLINE

pytestmark = pytest.mark.django_db

SAMPLES = Path(__file__).parent / "samples"
PROXY = "http://proxy-user:pLaNtEd@proxy.example.com:3128"


@pytest.fixture(autouse=True)
def status_page(monkeypatch):
    """The provider's status page, which nobody here calls: what it says is "operational" until a test says otherwise."""
    said = {"word": "operational"}
    monkeypatch.setattr(statuspage, "standing", lambda *, now: ProviderStatus(word=said["word"], page_url="https://status.example.com"))
    return said


@pytest.fixture
def owner(client):
    membership = MembershipFactory(user=UserFactory(username="olga"))
    client.force_login(membership.user)
    return membership


@pytest.fixture
def team(owner):
    return owner.team


def ago(**span):
    return timezone.now() - timedelta(**span)


def waiting(team, reason, **fields):
    return JobFactory(team=team, state=State.PENDING, started_at=None, waiting_reason=reason, **fields)


def failed(team, error="", log="", **fields):
    fields = {"prediction_id": "p1", "started_at": ago(minutes=9), "ended_at": ago(minutes=1)} | fields
    job = JobFactory(team=team, state=State.FAILED, error=error, **fields)
    if log:
        with transaction.atomic():
            logs.append(job, log)
    return job


def page_of(client, job):
    """The page as people read it, without the card's frame."""
    page = html.unescape(client.get(job.get_absolute_url()).content.decode())
    assert INLINE.findall(page) == []
    return page


def card_of(page):
    return re.search(r'id="job-trouble".*?(?=<section class="card"|<section class="card card-flush"|<div class="note")', page, re.DOTALL)[0]


def api_of(job, membership=None):
    """What the API says is wrong with the job."""
    membership = membership or Membership.objects.filter(team=job.team, role=Role.OWNER).first()
    headers = {"Authorization": f"Bearer {make_token(membership)[1]}"}
    one = Client().get(f"/api/cloud/jobs/{job.job_id}", headers=headers).json()["job"]["trouble"]
    listed = Client().get("/api/cloud/jobs", headers=headers).json()["jobs"]
    assert [row["trouble"] for row in listed if row["job_id"] == job.job_id] == [one]
    return one


def codes_of(page):
    return re.findall(r'<h2 id="trouble-(\w+)"', page)


def both(client, job, code):
    """The card's text and the API's trouble, once both name this trouble and no other."""
    page, said = page_of(client, job), api_of(job)
    assert (codes_of(page), said["code"], sorted(said)) == ([code], code, ["code", "evidence", "link", "message", "remedies"])
    assert said["message"] in page
    assert [remedy for remedy in said["remedies"] if remedy not in page] == []
    return card_of(page), said


# --- Nothing is wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"state": State.PENDING, "started_at": None, "waiting_reason": "turn"},
        {"state": State.QUEUED, "started_at": None, "prediction_id": "p1"},
        {"state": State.COMPLETED, "prediction_id": "p1"},
        {"state": State.CANCELLED, "prediction_id": "p1", "error": "CUDA out of memory"},
        {"state": State.FAILED, "error": "argument --rank: invalid value: 'x'", "prediction_id": "p1"},
    ],
)
def test_a_healthy_job_shows_nothing(client, team, settings, fields):
    settings.PUBLIC_URL = "https://tunehouse.example.com"
    now = timezone.now()
    job = JobFactory(team=team, **{"queued_at": now, "started_at": now, "progress__heard_at": now} | fields)

    page = page_of(client, job)

    assert (codes_of(page), api_of(job)) == ([], None)
    assert 'id="job-trouble" hx-swap-oob="true" hidden' in page
    assert "row-trouble" not in client.get(team.get_absolute_url()).content.decode()


# --- The token ----------------------------------------------------------------------------------------------------


def test_without_a_token_the_submit_page_and_the_first_page_say_so(client, team):
    first = html.unescape(client.get(team.get_absolute_url()).content.decode())
    submit = html.unescape(client.get(reverse("jobs:new", args=[team.slug])).content.decode())

    for page in (first, submit):
        assert "No Replicate token is saved" in page
        assert f'href="{reverse("jobs:credentials", args=[team.slug])}"' in page


def test_who_cannot_save_a_token_is_told_whom_to_ask(client, team):
    client.force_login(make_member(team, Role.RESEARCHER).user)

    pages = [client.get(address).content.decode() for address in (team.get_absolute_url(), reverse("jobs:new", args=[team.slug]))]

    for page in pages:
        assert "Ask an owner of the team: olga." in page
        assert reverse("jobs:credentials", args=[team.slug]) not in page
        assert f"{reverse('jobs:help', args=[team.slug])}#token-not-set" in page


def test_with_a_token_nobody_is_told(client, team):
    CredentialFactory(team=team)

    assert codes_of(client.get(reverse("jobs:new", args=[team.slug])).content.decode()) == []


@pytest.mark.parametrize(("health", "code"), [("refused", "invalid_token"), ("no_credit", "no_credit")])
def test_a_token_in_bad_health_is_named_before_a_job_is_submitted(client, team, health, code):
    CredentialFactory(team=team, health=health)

    assert codes_of(client.get(reverse("jobs:new", args=[team.slug])).content.decode()) == [code]


def test_a_job_whose_token_is_refused_and_gone_lacks_one(client, team):
    job = waiting(team, "credential")
    Credential.objects.update(removed_at=timezone.now(), health="refused")

    _, said = both(client, job, "token_not_set")

    assert said["link"] == reverse("jobs:credentials", args=[team.slug])


@pytest.mark.parametrize(
    ("reason", "health", "code"),
    [
        ("credential", "refused", "invalid_token"),
        ("turn", "refused", "invalid_token"),
        ("no_credit", "no_credit", "no_credit"),
        ("", "no_credit", "no_credit"),
    ],
)
def test_a_waiting_job_names_what_is_wrong_with_its_token(client, team, reason, health, code):
    job = waiting(team, reason)
    Credential.objects.update(health=health)

    card, said = both(client, job, code)

    assert said["link"] == reverse("jobs:credentials", args=[team.slug])
    assert job.credential.last_four not in card


def test_a_run_whose_token_is_refused_is_said_to_go_on(client, team):
    job = JobFactory(team=team, prediction_id="p1")
    Credential.objects.update(health="refused")

    card, _ = both(client, job, "invalid_token")

    assert "a run that is under way goes on" in card


def test_a_researcher_reads_whom_to_ask(client, team):
    job = waiting(team, "credential")
    Credential.objects.update(health="refused")
    researcher = make_member(team, Role.RESEARCHER)
    client.force_login(researcher.user)

    card, said = card_of(page_of(client, job)), api_of(job, researcher)

    assert said["remedies"] == ["Ask an owner of the team: olga."]
    assert said["link"] == f"{reverse('jobs:help', args=[team.slug])}#invalid-token"
    assert "Ask an owner of the team: olga." in card
    assert "/settings/" not in card


# --- The queue ----------------------------------------------------------------------------------------------------


def stuck(team, minutes=14):
    created = ago(minutes=minutes, seconds=5)
    fields = {"queued_at": created, "created_at_provider": created}
    return JobFactory(team=team, state=State.QUEUED, started_at=None, prediction_id="p1", **fields)


@pytest.mark.parametrize("word", ["operational", "degraded", "maintenance", "unknown"])
def test_a_job_that_is_queued_for_long_says_how_long_and_what_the_status_page_says(client, team, status_page, word):
    status_page["word"] = word
    job = stuck(team)

    card, said = both(client, job, "stuck_in_queued")

    ends = job.created_at_provider + timedelta(hours=1)
    assert "for 14 minutes" in said["message"]
    assert f"status page says: {word}." in said["message"]
    assert "Waiting costs nothing" in said["message"]
    assert f"{ends:%H:%M} UTC" in said["message"]
    assert reverse("jobs:cancel", args=[team.slug, job.job_id]) in card
    assert said["link"].endswith("#stuck-in-queued")


def test_ten_minutes_in_the_queue_are_usual(client, team):
    assert codes_of(page_of(client, stuck(team, minutes=9))) == []


def test_who_may_not_cancel_gets_no_link_for_it(client, team):
    job = stuck(team)
    client.force_login(make_member(team, Role.RESEARCHER).user)

    assert reverse("jobs:cancel", args=[team.slug, job.job_id]) not in page_of(client, job)


# --- The network --------------------------------------------------------------------------------------------------


def test_a_provider_that_is_not_reached_through_the_proxy(client, team):
    ProviderSettings.objects.create(team=team, proxy_url=PROXY)
    job = waiting(team, "provider_down")

    card, said = both(client, job, "proxy")

    assert said["link"] == f"/t/{team.slug}/settings/network/"
    assert "pLaNtEd" not in str(said) + card
    assert "proxy-user" not in str(said) + card


def test_a_proxy_that_cannot_be_used_at_all(client, team):
    error = "The proxy's address or the CA bundle cannot be used; see the outbound network settings."
    job = failed(team, error, prediction_id=None, started_at=None)

    both(client, job, "proxy")


def test_a_provider_that_is_not_reached_without_a_proxy(client, team):
    _, said = both(client, waiting(team, "provider_down"), "provider_down")

    assert "status page says: operational" in said["message"]


@pytest.fixture
def public(settings):
    settings.PUBLIC_URL = "https://tunehouse.example.com"


def silent(team, **fields):
    return JobFactory(team=team, **{"prediction_id": "p1", "started_at": ago(seconds=90)} | fields)


@pytest.mark.parametrize("fields", [{}, {"state": State.COMPLETED, "ended_at": timezone.now()}])
def test_webhooks_that_do_not_come(client, team, public, fields):
    job = silent(team, **fields)

    card, said = both(client, job, "webhook_silent")

    line = "curl -i -X POST -H 'Content-Type: application/json' -d '{}' https://tunehouse.example.com/api/webhooks/replicate"
    assert said["link"] == f"/t/{team.slug}/settings/webhooks/"
    assert said["remedies"][-1] == line
    assert line in card
    assert "watched by asking" not in page_of(client, job)


def test_who_cannot_test_webhooks_reads_the_help(client, team, public):
    job = silent(team)
    client.force_login(make_member(team, Role.RESEARCHER).user)

    card = card_of(page_of(client, job))

    assert "Ask an owner of the team to send a test under Settings, Webhooks: olga." in card
    assert f"{reverse('jobs:help', args=[team.slug])}#webhook-silent" in card


@pytest.mark.parametrize(
    "fields",
    [
        {"started_at": timezone.now() + timedelta(days=1)},  # counted from when the run of all tests began
        {"progress__heard_at": timezone.now()},
        {"state": State.QUEUED, "started_at": None},
    ],
)
def test_webhooks_that_need_not_have_come_yet(client, team, public, fields):
    assert codes_of(page_of(client, silent(team, **fields))) == []


def test_without_a_public_address_one_quiet_line_says_how_jobs_are_watched(client, team):
    job = silent(team)

    page = page_of(client, job)

    assert (codes_of(page), api_of(job)) == ([], None)
    assert page.count("the job is watched by asking Replicate") == 1


# --- What ended it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "log"),
    [
        ("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 44.39 GiB.", ""),
        ("Accelerate launch exited with status 1: see the log", (SAMPLES / "out_of_memory.log").read_text()),
        ("exit status 1", "x" * 20_000 + "\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB.\n"),
        ("Prediction failed. (E1001)", ""),
        ("Prediction failed (code: E1001).", ""),
    ],
)
def test_out_of_memory_names_remedies_the_price_of_larger_hardware_and_what_was_used(client, team, error, log):
    catalogue()
    l40s = TrainerFactory(profile="advanced-trainer")
    config = {"train_batch_size": 4, "gradient_checkpointing": False, "resolution": 1024, "validation_prompt": "a garden"}
    job = failed(team, error, log, trainer=l40s, config=config)

    card, said = both(client, job, "out_of_memory")

    assert len(said["remedies"]) == 4
    assert said["remedies"][3] == "Choose larger hardware: h100, H100 (80GB) at $5.49 an hour."
    used = dict(re.findall(r'<dt class="mono">(\w+)</dt><dd class="mono">([^<]*)</dd>', card))
    assert used == {
        "train_batch_size": "4", "gradient_checkpointing": "false", "resolution": "1024",
        "hardware_profile": "advanced-trainer, L40S (48GB)",
    }  # fmt: skip
    assert f"{reverse('jobs:new', args=[team.slug])}?from={job.job_id}" in card
    assert said["link"].endswith("#out-of-memory")


def test_what_a_job_used_is_hidden_with_its_details(client, team):
    team.shows_details = False
    team.save()
    job = failed(team, "CUDA out of memory", config={"train_batch_size": 4})
    client.force_login(make_member(team, Role.RESEARCHER).user)

    card = card_of(page_of(client, job))

    assert "Make the batch smaller" in card
    assert ["This job used" in card, "?from=" in card, "/retry/" in card] == [False, False, False]


def test_the_line_of_the_log_that_shows_it_is_named_and_linked(client, team):
    log = "[COG] begins\nEpoch 1/2 Steps:  10%|#| 1/10\rRuntimeError: <b>CUDA out of memory</b>. Tried\n" + "Traceback\n" * 20
    job = failed(team, "exit status 1", log)

    card, said = both(client, job, "out_of_memory")

    assert said["evidence"] == {"line": 3, "text": "RuntimeError: <b>CUDA out of memory</b>. Tried"}
    assert 'href="#L3"' in card
    assert "RuntimeError: <b>CUDA out of memory</b>. Tried" in card
    assert b"&lt;b&gt;CUDA" in client.get(job.get_absolute_url()).content


def test_a_log_that_came_in_pieces_counts_its_lines_as_a_whole(client, team):
    log = "one\ntwo\nthree\nfour torch.OutOfMemoryError: five\n"
    job = failed(team, "CUDA out of memory")
    for end in (2, 9, 17, 25, len(log)):
        with transaction.atomic():
            logs.append(job, log[:end])

    assert api_of(job)["evidence"] == {"line": 4, "text": "four torch.OutOfMemoryError: five"}


def test_an_error_that_its_log_does_not_hold_has_no_line(client, team):
    card, said = both(client, failed(team, "CUDA out of memory", "all is well\n"), "out_of_memory")

    assert (said["evidence"], "#L" in card) == (None, False)


def test_the_line_is_for_those_who_may_see_the_log(client, team):
    team.shows_details = False
    team.save()
    job = failed(team, "CUDA out of memory", "a prompt\nCUDA out of memory\n")
    stranger = make_member(team, Role.RESEARCHER)
    owners = api_of(job)["evidence"]
    client.force_login(stranger.user)

    card = card_of(page_of(client, job))

    assert (owners["line"], api_of(job, stranger)["evidence"], "#L2" in card) == (2, None, False)


def test_what_no_sentence_of_ours_fits_is_shown_by_the_trainers_own_line(client, team):
    _, said = both(client, failed(team, "Something new", "[STAGE] Training\n[ERROR] Fatal Error: Something new\n"), "trainer_stopped")

    assert said["evidence"] == {"line": 2, "text": "[ERROR] Fatal Error: Something new"}


def test_words_that_a_healthy_log_holds_as_well_are_no_cause(client, team):
    assert api_of(failed(team, "exit status 1", "The NSFW check found nothing\n")) is None


def test_a_log_that_ends_in_another_way_is_no_memory_trouble(client, team):
    job = failed(team, "exit status 1", "CUDA out of memory\n" + "x" * 20_000)

    assert api_of(job) is None


@pytest.mark.parametrize(
    ("error", "code", "offers"),
    [
        ("config_json looks like JSON but failed to parse: line 1", "config_unreadable", ["change"]),
        ("Either dataset_archive or dataloader config must be provided.", "no_data", ["change"]),
        ("Unsupported dataset archive format. Use .zip or .tar.", "archive_unreadable", ["retry"]),
        ("OSError: [Errno 28] No space left on device", "disk_full", ["change"]),
        ("Accelerate launch exited with status -9: see the log", "killed", ["change"]),
        ("Accelerate launch exited with status 1: see the log", "trainer_stopped", ["change"]),
        ("404 Client Error: Not Found for url: https://huggingface.co/api/models/acme/flux", "model_not_found", ["change"]),
        ("An error occurred (AccessDenied) when calling the PutObject operation: Access Denied", "bucket_refused", ["retry", "change"]),
        ('Could not connect to the endpoint URL: "https://x.example/outputs/a"', "storage_unreachable", ["retry", "change"]),
        ("CUDA error: an illegal memory access was encountered", "gpu_fault", ["retry", "change"]),
        ("No images were discovered by the bucket manager in the dataset: houses.", "no_images", ["change"]),
        ("Unsafe zip path detected: a.jpg", "archive_not_unpacked", ["change"]),
        ("Encountered NaN values in the training loss at step 500.", "nan_loss", ["change"]),
        ("hf_token is required when using hub_model_id for HuggingFace Hub publishing.", "bad_hub_token", ["retry", "change"]),
        ("401 Client Error: Unauthorized for url: https://huggingface.co/api/repos/create", "bad_hub_token", ["retry", "change"]),
        (
            '403 Forbidden: You don\'t have the rights to create a model under the namespace "acme".',
            "bad_hub_token",
            ["retry", "change"],
        ),
        (
            "You are trying to access a gated repo. 401 Client Error. Cannot access gated repo for url https://huggingface.co/x/y.",
            "gated_model",
            ["retry", "change"],
        ),
        ("Dataset rejected: 2 images were flagged by the NSFW check.", "nsfw", ["change"]),
        ("Prediction interrupted; please retry (code: PA)", "platform_fault", ["retry"]),
        ("Director: unexpected error handling prediction (E9828)", "platform_fault", ["retry"]),
        ("Something new (E7777)", "platform_fault", ["retry"]),
        ("unknown_at_provider: it cannot be told whether the provider ran this job.", "unknown_at_provider", ["retry"]),
    ],
)
def test_what_the_trainer_and_the_platform_say_is_understood(client, team, error, code, offers):
    job = failed(team, error)

    card, said = both(client, job, code)

    links = {"retry": reverse("jobs:retry", args=[team.slug, job.job_id]), "change": f"?from={job.job_id}"}
    assert [name for name, link in links.items() if link in card] == offers
    assert said["remedies"]


def test_a_platform_fault_is_nobodys_fault(client, team):
    _, said = both(client, failed(team, "Prediction interrupted; please retry (code: PA)"), "platform_fault")

    assert said["message"] == (
        "Replicate's platform ended the run (PA: the run was interrupted). It is not your fault, nor your settings'."
    )


@pytest.mark.parametrize(
    ("billed", "error", "code"),
    [
        (1800, "Prediction timed out.", "cut_off"),
        (1803.4, "The prediction exceeded its time limit", "cut_off"),
        (600, "Prediction timed out.", None),
        (1800, "argument --rank: invalid value", None),
    ],
)
def test_a_run_that_was_cut_off_after_half_an_hour(team, billed, error, code):
    job = failed(team, error, billed_seconds=billed)

    said = api_of(job)

    assert (said and said["code"]) == code


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"billed_seconds": 1801}, "cut_off"),
        ({"billed_seconds": 1801, "cancel_requested_at": timezone.now()}, None),
        ({"billed_seconds": 600}, None),
        ({"error": ending.TOO_LATE}, "never_began"),
        ({"billed_seconds": 1801, "error": ending.AT_THE_CEILING, "ceiling_seconds": 2700, "stop_after_seconds": 2700}, "ceiling_reached"),
    ],
)
def test_a_run_that_was_stopped_though_nobody_asked_says_by_what(team, fields, code):
    times = {"started_at": ago(hours=1), "ended_at": ago(minutes=1)}
    job = JobFactory(team=team, state=State.CANCELLED, prediction_id="p1", **times, **fields)

    said = api_of(job)

    assert (said and said["code"]) == code
    assert code != "ceiling_reached" or "after 45 minutes, its ceiling" in said["message"]


def test_silent_webhooks_stand_beside_what_ended_the_run(client, team, public):
    job = failed(team, "CUDA out of memory")

    assert codes_of(page_of(client, job)) == ["out_of_memory", "webhook_silent"]
    assert api_of(job)["code"] == "out_of_memory"


# --- The list, the languages ----------------------------------------------------------------------------------------


def test_the_list_says_it_in_a_word_and_leaves_silent_webhooks_of_old_jobs_alone(client, team, public):
    failed(team, "CUDA out of memory")
    JobFactory(team=team, state=State.COMPLETED, prediction_id="p2", started_at=ago(days=3), ended_at=ago(days=2))

    page = client.get(team.get_absolute_url()).content.decode()

    assert re.findall(r'row-trouble">.*?</svg>([^<]*)</span>', page) == ["Out of memory"]


@pytest.mark.parametrize("rows", [1, 3])
def test_troubles_of_many_jobs_are_found_with_as_few_queries(client, team, rows, django_assert_num_queries):
    for number in range(rows):
        failed(team, "exit status 1", "torch.OutOfMemoryError: CUDA out of memory.\n", prediction_id=f"failed{number}")
        Job.objects.filter(pk=stuck(team).pk).update(prediction_id=f"queued{number}")
        waiting(team, "credential")

    # Beside a list's ten: whose tokens there are, and whether webhooks can come.
    with django_assert_num_queries(14):
        page = client.get(team.get_absolute_url()).content.decode()

    assert page.count("row-trouble") == rows * 3


def test_the_api_speaks_english_whatever_the_language(team, owner):
    job = failed(team, "CUDA out of memory")
    headers = {"Authorization": f"Bearer {make_token(owner)[1]}", "Accept-Language": "es"}

    said = Client().get(f"/api/cloud/jobs/{job.job_id}", headers=headers).json()["job"]["trouble"]

    assert said["message"] == "The GPU's memory did not suffice for these settings. The same run would end the same way."


def test_another_teams_trouble_is_nowhere(client, team):
    foreign = failed(MembershipFactory().team, "CUDA out of memory")

    assert client.get(foreign.get_absolute_url()).status_code == 404
    assert "row-trouble" not in client.get(team.get_absolute_url()).content.decode()
    assert JobProgress.objects.filter(job=foreign).exists()
