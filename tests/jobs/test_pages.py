"""The jobs list and the page of one job: who sees what, what moves by itself, and what is never sent."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from accounts.models import Credential
from accounts.roles import Role
from billing import services as billing
from jobs import downloads, log_page
from jobs.models import Job, JobProgress
from jobs.services import logs
from jobs.states import State
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import MembershipFactory, TeamFactory
from tests.jobs.factories import ArtifactFactory, JobFactory, TrainerFactory, hold_for, make_member
from tests.pages import INLINE

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client):
    membership = MembershipFactory()
    client.force_login(membership.user)
    return membership


@pytest.fixture
def team(owner):
    return owner.team


def url(name, job, *args):
    return reverse(f"jobs:{name}", args=[job.team.slug, job.job_id, *args])


def page_of(client, address, **headers):
    response = client.get(address, headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def say(job, text):
    with transaction.atomic():
        logs.append(job, text)


def stored(job, content=b"LoRA", **fields):
    artifact = ArtifactFactory(job=job, size_bytes=len(content), **fields)
    storages["artifacts"].save(artifact.stored_as, ContentFile(content))
    return artifact


# --- The list -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3])
def test_the_list_asks_as_often_for_three_jobs_as_for_one(client, team, rows, django_assert_num_queries):
    for _ in range(rows):
        JobFactory(team=team)

    with django_assert_num_queries(13):
        page_of(client, team.get_absolute_url())


def test_the_list_shows_the_teams_jobs_and_no_others(client, team):
    ours, foreign, deleted = JobFactory(team=team), JobFactory(), JobFactory(team=team, deleted_at=timezone.now())

    page = page_of(client, team.get_absolute_url())

    assert [job.job_id in page for job in (ours, foreign, deleted)] == [True, False, False]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["one", "two", "three"]),
        ("state=active", ["one"]),
        ("state=failed", ["two"]),
        ("state=running", ["one"]),
        ("q=thre", ["three"]),
        ("q=thre&state=failed", []),
        ("q=sdxl", ["two"]),
        ("state=nonsense", ["one", "two", "three"]),
    ],
)
def test_filters_stand_in_the_address(client, team, query, found):
    JobFactory(team=team, run_name="run-one")
    JobFactory(team=team, run_name="run-two", state=State.FAILED, config_name="sdxl-lora")
    JobFactory(team=team, run_name="run-three", state=State.COMPLETED)

    page = page_of(client, f"{team.get_absolute_url()}?{query}")

    assert [name for name in ("one", "two", "three") if f"run-{name}" in page] == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("user_id=mine", ["one"]),
        ("user_id={other}", ["two", "three"]),
        ("user_id={stranger}", ["one", "two", "three"]),
        ("user_id={other}&trainer=big-gpu", ["three"]),
        ("trainer=big-gpu", ["three"]),
        ("trainer=nonsense", ["one", "two", "three"]),
        ("since=2026-11-21", ["two", "three"]),
        ("until=2026-11-21", ["one"]),
        ("since=2026-11-21&until=2026-11-22", ["two"]),
        ("since=2026-11-21T12:00:01Z", ["three"]),
        ("since=2026-11-21T13:00:01%2B01:00", ["three"]),
        ("since=yesterday", ["one", "two", "three"]),
        ("since=0001-01-01T00:00:00%2B14:00", ["one", "two", "three"]),
    ],
)
def test_person_trainer_and_days_filter_as_they_do_in_the_api(client, owner, query, found):
    team, other, stranger = owner.team, make_member(owner.team).user, MembershipFactory().user
    day = datetime(2026, 11, 20, 12, tzinfo=UTC)
    JobFactory(team=team, run_name="run-one", submitted_by=owner.user, submitted_at=day)
    JobFactory(team=team, run_name="run-two", submitted_by=other, submitted_at=day + timedelta(days=1))
    big = TrainerFactory(profile="big-gpu", label="Big")
    JobFactory(team=team, run_name="run-three", submitted_by=other, submitted_at=day + timedelta(days=2), trainer=big)
    query = query.format(other=other.pk, stranger=stranger.pk)

    page = page_of(client, f"{team.get_absolute_url()}?{query}")

    assert [name for name in ("one", "two", "three") if f"run-{name}" in page] == found
    assert str(stranger) not in page
    if not any(word in query for word in ("mine", "trainer", "yesterday", "0001")) and str(stranger.pk) not in query:
        answer = client.get(f"/api/cloud/jobs?{query}&team={team.slug}")
        assert sorted(job["metadata"]["run_name"] for job in answer.json()["jobs"]) == sorted(f"run-{name}" for name in found)


def test_what_is_filtered_stands_in_the_form_and_in_the_links(client, owner):
    JobFactory(team=owner.team, submitted_by=owner.user)

    page = page_of(client, f"{owner.team.get_absolute_url()}?user_id=mine&since=2026-11-21&until=2026-11-24T10:00:00Z")

    assert re.search(r'<details class="more-filters" open>', page)
    assert re.search(r'<option value="mine" selected>', page)
    assert re.findall(r'<input type="(\w+)" name="(?:since|until)" value="([^"]*)"', page) == [
        ("date", "2026-11-21"),
        ("text", "2026-11-24T10:00:00Z"),
    ]
    assert 'href="?user_id=mine&amp;since=2026-11-21&amp;until=2026-11-24T10%3A00%3A00Z&amp;state=active"' in page


def test_pages_of_the_list_keep_the_filters(client, team):
    for _ in range(26):
        JobFactory(team=team, config_name="sdxl-lora", state=State.COMPLETED)

    first = page_of(client, f"{team.get_absolute_url()}?q=sdxl")
    second = page_of(client, f"{team.get_absolute_url()}?q=sdxl&page=2")

    assert (first.count('class="job-row"'), second.count('class="job-row"')) == (25, 1)
    assert 'href="?q=sdxl&amp;page=2"' in first


def test_an_empty_list_says_how_to_begin(client, team):
    page = page_of(client, team.get_absolute_url())

    assert "No jobs yet" in page
    assert "POST http://testserver/api/cloud/jobs/submit" in page
    assert steps_done(page) == [False, False, False]


def steps_done(page):
    """Which of the three steps to the first job have a tick."""
    steps = page.split('class="first-steps"')[1].split("</ol>")[0]
    return [name == "completed" for name in re.findall(r"icons[^#]*\.svg#(\w+)", steps)]


def test_the_steps_to_the_first_job_are_ticked_as_they_are_done(client, ready):
    client.force_login(ready.member.user)
    done = steps_done(page_of(client, ready.team.get_absolute_url()))

    Credential.objects.update(health="refused")
    refused = page_of(client, ready.team.get_absolute_url())

    assert done == [True, True, False]
    assert steps_done(refused) == [False, True, False]
    assert "Replicate refuses the token" in refused


def test_a_list_without_a_match_says_so_and_leads_back(client, team):
    JobFactory(team=team)

    page = page_of(client, f"{team.get_absolute_url()}?q=nothing-like-it")

    assert "No job passes these filters" in page


def test_the_list_asks_again_only_while_a_job_can_still_change(client, team):
    job = JobFactory(team=team)
    while_running = page_of(client, team.get_absolute_url())

    Job.objects.filter(pk=job.pk).update(state=State.COMPLETED, cost=1)
    afterwards = page_of(client, team.get_absolute_url())

    assert ("hx-get" in while_running, "hx-get" in afterwards) == (True, False)


def test_a_list_that_has_not_changed_is_not_sent_again(client, team):
    job = JobFactory(team=team, state=State.QUEUED, started_at=None)
    address = re.search(r'hx-get="([^"]+)"', page_of(client, team.get_absolute_url()))[1]

    unchanged = client.get(address, headers={"HX-Request": "true"})
    Job.objects.filter(pk=job.pk).update(state=State.RUNNING)
    changed = client.get(address, headers={"HX-Request": "true"})

    assert (unchanged.status_code, unchanged.content) == (204, b"")
    assert changed.content.decode().startswith('<div id="jobs"')


# --- Rights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["detail", "live", "log", "cancel"])
def test_a_strangers_team_and_job_do_not_exist(client, team, name):
    foreign, ours = JobFactory(), JobFactory(team=team)

    answers = [
        client.get(url(name, foreign)).status_code,
        client.get(reverse(f"jobs:{name}", args=[team.slug, foreign.job_id])).status_code,
        client.get(reverse(f"jobs:{name}", args=["no-such-team", ours.job_id])).status_code,
    ]

    assert answers == [404, 404, 404]
    assert client.get(url(name, ours)).status_code == 200


@pytest.mark.parametrize("name", ["detail", "live", "log", "cancel"])
def test_nobody_is_led_to_the_sign_in_page(client, name):
    address = url(name, JobFactory())

    response = client.get(address)

    assert (response.status_code, response["Location"]) == (302, f"{reverse('account_login')}?next={address}")


@pytest.mark.parametrize(
    ("role", "own", "status"), [("viewer", True, 403), ("researcher", False, 403), ("researcher", True, 302), ("lead", False, 302)]
)
def test_who_may_cancel(client, role, own, status):
    job = JobFactory(state=State.PENDING, started_at=None)
    membership = make_member(job, role)
    if own:
        Job.objects.filter(pk=job.pk).update(submitted_by=membership.user)
    client.force_login(membership.user)

    response = client.post(url("cancel", job))

    job.refresh_from_db()
    assert (response.status_code, job.state) == (status, State.CANCELLED if status == 302 else State.PENDING)


def test_a_viewer_gets_no_cancel_button(client):
    job = JobFactory()
    client.force_login(make_member(job, Role.VIEWER).user)

    assert url("cancel", job) not in page_of(client, url("detail", job))


@pytest.mark.parametrize(
    ("role", "shows_details", "is_own", "sees"),
    [
        (Role.RESEARCHER, True, False, True),
        (Role.RESEARCHER, False, False, False),
        (Role.VIEWER, False, False, False),
        (Role.RESEARCHER, False, True, True),
        (Role.LEAD, False, False, True),
        (Role.OWNER, False, False, True),
    ],
)
def test_details_of_others_are_hidden_where_the_team_says_so(client, role, shows_details, is_own, sees):
    team = TeamFactory(shows_details=shows_details)
    job = JobFactory(team=team, config={"validation_prompt": "a secret garden"}, error="died at garden.png")
    membership = make_member(job, role)
    if is_own:
        Job.objects.filter(pk=job.pk).update(submitted_by=membership.user)
    job.refresh_from_db()
    artifact = stored(job, key="garden.safetensors")
    say(job, "reading garden.png\n")
    job.series.create(step=1, loss=0.5)
    job.series.create(step=2, loss=0.4)
    job.events.create(cause="provider", detail="garden")
    client.force_login(membership.user)

    pages = page_of(client, url("detail", job)) + page_of(client, url("live", job))

    assert ("garden" in pages) is sees
    assert ("<polyline" in pages) is sees
    assert str(job.submitted_by) in pages
    assert client.get(url("log", job)).status_code == (200 if sees else 403)
    assert client.get(url("download", job, artifact.pk)).status_code == (302 if sees else 403)


# --- One job ---------------------------------------------------------------------------------------------------


def test_the_page_of_a_job_says_what_it_costs_and_when_it_stops(client, team):
    now = timezone.now()
    job = JobFactory(team=team, estimate_low=2 * USD, estimate_high=3 * USD, created_at_provider=now, started_at=now, submitted_at=now)
    hold_for(job, micros=4 * USD)

    page = page_of(client, url("detail", job))

    assert ["$2.00" in page, "$3.00" in page, "$4.00" in page, "Will be stopped" in page] == [True] * 4


def test_a_settled_job_shows_its_ledger_lines(client, team):
    job = JobFactory(team=team, state=State.COMPLETED, ended_at=timezone.now(), cost=1_250_000)
    hold_for(job, micros=4 * USD)
    billing.settle(job.hold, charge=1_250_000, now=timezone.now())

    page = page_of(client, url("detail", job))

    assert [page.count(f'title="{figure} USD"') for figure in ("4.000000", "1.250000", "2.750000")] == [2, 2, 1]


def test_the_wait_and_the_error_are_said(client, team):
    waiting = JobFactory(team=team, state=State.PENDING, started_at=None, waiting_reason="team_full")
    failed = JobFactory(team=team, state=State.FAILED, ended_at=timezone.now(), error="CUDA out of memory")

    assert "The team already runs as many jobs as it may." in page_of(client, url("detail", waiting))
    assert "CUDA out of memory" in page_of(client, url("detail", failed))


def test_settings_are_shown_as_written_and_secrets_are_not(client, team):
    job = JobFactory(team=team, config={"learning_rate": 0.0001, "hub_token": "hf_abcdef", "flags": ["a", "b"]})

    page = page_of(client, url("detail", job))

    shown = ["0.0001", "hub_token", "[&quot;a&quot;, &quot;b&quot;]", "hf_abcdef"]
    assert [text in page for text in shown] == [True, True, True, False]


def test_a_long_job_makes_a_light_page(client, team):
    job = JobFactory(team=team, progress__step=5000, progress__total_steps=5000)
    say(job, "".join(f"Epoch 1/1, Steps: 50%|##### | {step}/9000 [00:01<00:01, lr=1e-4, step_loss=0.1]\n" for step in range(5000)))
    assert job.series.count() > 500

    page = page_of(client, url("detail", job))

    assert len(page.encode()) < 200_000
    assert "Earlier lines" in page
    assert "| 4999/9000" in page


def test_pages_ask_as_often_for_a_long_story_as_for_a_short_one(client, team, django_assert_num_queries):
    short, long = JobFactory(team=team), JobFactory(team=team)
    for job, times in ((short, 1), (long, 5)):
        for number in range(times):
            job.events.create(cause="webhook", detail=f"event {number}")
            ArtifactFactory(job=job)
            job.series.create(step=number, loss=0.5)

    for job in (short, long):
        with django_assert_num_queries(21):
            page_of(client, url("detail", job))


@pytest.mark.parametrize("name", ["list", "detail", "live", "cancel"])
def test_no_page_carries_scripts_or_styles_of_its_own(client, team, name):
    job = JobFactory(team=team, progress__percent=40)
    address = team.get_absolute_url() if name == "list" else url(name, job)

    response = client.get(address)

    assert INLINE.findall(response.content.decode()) == []
    assert "default-src 'self'" in response["Content-Security-Policy"]


def test_looking_at_a_job_is_noted_at_most_every_few_seconds(client, team, time_machine):
    job = JobFactory(team=team)
    seen = []
    for second in (0, 2, 4, 6):
        time_machine.move_to(job.submitted_at + timedelta(seconds=second), tick=False)
        page_of(client, url("live", job))
        seen.append((JobProgress.objects.get(job=job).watched_at - job.submitted_at).total_seconds())

    assert seen == [0, 0, 0, 6]


# --- The timeline -----------------------------------------------------------------------------------------------


def lines_of(page):
    """The timeline's lines as text."""
    lines = page.split('class="timeline"')[1].split("</ol>")[0].split("<li>")[1:]
    return [" ".join(re.sub("<[^>]+>", " ", line).split()) for line in lines]


def test_each_of_the_providers_events_is_one_line_with_its_meaning(client, team, time_machine):
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    time_machine.move_to(noon + timedelta(hours=1), tick=False)
    job = JobFactory(team=team, state=State.COMPLETED, ended_at=noon + timedelta(minutes=9))
    job.events.create(state=State.PENDING, cause="submit", at=noon)
    job.events.create(state=State.RUNNING, cause="webhook", at=noon + timedelta(minutes=1))
    job.events.create(state=State.COMPLETED, cause="poll", at=noon + timedelta(minutes=9))
    for word, minute, last, times, deliveries, cause in [
        ("start", 1, 1, 1, 1, "webhook"),
        ("logs", 2, 5, 34, 30, "webhook"),
        ("output", 8, 8, 1, 0, "poll"),
        ("completed", 9, 9, 1, 0, "poll"),
    ]:
        job.provider_events.create(
            event=word,
            at=noon + timedelta(minutes=minute),
            last_at=noon + timedelta(minutes=last),
            times=times,
            deliveries=deliveries,
            cause=cause,
        )

    assert lines_of(page_of(client, url("detail", job))) == [
        "Waiting Nov 23, 12:00 UTC · submitted",
        "Running start Replicate began the run. Nov 23, 12:01 UTC · webhook",
        "logs The log grew. 34 times, last Nov 23, 12:05 UTC (30 webhooks) Nov 23, 12:02 UTC · webhook",
        "output The trainer named its result. Nov 23, 12:08 UTC · asked the provider",
        "Completed completed The run ended well. Nov 23, 12:09 UTC · asked the provider",
    ]


def test_an_event_whose_move_was_never_seen_has_a_line_of_its_own(client, team):
    now = timezone.now()
    job = JobFactory(team=team, state=State.FAILED, ended_at=now)
    job.events.create(state=State.FAILED, cause="poll", at=now)
    job.provider_events.create(event="start", at=now, last_at=now, times=1, cause="poll")
    job.provider_events.create(event="failed", at=now, last_at=now, times=1, cause="poll")

    lines = lines_of(page_of(client, url("detail", job)))

    assert sorted("The run ended with an error." in line for line in lines) == [False, True]
    assert sorted("Replicate began the run." in line for line in lines) == [False, True]


# --- Live parts --------------------------------------------------------------------------------------------------


def ask_again(client, page):
    """What htmx would ask next, and its answer."""
    address = re.search(r'<div id="live"[^>]*hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    return page_of(client, address, **{"HX-Request": "true"})


def log_of(page):
    """The lines of a log with their numbers."""
    return [(int(number), text) for number, text in re.findall(r'id="L(\d+)"><a[^>]*></a>([^<]*)</span>', page)]


def test_the_log_grows_by_what_is_new(client, team):
    job = JobFactory(team=team)
    say(job, "first line\n")
    page = page_of(client, url("detail", job))
    say(job, "first line\nsecond <line>\n")

    answer = ask_again(client, page)
    nothing_new = ask_again(client, answer)

    assert log_of(page) == [(1, "first line")]
    assert re.findall(r'hx-swap-oob="(beforeend:#log-lines)"', answer) == ["beforeend:#log-lines"]
    assert log_of(answer) == [(1, "first line"), (2, "second &lt;line&gt;")]
    assert ("#log-lines" in nothing_new, log_of(nothing_new)) == (False, [])


def test_a_bar_is_drawn_anew_and_a_line_that_goes_on_grows(client, team):
    job = JobFactory(team=team)
    text = "Loading\nEpoch 1/1 Steps:  10%|#   | 1/10 [00:01]\rEpoch 1/1 Steps:  20%|##  | 2/10 [00:02]"
    say(job, text)
    page = page_of(client, url("detail", job))
    say(job, f"{text}\rEpoch 1/1 Steps:  30%|### | 3/10 [00:03]\r")

    answer = ask_again(client, page)
    say(job, f"{text}\rEpoch 1/1 Steps:  30%|### | 3/10 [00:03]\r\nDone\n")
    after = ask_again(client, answer)

    assert log_of(page) == [(1, "Loading"), (3, "Epoch 1/1 Steps:  20%|##  | 2/10 [00:02]")]
    assert log_of(answer) == [(4, "Epoch 1/1 Steps:  30%|### | 3/10 [00:03]")]
    assert log_of(after) == [(4, "Epoch 1/1 Steps:  30%|### | 3/10 [00:03]"), (5, "Done")]


def test_a_long_log_has_pages_with_lines_to_link_to(client, team, monkeypatch):
    monkeypatch.setattr(log_page, "LINES_A_PAGE", 10)
    job = JobFactory(team=team)
    say(job, "".join(f"line {chr(64 + number)}\n" for number in range(1, 24)) + "rest")

    end, second, beyond = (page_of(client, url("whole_log", job) + query) for query in ("", "?line=12", "?line=999"))

    assert [number for number, _ in log_of(end)] == [21, 22, 23, 24] == [number for number, _ in log_of(beyond)]
    assert [number for number, _ in log_of(second)] == list(range(11, 21))
    assert re.findall(r'href="(\?line=[^"]+)"', second) == ["?line=10#L10", "?line=21#L21"]
    assert url("whole_log", job) in page_of(client, url("detail", job))


def test_a_log_is_searched_without_scripts(client, team, monkeypatch):
    monkeypatch.setattr(log_page, "MATCHES_A_PAGE", 2)
    job = JobFactory(team=team)
    say(job, "an <Error>\nfine\nerror again\nERROR\n")

    found = page_of(client, f"{url('whole_log', job)}?q=error")
    more = page_of(client, url("whole_log", job) + re.search(r'href="(\?q=[^"]+)"', found)[1].replace("&amp;", "&"))
    nothing = page_of(client, f"{url('whole_log', job)}?q=nowhere")

    assert log_of(found) == [(1, "an &lt;Error&gt;"), (3, "error again")]
    assert f'href="{url("whole_log", job)}?line=3#L3"' in found
    assert log_of(more) == [(4, "ERROR")]
    assert "No line has this text." in nothing


def test_only_the_parts_that_changed_are_sent(client, team, time_machine):
    time_machine.move_to(timezone.now(), tick=False)
    job = JobFactory(team=team)
    page = page_of(client, url("detail", job))

    quiet = ask_again(client, page)
    job.events.create(cause="webhook", detail="checkpoint 500")
    after_event = ask_again(client, quiet)

    assert re.findall(r'id="([a-z-]+)" hx-swap-oob', quiet) == []
    assert re.findall(r'id="([a-z-]+)" hx-swap-oob', after_event) == ["job-timeline"]


def test_a_new_state_is_announced_and_takes_the_cancel_button_away(client, team):
    job = JobFactory(team=team)
    page = page_of(client, url("detail", job))
    job.move_to(State.COMPLETED, cause="webhook", ended_at=timezone.now())

    answer = ask_again(client, page)

    assert '<div hx-swap-oob="innerHTML:#announcement">The job is now: completed</div>' in answer
    assert url("cancel", job) in page
    assert url("cancel", job) not in answer


def test_the_page_asks_until_everything_behind_the_end_is_done(client, team):
    job = JobFactory(team=team)
    page = page_of(client, url("detail", job))
    job.move_to(State.COMPLETED, cause="webhook", ended_at=timezone.now())

    ended = ask_again(client, page)
    Job.objects.filter(pk=job.pk).update(cleaned_up_at=timezone.now())
    done = ask_again(client, ended)

    assert ["hx-get" in answer for answer in (page, ended, done)] == [True, True, False]


@pytest.mark.parametrize("cursor", ["", "-1", "x", "9" * 30, "¼"])
def test_a_cursor_that_is_none_is_the_beginning(client, team, cursor):
    job = JobFactory(team=team)
    say(job, "first line\n")

    assert "first line" in page_of(client, f"{url('live', job)}?log={cursor}")


# --- Cancelling ----------------------------------------------------------------------------------------------------


def test_cancel_asks_first_and_says_what_will_be_paid(client, team, time_machine):
    time_machine.move_to(timezone.now(), tick=False)
    unsent = JobFactory(team=team, state=State.PENDING, started_at=None)
    sent = JobFactory(team=team, prediction_id="p1", started_at=timezone.now())
    hold_for(unsent, micros=4 * USD)
    hold_for(sent, micros=5 * USD)

    pages = page_of(client, url("cancel", unsent)), page_of(client, url("cancel", sent))

    assert "so nothing is paid" in pages[0]
    assert "$4.00 that are held for it come back" in pages[0]
    assert "about $0.00 so far" in pages[1]
    assert "never be more than the $5.00" in pages[1]
    assert Job.objects.filter(state=State.CANCELLED).count() == 0


def test_cancelling_what_is_over_says_so(client, team):
    job = JobFactory(team=team, state=State.COMPLETED, ended_at=timezone.now())

    response = client.post(url("cancel", job), follow=True)

    assert "This job is already over" in response.content.decode()
    assert Job.objects.get(pk=job.pk).state == State.COMPLETED


# --- Files and the log -----------------------------------------------------------------------------------------------


def test_a_file_opens_by_a_link_that_needs_no_sign_in(client, team):
    artifact = stored(JobFactory(team=team), b"the weights", key="final/pytorch_lora_weights.safetensors")

    link = client.get(url("download", artifact.job, artifact.pk))["Location"]
    client.logout()
    response = client.get(link)

    assert b"".join(response.streaming_content) == b"the weights"
    assert {name: response[name] for name in ("Content-Disposition", "X-Content-Type-Options", "Content-Length", "Content-Type")} == {
        "Content-Disposition": 'attachment; filename="pytorch_lora_weights.safetensors"',
        "X-Content-Type-Options": "nosniff",
        "Content-Length": "11",
        "Content-Type": "application/octet-stream",
    }


def test_a_file_is_streamed_by_an_asgi_server_too(client, team, async_client):
    link = downloads.link(stored(JobFactory(team=team), b"the weights"))

    async def fetch():
        response = await async_client.get(link)
        return response.is_async, [piece async for piece in response]

    assert async_to_sync(fetch)() == (True, [b"the weights"])


def test_a_link_that_is_too_old_leads_back_to_the_check(client, team, time_machine):
    artifact = stored(JobFactory(team=team))
    link = downloads.link(artifact)

    time_machine.move_to(timezone.now() + downloads.LIFE + timedelta(seconds=2))
    response = client.get(link)

    assert (response.status_code, response["Location"]) == (302, url("download", artifact.job, artifact.pk))


def test_links_that_we_did_not_make_open_nothing(client, team):
    artifact = stored(JobFactory(team=team))
    link = downloads.link(artifact)
    assert b"".join(client.get(link).streaming_content) == b"LoRA"

    for wrong in (link.replace("/files/", "/files/x"), link.replace(f"/t/{team.slug}/", f"/t/{TeamFactory().slug}/")):
        assert client.get(wrong).status_code == 404


def test_a_file_of_another_job_is_not_found_below_this_one(client, team):
    job, foreign = JobFactory(team=team), stored(JobFactory())

    assert client.get(url("download", job, foreign.pk)).status_code == 404


def test_a_file_that_is_gone_is_not_found(client, team):
    artifact = ArtifactFactory(job=JobFactory(team=team))

    assert client.get(downloads.link(artifact)).status_code == 404


def test_the_whole_log_is_a_text_file(client, team):
    job = JobFactory(team=team)
    say(job, "año 1\n" * 30_000)

    response = client.get(url("log", job))

    assert b"".join(response.streaming_content).decode() == "año 1\n" * 30_000
    assert response["Content-Disposition"] == f'attachment; filename="{job.job_id}.log"'
    assert response["Content-Type"] == "text/plain; charset=utf-8"


# --- The money bar -----------------------------------------------------------------------------------------------------


def test_the_money_bar_shows_the_limit_that_refuses_first(client, team):
    SpendLimitFactory(team=team, amount=100 * USD)
    SpendLimitFactory(team=team, amount=20 * USD, period="daily")
    SpendLimitFactory(team=team, amount=1 * USD, action="warn")
    hold_for(JobFactory(team=team, submitted_at=timezone.now()), micros=5 * USD)

    bar = page_of(client, team.get_absolute_url()).split('id="money-bar"')[1].split("</dl>")[0]

    assert re.findall(r"\$\d+\.\d\d", bar) == ["$0.00", "$5.00", "$15.00"]
    assert re.findall(r'width="(\d+)"', bar) == ["0", "25"]


def test_of_the_platforms_limit_a_team_sees_only_what_is_left(client, team):
    SpendLimitFactory(scope="platform", team=None, amount=20 * USD)
    hold_for(JobFactory(submitted_at=timezone.now()), micros=5 * USD)

    bar = page_of(client, team.get_absolute_url()).split('id="money-bar"')[1].split("</dl>")[0]

    assert re.findall(r"\$\d+\.\d\d", bar) == ["$15.00"]


def test_a_team_without_a_limit_is_told_so(client, team):
    assert "No spend limit is set" in page_of(client, team.get_absolute_url())


def test_the_sandbox_is_marked_on_every_page(client, team, settings):
    settings.REPLICATE_BASE_URL = "http://127.0.0.1:9999"
    marked = page_of(client, team.get_absolute_url())
    settings.REPLICATE_BASE_URL = "https://api.replicate.com"
    unmarked = page_of(client, team.get_absolute_url())

    assert ("sandbox-mark" in marked, "sandbox-mark" in unmarked) == (True, False)
