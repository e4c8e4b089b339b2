"""Estimates by a team's own runs: which of them count, that form, API and admission say the same, and that the range holds."""

import random
from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.errors import InvalidInput
from billing import pricebook
from billing.models import Hold, PriceLine
from jobs.models import Job, ProviderSettings, Trainer
from jobs.replicate import predictions
from jobs.services import ending, experience, provider_settings
from jobs.states import State
from tests.billing.factories import USD
from tests.factories import MembershipFactory, TeamFactory
from tests.jobs.factories import SUBMITTED_AT, completed
from tests.jobs.ready import CONFIG, NAMED, caller_of, catalogue

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    catalogue()
    return TeamFactory()


def l40s():
    return Trainer.objects.get(profile="advanced-trainer"), PriceLine.objects.get(hardware="gpu-l40s")


def run(team, *, seconds=1000, **fields):
    """A run that is like one of CONFIG on the usual trainer, unless said otherwise."""
    trainer, line = l40s()
    return completed(team, seconds=seconds, **{"trainer": trainer, "price_line": line, **fields})


def likely(team, *, steps=1000, **config):
    trainer, line = l40s()
    return experience.likely(team, trainer=trainer, price_line=line, config=CONFIG | config, steps=steps)


# --- Which runs count ----------------------------------------------------------------------------------------------


def test_five_runs_that_are_like_it_make_the_estimate(team):
    for number in range(5):
        before = likely(team).runs
        run(team, seconds=1000 + number)

    after = likely(team)

    assert (before, after.runs, after.seconds) == (0, 5, 1002)
    assert after.source == "From 5 of your own runs on 1x L40S with the same model, resolution and batch."


@pytest.mark.parametrize(
    ("other", "likeness"),
    [
        ({}, "on 1x L40S with the same model, resolution and batch"),
        ({"images_a_step": 8}, "on gpu-l40s with the same model and resolution"),
        ({"resolution": "1024 pixel"}, "on gpu-l40s with the same model"),
    ],
)
def test_what_is_most_like_it_counts_first_and_less_likeness_is_said(team, other, likeness):
    run(team)
    for _ in range(5):
        run(team, **other)

    estimate = likely(team)

    assert estimate.source == f"From 6 of your own runs {likeness}."


def test_another_trainer_on_the_same_hardware_is_like_it_as_well(team):
    twin = Trainer.objects.create(profile="twin", model="a/b", label="Twin", hardware="gpu-l40s", hardware_type="L40S")
    for _ in range(5):
        run(team, trainer=twin)

    assert likely(team).source == "From 5 of your own runs on gpu-l40s with the same model, resolution and batch."


@pytest.mark.parametrize(
    "other",
    [
        {"model_family": "sdxl"},
        {"model_kind": "full"},
        {"provider": "sandbox"},
        {"steps": 100},
        {"steps": 10_000},
    ],
)
def test_what_is_not_alike_does_not_count(team, other):
    for _ in range(6):
        run(team, **other)

    assert likely(team).runs == 0


def test_runs_of_other_teams_and_other_hardware_failed_ones_and_those_without_a_hold_do_not_count(team):
    _, h100 = l40s()[0], PriceLine.objects.get(hardware="gpu-h100")
    for _ in range(5):
        run(TeamFactory())
        run(team, price_line=h100)
        Job.objects.filter(pk=run(team).pk).update(state=State.FAILED)
        Job.objects.filter(pk=run(team).pk).update(hold=None)

    assert likely(team).runs == 0


def test_a_price_that_rises_makes_the_next_run_dearer_and_not_the_history_wrong(team):
    for _ in range(5):
        run(team)
    trainer, line = l40s()
    before = likely(team)
    dearer = PriceLine.objects.create(hardware="gpu-l40s", usd_per_second=line.usd_per_second * 2, effective_from=timezone.now())

    after = experience.likely(team, trainer=trainer, price_line=dearer, config=CONFIG, steps=1000)

    assert (after.runs, after.high, after.high_seconds) == (5, before.high * 2, before.high_seconds)


def test_an_estimate_is_one_query_however_much_was_run(team, django_assert_num_queries):
    for number in range(8):
        run(team, resolution=f"{number} pixel")
    trainer, line = l40s()

    with django_assert_num_queries(1):
        experience.likely(team, trainer=trainer, price_line=line, config=CONFIG, steps=1000)


# --- One answer everywhere -----------------------------------------------------------------------------------------


def test_form_api_and_admission_say_the_same(ready, client):
    ProviderSettings.objects.create(team=ready.team, data_consent="allow")
    for seconds in (900, 950, 1000, 1050, 1100, 1150):
        run(ready.team, seconds=seconds, steps=20)
    client.force_login(ready.member.user)

    page = client.get(reverse("jobs:new", args=[ready.team.slug]))
    said = ready.post({"config": CONFIG}, path="/api/cloud/cost-estimate").json()
    ready.post({"config_name_to_load": NAMED})

    plan, job = page.context["quote"].plan, Job.objects.select_related("hold").get(state=State.PENDING)
    source = "From 6 of your own runs on 1x L40S with the same model, resolution and batch."
    assert [plan.estimate.source, said["message"], job.estimate_source] == [source] * 3
    assert [plan.estimate.low, said["estimated_cost_low_usd_micros"], job.estimate_low] == [plan.estimate.low] * 3
    assert [plan.estimate.high, said["estimated_cost_usd_micros"], job.estimate_high] == [plan.estimate.high] * 3
    assert [plan.worst_case, said["worst_case_usd_micros"], job.hold.amount] == [plan.worst_case] * 3
    assert [plan.ceiling_seconds, said["ceiling_seconds"], job.ceiling_seconds] == [plan.ceiling_seconds] * 3
    # Twice the upper end, in whole minutes.
    assert plan.ceiling_seconds >= 2 * plan.estimate.high_seconds > plan.ceiling_seconds - 60
    assert source in page.content.decode()


def test_a_job_remembers_what_makes_it_like_others(ready):
    job = ready.submit()

    assert (job.model_family, job.model_kind, job.resolution, job.images_a_step) == ("flux", "lora", "512 pixel", 1)


# --- The price is pinned -------------------------------------------------------------------------------------------


def test_a_price_that_changes_after_the_submission_changes_nothing_for_the_job(ready):
    job = ready.submit(max_seconds=3600)
    held = job.hold.amount
    PriceLine.objects.create(hardware="gpu-l40s", usd_per_second=Decimal("0.5"), effective_from=timezone.now())

    said = b'{"id": "p", "status": "succeeded", "metrics": {"predict_time": 1000}, "started_at": "2026-11-23T12:00:00Z"}'
    Job.objects.filter(pk=job.pk).update(state=State.RUNNING)
    job.refresh_from_db()
    ending.conclude(job, predictions.parse(said), State.COMPLETED, cause="poll")

    job.refresh_from_db()
    assert (job.price_line.usd_per_second, job.cost) == (Decimal("0.000975"), round(1000 * 0.000975 * USD))
    assert Hold.objects.get().amount == held == round(3660 * 0.000975 * USD)
    assert ready.submit(max_seconds=3600).hold.amount == 3660 * USD // 2


def test_a_line_that_bills_all_instance_time_is_charged_and_remembered_by_it(ready):
    PriceLine.objects.create(
        hardware="gpu-l40s", usd_per_second=Decimal("0.001"), billed_time="instance", effective_from=timezone.now() - timedelta(seconds=1)
    )
    job = ready.submit()
    Job.objects.filter(pk=job.pk).update(state=State.RUNNING)
    job.refresh_from_db()

    ending.conclude(
        job, predictions.parse(b'{"id": "p", "status": "succeeded", "metrics": {"predict_time": 100, "total_time": 160}}'),
        State.COMPLETED, cause="poll",
    )  # fmt: skip

    job.refresh_from_db()
    assert (job.billed_seconds, job.cost) == (160, 160_000)


def test_hardware_without_a_price_is_refused_by_api_and_page_and_never_guessed(ready, client):
    ProviderSettings.objects.create(team=ready.team, data_consent="allow")
    Trainer.objects.filter(profile="advanced-trainer").update(hardware="gpu-b200")
    client.force_login(ready.member.user)

    answer = ready.post({"config_name_to_load": NAMED})
    estimate = ready.post({"config": CONFIG}, path="/api/cloud/cost-estimate")
    page = client.get(reverse("jobs:new", args=[ready.team.slug])).content.decode()

    sentence = "The price book has no price for the hardware 'gpu-b200', so a job on it cannot be admitted."
    assert [(each.status_code, each.json()["detail"]) for each in (answer, estimate)] == [(422, sentence)] * 2
    assert sentence.replace("'", "&#x27;") in page
    assert (Job.objects.count(), Hold.objects.count()) == (0, 0)
    with pytest.raises(pricebook.UnknownHardware):
        pricebook.line_for(hardware="gpu-b200", on=timezone.now())


# --- Whether the range holds ---------------------------------------------------------------------------------------


def test_on_a_replayed_history_the_range_holds_the_real_cost_of_four_jobs_in_five(team):
    rng = random.Random(7)
    families = {"flux": 1.4, "sdxl": 0.6}
    held = seen = 0
    for number in range(150):
        family, pixels = rng.choice(list(families)), rng.choice([512, 1024])
        steps, images = rng.choice([500, 1000, 2000]), rng.choice([1, 2])
        a_step = families[family] * (pixels / 512) ** 1.3 * images**0.7
        seconds = round((rng.uniform(150, 350) + a_step * steps) * rng.lognormvariate(0, 0.12), 3)

        # Each job is estimated only from those before it.
        estimate = likely(team, steps=steps, model_family=family, resolution=pixels, train_batch_size=images)
        if estimate.runs:
            held += estimate.low <= seconds * 975 <= estimate.high
            seen += 1
        run(
            team, seconds=seconds, steps=steps, model_family=family, resolution=f"{pixels} pixel", images_a_step=images,
            ended_at=SUBMITTED_AT + timedelta(hours=number),
        )  # fmt: skip

    assert seen > 100
    assert held / seen >= 0.8


# --- Times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "team_minutes", "asked", "outcome"),
    [
        (1440, None, None, 1800),
        (1440, None, 86_400, 86_400),
        (1440, None, 86_401, "max_seconds must lie between 60 and 86400."),
        (60, None, 3601, "max_seconds must lie between 60 and 3600."),
        (60, 30, 3600, "max_seconds must lie between 60 and 1800."),
        (20, 60, None, 1200),
        (20, 60, 1201, "max_seconds must lie between 60 and 1200."),
        (1440, None, 59, "max_seconds must lie between 60 and 86400."),
    ],
)
def test_the_ceiling_is_bounded_by_a_day_the_platform_and_the_team(ready, settings, platform, team_minutes, asked, outcome):
    settings.MAX_RUNTIME_MINUTES = platform
    ProviderSettings.objects.create(team=ready.team, max_runtime_minutes=team_minutes)

    said = ready.post({"config_name_to_load": NAMED, "max_seconds": asked}).json()

    assert (said["detail"] if "detail" in said else Job.objects.get().ceiling_seconds) == outcome


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        (None, 3600),
        (600, 600),
        (3600, 3600),
        (3601, "stop_after_seconds must lie between 60 and the job's ceiling, 3600."),
        (59, "stop_after_seconds must lie between 60 and the job's ceiling, 3600."),
    ],
)
def test_a_stop_time_may_be_asked_for_up_to_the_ceiling_and_holds_no_less(ready, asked, outcome):
    said = ready.post({"config_name_to_load": NAMED, "max_seconds": 3600, "stop_after_seconds": asked}).json()

    if "detail" in said:
        assert (said["detail"], said["field"]) == (outcome, "stop_after_seconds")
    else:
        job = Job.objects.select_related("hold").get()
        assert (job.stop_after_seconds, job.ceiling_seconds, job.hold.amount) == (outcome, 3600, round(3660 * 0.000975 * USD))


def test_a_run_that_will_hardly_be_done_in_time_is_admitted_with_a_warning(ready):
    said = ready.post({"config": CONFIG | {"max_train_steps": 1000}, "dataset": "houses", "max_seconds": 3600}).json()

    assert said["quota_warnings"] == ["It may well take 68 minutes, and is stopped after 60. Allow it more time, or fewer steps."]


def test_a_team_may_set_no_more_than_the_platform_allows(ready, settings):
    settings.MAX_RUNTIME_MINUTES = 90

    with pytest.raises(InvalidInput, match="max_runtime_minutes must be a whole number between 1 and 90"):
        provider_settings.save(caller_of(MembershipFactory(team=ready.team)), {"max_runtime_minutes": 91})
