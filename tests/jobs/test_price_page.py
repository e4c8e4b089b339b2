"""The page of prices, the form's times, and continuing a job in a new one."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.roles import Role
from billing.models import PriceLine
from jobs.models import Job, ProviderSettings, Trainer
from jobs.models.job import Link
from jobs.submit_page import typical_costs
from tests.billing.factories import USD
from tests.factories import MembershipFactory, TeamFactory
from tests.jobs.ready import NAMED, catalogue
from tests.pages import INLINE

pytestmark = pytest.mark.django_db


@pytest.fixture
def team(client):
    catalogue()
    member = MembershipFactory(role=Role.VIEWER)
    client.force_login(member.user)
    return member.team


def page_of(client, team):
    response = client.get(reverse("jobs:prices", args=[team.slug]))
    assert response.status_code == 200
    return response.content.decode()


def test_every_member_reads_what_each_hardware_costs_since_when_and_who_says_so(client, team):
    PriceLine.objects.filter(hardware="gpu-h100").delete()
    PriceLine.objects.create(
        hardware="gpu-h100", usd_per_second=Decimal("0.001525"), effective_from=timezone.now() - timedelta(days=2), source="a contract"
    )

    page = page_of(client, team)

    assert "$0.001525" in page
    assert "$5.49" in page
    assert "a contract" in page
    assert "Time that the model runs" in page
    assert INLINE.findall(page) == []


def test_a_price_to_come_is_announced_and_not_in_force(client, team):
    before = page_of(client, team)
    PriceLine.objects.create(hardware="gpu-l40s", usd_per_second=Decimal("0.002"), effective_from=timezone.now() + timedelta(days=2))

    after = page_of(client, team)

    assert ("Prices to come" in before, "Prices to come" in after, "$0.002" in after, "$0.000975" in after) == (False, True, True, True)


def test_without_any_price_the_page_says_what_that_means(client, team):
    PriceLine.objects.all().delete()

    assert "so no job can be submitted" in page_of(client, team)


def test_the_table_that_ships_is_shown_as_it_is_documented(client, team):
    rows = [
        (row["kind"], row["family"], row["steps"], row["is_least"], row["duration"], row["low"], row["high"]) for row in typical_costs()
    ]

    assert rows == [
        ("LoRA", "Flux", 1000, False, "30–60 min", 2 * USD, 4 * USD),
        ("LoRA", "Flux", 2000, False, "1–2 h", 4 * USD, 8 * USD),
        ("LoRA", "SDXL", 2000, False, "45–90 min", 3 * USD, 6 * USD),
        ("Full fine-tune", "", 5000, True, "4–12 h", 15 * USD, 50 * USD),
    ]
    assert "5,000+" in page_of(client, team)


def test_the_page_asks_as_often_for_many_prices_as_for_few(client, team, django_assert_num_queries):
    page_of(client, team)
    with django_assert_num_queries(10) as few:
        page_of(client, team)
    for number in range(3):
        PriceLine.objects.create(hardware=f"gpu-{number}", usd_per_second=Decimal("0.1"), effective_from=timezone.now())
        Trainer.objects.create(profile=f"p{number}", model="a/b", label="x", hardware=f"gpu-{number}", hardware_type="x")

    with django_assert_num_queries(len(few)):
        page_of(client, team)


def test_strangers_see_no_prices(client, team):
    assert client.get(reverse("jobs:prices", args=[TeamFactory().slug])).status_code == 404


# --- The form --------------------------------------------------------------------------------------------------------


@pytest.fixture
def form(ready, client):
    """Sends the form of a new job."""
    client.force_login(ready.member.user)
    ProviderSettings.objects.create(team=ready.team, data_consent="allow")

    def send(**fields):
        asked = {"config_name": NAMED, "key": "form-1", "agreed": 100 * USD, **fields}
        return client.post(reverse("jobs:new", args=[ready.team.slug]), asked)

    return send


def test_the_form_takes_a_stop_time_below_the_run_time_limit(form):
    checked = form(max_minutes="60", stop_minutes="30", check="1").content.decode()
    form(max_minutes="60", stop_minutes="30")

    job = Job.objects.get()
    assert "We stop it after 30 min, unless somebody moves that while it runs." in checked
    assert (job.ceiling_seconds, job.stop_after_seconds) == (3600, 1800)


def test_a_stop_time_beyond_the_limit_is_refused_at_its_field(form):
    answer = form(max_minutes="60", stop_minutes="61")

    assert list(answer.context["form"].errors) == ["stop_minutes"]
    assert not Job.objects.exists()


def test_a_job_is_continued_in_a_new_one_that_is_linked_and_says_where_it_begins(form, client, ready):
    first = ready.submit(run_name="spring")

    page = client.get(reverse("jobs:new", args=[ready.team.slug]), {"continue": first.job_id})
    text = page.content.decode()
    fields = {name: value for name, value in page.context["form"].initial.items() if isinstance(value, str)}
    form(**fields | {"config_name": "", "config_json": '{"model_family": "flux", "model_type": "lora", "max_train_steps": 20}'})

    job = Job.objects.exclude(pk=first.pk).get()
    assert "<h1>Continue a job</h1>" in text
    assert "It trains from its first step on: a trainer at Replicate begins with an empty disk" in text
    assert (job.parent, job.link, job.run_name) == (first, Link.CONTINUE, "spring")
    assert job.hold != first.hold


def test_running_again_is_no_continuing(form, client, ready):
    first = ready.submit()

    page = client.get(reverse("jobs:new", args=[ready.team.slug]), {"from": first.job_id})
    form(from_job=first.job_id)

    assert "Continue a job" not in page.content.decode()
    assert Job.objects.exclude(pk=first.pk).get().link == Link.RERUN
