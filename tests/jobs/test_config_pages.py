"""The pages of a team's configs, and where the other pages lead to them."""

import json

import pytest
from django.urls import reverse

from accounts.models import AuditLine
from accounts.roles import Role
from jobs.models import ActiveConfig, TrainingConfig
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory
from tests.jobs.ready import CONFIG, DATASET, NAMED
from tests.pages import INLINE

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(client):
    member = MembershipFactory(role=Role.RESEARCHER)
    client.force_login(member.user)
    return member


@pytest.fixture
def team(member):
    return member.team


@pytest.fixture
def config(member):
    return make(member)


def make(member, name=NAMED, **more):
    return TrainingConfig.objects.create(team=member.team, name=name, config=CONFIG, created_by=member.user, **more)


def address(name, team, *args):
    return reverse(f"jobs:{name}", args=[team.slug, *args])


def read(client, name, team, *args, **query):
    answer = client.get(address(name, team, *args), query)
    assert answer.status_code == 200
    page = answer.content.decode()
    assert INLINE.findall(page) == []
    return page


def asked(**more):
    return {"name": "new", "description": "", "tags": "", "dataset": "", "config": json.dumps(CONFIG), **more}


def test_an_empty_form_has_an_empty_field_for_the_config_and_keeps_what_was_typed_there(client, member, team):
    empty = client.get(address("config_new", team)).context["form"]
    odd = '{"learning_rate":   0.0000000001, "steps": 1e400}'

    kept = client.post(address("config_new", team), asked(config=odd)).context["form"]

    assert (empty["config"].value(), str(empty["config"]).count("null")) == ("", 0)
    assert "&quot;learning_rate&quot;:   0.0000000001, &quot;steps&quot;: 1e400}" in str(kept["config"])


def test_an_empty_list_says_what_a_config_is(client, member, team):
    page = read(client, "configs", team)

    assert ["No configs yet" in page, address("config_new", team) in page] == [True, True]


@pytest.mark.parametrize("count", [1, 3])
def test_the_list_shows_what_each_is_with_a_fixed_number_of_questions(client, member, team, count, django_assert_num_queries):
    for number in range(count):
        make(member, f"config {number}", tags=["style"], description="of houses")
    read(client, "configs", team)

    with django_assert_num_queries(8):
        page = read(client, "configs", team)

    assert page.count('class="job-name"') == count
    assert ["of houses" in page, "flux" in page, '<td class="table-number">20</td>' in page, str(member.user) in page] == [True] * 4


def test_a_config_shows_its_settings_and_what_a_submission_would_say(client, member, team, config):
    good = read(client, "config", team, config.pk)
    TrainingConfig.objects.update(config={**CONFIG, "lerning_rate": 1})
    bad = read(client, "config", team, config.pk)

    assert ["learning_rate" in good, f"?config_name={NAMED}" in good, "Unknown config key" in good] == [True, True, False]
    assert "Unknown config key &#x27;lerning_rate&#x27;. Did you mean &#x27;learning_rate&#x27;?" in bad


def test_a_config_is_made_on_the_page(client, member, team):
    form = read(client, "config_new", team)

    answer = client.post(address("config_new", team), asked(tags="a, b", description="one"))

    kept = TrainingConfig.objects.get()
    assert ("sdxl-lora" in form, answer["Location"]) == (True, address("config", team, kept.pk))
    assert (kept.config, kept.tags, kept.description, kept.created_by) == (CONFIG, ["a", "b"], "one", member.user)


def test_a_template_fills_the_form(client, member, team):
    page = read(client, "config_new", team, template="sdxl-lora")

    assert ["stable-diffusion-xl-base-1.0" in page, 'value="sdxl-lora"' in page] == [True, True]
    assert client.get(address("config_new", team), {"template": "none"}).status_code == 404


def test_a_jobs_settings_become_a_config(client, ready):
    job = ready.submit(run_name="spring")
    client.force_login(ready.member.user)

    job_page = client.get(job.get_absolute_url()).content.decode()
    page = read(client, "config_new", ready.team, **{"from": job.job_id})

    assert f"{address('config_new', ready.team)}?from={job.job_id}" in job_page
    chosen = f'<option value="{ready.version.dataset_id}" selected>{DATASET}</option>'
    assert ["&quot;max_train_steps&quot;: 20" in page, 'value="spring"' in page, chosen in page] == [True] * 3
    assert client.get(address("config_new", ready.team), {"from": JobFactory().job_id}).status_code == 404


def test_a_job_that_is_hidden_lends_nobody_its_settings(client, member, team):
    team.shows_details = False
    team.save()
    job = JobFactory(team=team)

    assert client.get(address("config_new", team), {"from": job.job_id}).status_code == 403


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({**CONFIG, "lerning_rate": 1}, "Unknown config key &#x27;lerning_rate&#x27;."),
        ({**CONFIG, "hub_token": "hf_secret"}, "&#x27;hub_token&#x27; holds a secret"),
        ("{", "Enter a valid JSON."),
        ("", "Paste the settings here."),
        ([1], "This must be a JSON object."),
        ({**CONFIG, "dataloader_config": [{"caption": "\0"}]}, "The dataloader holds a character"),
        ({**CONFIG, "seed": float("nan")}, "&#x27;seed&#x27; must be a whole number"),
    ],
)
def test_what_is_wrong_is_said_at_the_settings_and_they_are_kept_for_mending(client, member, team, config, sentence):
    written = config if isinstance(config, str) else json.dumps(config)

    page = client.post(address("config_new", team), asked(config=written)).content.decode()

    field = page.split('id="id_config"')[1]
    assert (sentence in field, TrainingConfig.objects.exists()) == (True, False)


def test_each_problem_has_its_own_sentence(client, member, team):
    page = client.post(address("config_new", team), asked(config='{"model_family": "flx", "lerning_rate": 1}')).content.decode()

    assert ["cannot be &#x27;flx&#x27;" in page, "lerning_rate" in page.split('class="errorlist"')[1]] == [True, True]


def test_a_name_that_is_there_is_said_at_the_name(client, member, team, config):
    page = client.post(address("config_new", team), asked(name=NAMED)).content.decode()

    assert "The team has a config named &#x27;flux-lora&#x27; already." in page.split('id="id_description"')[0]


def test_a_config_is_edited_whole_or_not_at_all(client, member, team, config):
    make(member, "taken")
    page = read(client, "config_edit", team, config.pk)

    refused = client.post(address("config_edit", team, config.pk), asked(name="taken", tags="x"))
    config.refresh_from_db()
    assert (refused.status_code, config.tags, config.name) == (200, [], NAMED)
    answer = client.post(
        address("config_edit", team, config.pk), asked(name="better", config=json.dumps({**CONFIG, "max_train_steps": 30}))
    )

    config.refresh_from_db()
    assert ("&quot;max_train_steps&quot;: 20" in page, answer["Location"]) == (True, address("config", team, config.pk))
    assert (config.name, config.config["max_train_steps"]) == ("better", 30)


def test_a_configs_dataset_is_chosen_on_its_page(client, ready):
    client.force_login(ready.member.user)
    TrainingConfig.objects.update(dataset=None, created_by=ready.member.user)
    config = TrainingConfig.objects.get()

    client.post(address("config_edit", ready.team, config.pk), asked(name=NAMED, dataset=ready.version.dataset_id))

    config.refresh_from_db()
    assert config.dataset == ready.version.dataset
    line = AuditLine.objects.get(event_type="config.changed")
    assert (line.before, line.after) == ({"dataset": None}, {"dataset": DATASET})


def test_a_config_is_copied_and_deleted_after_a_question(client, member, team, config):
    assert 'value="flux-lora-2"' in read(client, "config_copy", team, config.pk)
    client.post(address("config_copy", team, config.pk), {"name": "second"})
    question = read(client, "config_delete", team, config.pk)
    assert TrainingConfig.objects.count() == 2

    answer = client.post(address("config_delete", team, config.pk))

    assert ("Delete flux-lora?" in question, answer["Location"]) == (True, address("configs", team))
    assert [row.name for row in TrainingConfig.objects.all()] == ["second"]


def test_the_config_that_a_person_chose_is_where_new_jobs_begin(client, ready):
    client.force_login(ready.member.user)
    other = TrainingConfig.objects.create(team=ready.team, name="zebra", config=CONFIG)
    before = read(client, "new", ready.team)

    page = client.post(address("config_activate", ready.team, other.pk), follow=True).content.decode()

    assert f'<option value="{NAMED}" selected>' in before
    assert ["New jobs begin with zebra now." in page, "used by default" in page, "Use by default" in page] == [True, True, False]
    assert '<option value="zebra" selected>' in read(client, "new", ready.team)
    assert f'<option value="{NAMED}" selected>' in read(client, "new", ready.team, config_name=NAMED)
    assert "used by default" in read(client, "configs", ready.team)


def test_others_configs_can_be_read_and_copied_and_not_changed(client, member, team):
    config = make(MembershipFactory(team=team))

    page = read(client, "config", team, config.pk)

    offered = [address(name, team, config.pk) in page for name in ("config_copy", "config_activate", "config_edit", "config_delete")]
    assert offered == [True, True, False, False]
    for name in ("config_edit", "config_delete"):
        assert [client.get(address(name, team, config.pk)).status_code, client.post(address(name, team, config.pk)).status_code] == [
            403
        ] * 2
    assert TrainingConfig.objects.exists()


def test_a_lead_changes_everybodys(client, member, team):
    config = make(MembershipFactory(team=team))
    client.force_login(MembershipFactory(team=team, role=Role.LEAD).user)

    client.post(address("config_delete", team, config.pk))

    assert not TrainingConfig.objects.exists()


def test_a_viewer_reads_and_chooses(client, member, team, config):
    client.force_login(MembershipFactory(team=team, role=Role.VIEWER).user)

    page, listed = read(client, "config", team, config.pk), read(client, "configs", team)
    client.post(address("config_activate", team, config.pk))

    assert [word in page + listed for word in ("New config", "New job with it", "Edit", "Copy", "Delete…")] == [False] * 5
    assert client.get(address("config_new", team)).status_code == 403
    assert ActiveConfig.objects.get().config == config


@pytest.mark.parametrize("name", ["config", "config_edit", "config_copy", "config_delete", "config_activate"])
def test_a_foreign_config_is_not_there(client, member, team, name):
    foreign = make(MembershipFactory())

    assert client.post(address(name, team, foreign.pk)).status_code in (404, 405)
    assert client.get(address(name, team, foreign.pk)).status_code in (404, 405)
    assert client.get(address(name, foreign.team, foreign.pk)).status_code == 404
    assert TrainingConfig.objects.exists()
