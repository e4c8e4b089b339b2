"""Making, changing, choosing and moving configs, in the shapes of SimpleTuner's API."""

import pytest
from django.test import Client

from accounts.models import AuditLine
from accounts.roles import Role, Scope
from jobs.models import Job, TrainingConfig
from jobs.services.checking import check
from jobs.states import State
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs.ready import CONFIG, DATASET, NAMED

CONFIGS = "/api/configs"
RECOMMENDED = "/api/cloud/publishing/enable-recommended"
HOSTED = [{"id": "data", "type": "huggingface", "dataset_name": "acme/houses"}]
SECRET = "hf_" + "x" * 34


@pytest.fixture
def call(client):
    def send(member, method, path, body=None, *, scopes=None):
        _, key = make_token(member, scopes=scopes)
        more = {} if method == "get" else {"content_type": "application/json"}
        return getattr(client, method)(path, body or {}, headers={"Authorization": f"Bearer {key}"}, **more)

    return send


@pytest.fixture
def member(db):
    return MembershipFactory(role=Role.RESEARCHER)


@pytest.fixture
def config(member):
    return TrainingConfig.objects.create(team=member.team, name=NAMED, config=CONFIG, created_by=member.user)


def mate(member, role=Role.RESEARCHER):
    return MembershipFactory(team=member.team, role=role)


# --- Making -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_config_is_made_and_read_as_it_was_sent(call, member, ending):
    asked = {
        "name": "sdxl run",
        "config": {**CONFIG, "--seed": 1, "dataloader_config": HOSTED},
        "description": "one",
        "tags": ["a", "b", "a"],
    }

    answer = call(member, "post", CONFIGS + ending, asked)

    kept = TrainingConfig.objects.get()
    assert (answer.status_code, answer.json()) == (201, call(member, "get", f"{CONFIGS}/sdxl%20run").json())
    assert sorted(answer.json()) == ["config", "config_type", "metadata", "name"]
    assert answer.json()["config"] == {**CONFIG, "seed": 1, "dataloader_config": HOSTED}
    assert (kept.team, kept.created_by, kept.config, kept.dataloader, kept.tags) == (
        member.team, member.user, {**CONFIG, "seed": 1}, HOSTED, ["a", "b"],
    )  # fmt: skip
    assert answer.json()["metadata"]["created_by"] == member.user.username
    line = AuditLine.objects.get(event_type="config.created")
    assert (line.team, line.action, line.after["config"]["seed"]) == (member.team, "Made the config sdxl run", 1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", "name"), ({"name": "a"}, "config"), ({"name": 3, "config": CONFIG}, "name"), ({"name": "a", "config": [CONFIG]}, "config"),
        ({"name": "a", "config": CONFIG, "tags": "x"}, "tags"), ({"name": "a", "config": CONFIG, "tags": [""]}, "tags"),
        ({"name": "a", "config": CONFIG, "description": ["x"]}, "description"),
        ({"name": "a", "config": CONFIG, "description": "x" * 501}, "description"),
        ({"name": "a", "config": {**CONFIG, "lerning_rate": 1}}, "config.lerning_rate"),
        ({"name": "a", "config": {**CONFIG, "max_train_steps": 0, "num_train_epochs": 3}}, "config.max_train_steps"),
        ({"name": "a", "config": {**CONFIG, "dataloader_config": "x"}}, "config.dataloader_config"),
    ],
)  # fmt: skip
def test_what_is_no_config_is_refused_at_its_key(call, member, body, field):
    answer = call(member, "post", CONFIGS, body)

    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert not TrainingConfig.objects.exists()


@pytest.mark.parametrize("name", ["../etc", "a/b", ".hidden", "-rf", "a" * 129, "templates", "Active", "a\tb", "what?"])
def test_a_name_that_no_file_should_have_is_refused(call, member, name):
    answer = call(member, "post", CONFIGS, {"name": name, "config": CONFIG})

    assert (answer.status_code, answer.json()["field"]) == (400, "name")


@pytest.mark.parametrize(
    "config",
    [
        {**CONFIG, "hub_token": "x"}, {**CONFIG, "validation_prompt": f"a {SECRET}"}, {**CONFIG, "output_dir": f"/tmp/{SECRET}"},
        {**CONFIG, "dataloader_config": [{"id": "x", "type": "aws", "aws_secret_access_key": "k"}]},
        {**CONFIG, "dataloader_config": [{"id": SECRET}]},
    ],
)  # fmt: skip
def test_a_secret_is_not_kept_and_not_repeated(call, member, config):
    answer = call(member, "post", CONFIGS, {"name": "a", "config": config})

    assert (answer.status_code, answer.json()["code"], SECRET in answer.content.decode()) == (400, "invalid_config", False)
    assert not TrainingConfig.objects.exists()
    assert not AuditLine.objects.filter(event_type__startswith="config").exists()


def test_everything_that_is_wrong_is_told_at_once(call, member):
    answer = call(member, "post", CONFIGS, {"name": "a", "config": {"model_family": "flx", "lerning_rate": 1}})

    assert [problem["field"] for problem in answer.json()["errors"]] == ["config.model_family", "config.lerning_rate"]


def test_a_name_is_there_once_in_a_team(call, member, config):
    again = call(member, "post", CONFIGS, {"name": NAMED, "config": CONFIG})
    elsewhere = call(MembershipFactory(), "post", CONFIGS, {"name": NAMED, "config": CONFIG})

    assert (again.status_code, again.json()["code"], elsewhere.status_code) == (409, "duplicate", 201)


def test_only_models_have_configs_here(call, member, config):
    answers = [
        call(member, "post", f"{CONFIGS}?config_type=webhook", {}),
        call(member, "put", f"{CONFIGS}/{NAMED}?config_type=dataloader", {}),
    ]

    assert [(answer.status_code, answer.json()["field"]) for answer in answers] == [(422, "config_type")] * 2


# --- Changing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_config_is_changed_and_its_jobs_stay_as_they_were(ready, ending):
    job = ready.submit()
    TrainingConfig.objects.update(created_by=ready.member.user)

    answer = put(ready, f"{CONFIGS}/{NAMED}{ending}", {"config": {**CONFIG, "max_train_steps": 30}, "tags": ["new"]})

    kept = TrainingConfig.objects.get()
    assert (answer.status_code, answer.json()["config"]["max_train_steps"], answer.json()["metadata"]["dataset"]) == (200, 30, DATASET)
    assert (kept.config["max_train_steps"], kept.tags, Job.objects.get(pk=job.pk).config["max_train_steps"]) == (30, ["new"], 20)
    line = AuditLine.objects.get(event_type="config.changed")
    assert line.before == {"tags": [], "config": {"max_train_steps": 20}}
    assert line.after == {"tags": ["new"], "config": {"max_train_steps": 30}}


def put(ready, path, body):
    return Client().put(path, body, content_type="application/json", headers={"Authorization": f"Bearer {ready.key}"})


def test_the_same_again_leaves_no_trace(call, member, config):
    call(member, "put", f"{CONFIGS}/{NAMED}", {"config": CONFIG})

    assert not AuditLine.objects.filter(event_type="config.changed").exists()


def test_a_dataloader_takes_the_place_of_a_dataset(ready):
    TrainingConfig.objects.update(created_by=ready.member.user)

    put(ready, f"{CONFIGS}/{NAMED}", {"config": {**CONFIG, "dataloader_config": HOSTED}})

    kept = TrainingConfig.objects.get()
    assert (kept.dataset, kept.dataloader) == (None, HOSTED)


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_config_is_renamed_copied_and_deleted(call, member, config, ending):
    renamed = call(member, "post", f"{CONFIGS}/{NAMED}/rename{ending}", {"new_name": "other"})
    copied = call(mate(member), "post", f"{CONFIGS}/other/copy{ending}", {"target_name": "mine"})
    taken = [
        call(member, "post", f"{CONFIGS}/other/rename", {"new_name": "mine"}),
        call(member, "post", f"{CONFIGS}/other/copy", {"target_name": "mine"}),
    ]
    deleted = call(member, "delete", f"{CONFIGS}/other{ending}")

    assert [(answer.status_code, answer.json()["name"]) for answer in (renamed, copied)] == [(200, "other"), (200, "mine")]
    assert copied.json()["config"] == CONFIG
    assert [(answer.status_code, answer.json()["code"]) for answer in taken] == [(409, "duplicate")] * 2
    assert (deleted.status_code, deleted.json()) == (200, {"success": True, "message": "Config 'other' was deleted."})
    assert [row.name for row in TrainingConfig.objects.all()] == ["mine"]
    assert call(member, "delete", f"{CONFIGS}/other").json()["code"] == "config_not_found"
    told = list(AuditLine.objects.filter(event_type__startswith="config").order_by("sequence").values_list("action", flat=True))
    assert told == ["Renamed flux-lora to the config other", "Copied other to the config mine", "Deleted the config other"]


def test_a_config_of_a_waiting_job_may_go(ready):
    TrainingConfig.objects.update(created_by=ready.member.user)
    job = ready.submit()

    answer = Client().delete(f"{CONFIGS}/{NAMED}", headers={"Authorization": f"Bearer {ready.key}"})

    job.refresh_from_db()
    assert (answer.status_code, job.state, job.config["model_family"]) == (200, State.PENDING, "flux")


# --- Who may ------------------------------------------------------------------------------------------------

CHANGES = [
    ("put", "", {"config": CONFIG}, "config.edit"),
    ("delete", "", None, "config.delete"),
    ("post", "/rename", {"new_name": "x"}, "config.edit"),
]


@pytest.mark.parametrize(("method", "path", "body", "permission"), CHANGES)
def test_others_configs_are_changed_by_leads_and_owners_only(call, member, config, method, path, body, permission):
    def ask(who, **options):
        return call(who, method, f"{CONFIGS}/{NAMED}{path}", body, **options)

    refused = [ask(mate(member)), ask(mate(member, Role.VIEWER)), ask(member, scopes=[Scope.SUBMIT])]
    assert [answer.status_code for answer in refused] == [403] * 3
    assert [answer.json()["details"]["required_permission"] for answer in refused] == [
        f"{permission}.all", f"{permission}.own", f"{permission}.own",
    ]  # fmt: skip
    assert ask(MembershipFactory()).json()["code"] == "config_not_found"
    assert ask(mate(member, Role.LEAD)).status_code == 200


def test_making_configs_is_for_researchers(call, member, config, client):
    viewer, body = mate(member, Role.VIEWER), {"name": "x", "config": CONFIG}
    paths = [CONFIGS, f"{CONFIGS}/import", f"{CONFIGS}/from-template", f"{CONFIGS}/{NAMED}/copy"]

    answers = [call(viewer, "post", path, body) for path in paths]

    assert [answer.json()["details"] for answer in answers] == [{"required_permission": "config.create"}] * 4
    assert [client.post(path, body, content_type="application/json").status_code for path in paths] == [401] * 4


@pytest.mark.parametrize(("method", "path"), [("post", "/copy"), ("post", "/activate"), ("get", "/export"), ("get", "")])
def test_foreign_configs_are_not_there(call, member, config, method, path):
    answer = call(MembershipFactory(), method, f"{CONFIGS}/{NAMED}{path}", {"target_name": "x"})

    assert (answer.status_code, answer.json()["code"]) == (404, "config_not_found")


# --- Choosing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_person_chooses_a_config_to_begin_with(call, member, config, ending):
    viewer = mate(member, Role.VIEWER)
    none = call(viewer, "get", f"{CONFIGS}/active{ending}")

    chosen = call(viewer, "post", f"{CONFIGS}/{NAMED}/activate{ending}", "")

    assert (none.status_code, none.json()["code"]) == (404, "config_not_found")
    assert (chosen.status_code, chosen.json()) == (200, {"success": True, "name": NAMED})
    active = call(viewer, "get", f"{CONFIGS}/active{ending}").json()
    assert (sorted(active), active["config"]) == (["config", "metadata", "name"], CONFIG)
    listed, names = call(viewer, "get", CONFIGS).json(), call(viewer, "get", "/api/cloud/available-configs").json()
    assert (listed["active"], listed["configs"][0]["is_active"]) == (NAMED, True)
    assert names == {"configs": [{"name": NAMED, "is_active": True}], "active_config": NAMED}
    assert call(member, "get", CONFIGS).json()["active"] is None


def test_a_choice_is_replaced_by_the_next_and_goes_with_its_config(call, member, config):
    other = TrainingConfig.objects.create(team=member.team, name="other", config=CONFIG)
    for name in (NAMED, "other"):
        call(member, "post", f"{CONFIGS}/{name}/activate", "")

    assert call(member, "get", f"{CONFIGS}/active").json()["name"] == "other"
    other.delete()
    assert call(member, "get", f"{CONFIGS}/active").status_code == 404


@pytest.mark.parametrize("ending", ["", "/"])
def test_publishing_as_recommended_is_set_in_the_active_config(call, member, config, ending):
    without = call(member, "post", RECOMMENDED + ending, "")
    call(member, "post", f"{CONFIGS}/{NAMED}/activate", "")

    answer = call(member, "post", RECOMMENDED + ending, "")

    settings = {"push_to_hub": True, "push_checkpoints_to_hub": True, "push_to_hub_background": True}
    assert (without.status_code, without.json()["code"]) == (409, "no_active_config")
    assert (answer.status_code, answer.json()["success"], answer.json()["settings"]) == (200, True, settings)
    config.refresh_from_db()
    assert config.config == {**CONFIG, **settings}
    assert call(mate(member, Role.VIEWER), "post", RECOMMENDED, "").json()["details"] == {"required_permission": "config.edit.own"}


def test_anothers_active_config_is_not_changed_by_the_recommendation(call, member, config):
    colleague = mate(member)
    call(colleague, "post", f"{CONFIGS}/{NAMED}/activate", "")

    assert call(colleague, "post", RECOMMENDED, "").status_code == 403


def test_a_config_that_pushes_is_submitted_with_a_repository_and_not_without(ready):
    CredentialFactory(team=ready.team, kind="huggingface", secret=SECRET)
    TrainingConfig.objects.update(config={**CONFIG, "push_to_hub": True, "push_checkpoints_to_hub": True})

    without = ready.post({"config_name_to_load": NAMED})
    to_hub = ready.post({"config_name_to_load": NAMED, "hub_model_id": "acme/lora"})

    assert (without.status_code, without.json()["field"]) == (400, "config.push_to_hub")
    assert (to_hub.status_code, to_hub.json()["quota_warnings"]) == (200, [])
    assert "push_to_hub" not in Job.objects.get().config
    assert ready.post(path=f"{CONFIGS}/{NAMED}/validate").json()["warnings"] == [
        "The config pushes to the Hugging Face Hub: name the repository in 'hub_model_id' when you submit a job with it."
    ]


# --- Moving -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["templates", "examples", "templates/"])
def test_the_templates_are_configs_that_a_submission_takes(call, member, path):
    said = call(member, "get", f"{CONFIGS}/{path}").json()

    assert said["count"] == len(said["templates"]) >= 4
    assert {"name", "description", "model_family", "model_type"} <= set(said["templates"][0])
    assert [template["name"] for template in said["templates"] if not check(template["config"]).is_valid] == []


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_config_is_made_from_a_template(call, member, ending):
    answer = call(member, "post", f"{CONFIGS}/from-template{ending}", {"template_name": "sdxl-lora", "config_name": "mine"})
    none = call(member, "post", f"{CONFIGS}/from-template{ending}", {"template_name": "other", "config_name": "x"})

    assert (answer.status_code, answer.json()["name"], answer.json()["config"]["model_family"]) == (200, "mine", "sdxl")
    assert (none.status_code, none.json()["field"]) == (404, "template_name")
    assert call(member, "post", f"{CONFIGS}/from-template", "").json()["field"] == "template_name"


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_export_is_what_another_teams_import_takes(call, member, config, ending):
    TrainingConfig.objects.update(tags=["a"], description="one")
    taken = call(member, "get", f"{CONFIGS}/{NAMED}/export{ending}").json()
    bare = call(member, "get", f"{CONFIGS}/{NAMED}/export", {"include_metadata": "false"}).json()
    there = MembershipFactory()

    answer = call(there, "post", f"{CONFIGS}/import{ending}", {"data": taken})

    assert (sorted(taken), bare["metadata"]) == (["config", "metadata", "name"], {})
    assert (answer.status_code, answer.json()["name"], answer.json()["config"]) == (200, NAMED, CONFIG)
    kept = there.team.configs.get()
    assert (kept.tags, kept.description, kept.created_by) == (["a"], "one", there.user)


def test_an_import_replaces_only_when_it_is_told_to(call, member, config):
    body = {"data": {**CONFIG, "max_train_steps": 77}, "name": NAMED}

    first = call(member, "post", f"{CONFIGS}/import", body)
    colleague = call(mate(member), "post", f"{CONFIGS}/import", {**body, "overwrite": True})
    second = call(member, "post", f"{CONFIGS}/import", {**body, "overwrite": True})

    assert (first.status_code, colleague.status_code, second.status_code) == (409, 403, 200)
    assert TrainingConfig.objects.get().config["max_train_steps"] == 77


@pytest.mark.parametrize(
    ("body", "field"), [("", "data"), ({"data": CONFIG}, "name"), ({"data": CONFIG, "name": "x", "overwrite": "y"}, "overwrite")]
)
def test_an_import_of_nothing_is_refused(call, member, body, field):
    answer = call(member, "post", f"{CONFIGS}/import", body)

    assert (answer.status_code, answer.json()["field"]) == (400, field)
