import json
import subprocess
import sys

import pytest

from jobs.sandbox.rules import RULES

from . import servers


def test_help_describes_every_rule(account):
    text = account.sandbox.control("help").text

    assert [name for name in RULES if f"  {name}" not in text] == []


def test_the_page_shows_clocks_accounts_and_predictions(account):
    account.rule(queue_seconds=100_000)
    created = account.create(servers.inputs())

    page = account.sandbox.control("").text

    assert "simulated clock" in page
    assert account.name in page
    assert created["id"] in page


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"queue_secs": 1}, "There is no rule 'queue_secs'; there are queue_length, "),
        ({"webhooks": "maybe"}, "webhooks takes send | drop | double | reorder | stale | bad_signature | wrong_secret."),
        ({"queue_seconds": -1}, "queue_seconds takes number."),
        ({"queue_seconds": 1, "times": 0}, "times must be a whole number from 1 on."),
        ({"queue_seconds": 1, "account": "nobody"}, "There is no such account; "),
        ({"times": 1}, "Name at least one rule: "),
    ],
)
def test_a_mistaken_rule_is_explained(account, asked, sentence):
    answer = account.sandbox.control("settings", **asked)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith(sentence)


def test_the_nearest_rule_wins_and_lifting_it_uncovers_the_next(tmp_path, open_account):
    sandbox = servers.Sandbox(tmp_path, speed=3600)
    account = open_account(sandbox)

    def newest():
        return account.version()["cog_version"]

    plain = newest()
    sandbox.control("settings", schema_variant="six")
    everybodys = newest()
    account.rule(schema_variant="none")
    own = newest()
    account.rule(schema_variant=None)
    lifted = newest()
    reset = sandbox.control("reset", account=account.token)
    sandbox.control("settings", schema_variant=None)

    assert [plain, everybodys, own, lifted, newest()] == ["0.21.0", "0.18.0", "0.16.12", "0.18.0", "0.21.0"]
    assert reset.json() == {"lifted": 0}
    sandbox.stop()


def test_a_rule_may_be_for_one_prediction(account, receiver):
    account.rule(queue_seconds=100_000)
    silent, heard = (account.create(servers.inputs(), webhook=receiver.url, webhook_events_filter=["completed"]) for _ in range(2))
    assert account.sandbox.control("settings", prediction=silent["id"], webhooks="drop").status_code == 200

    for each in (silent, heard):
        account.http.post(f"/v1/predictions/{each['id']}/cancel")

    assert receiver.next().json["id"] == heard["id"]
    assert receiver.all() == []


def form(to, what, **fields):
    return servers.httpx.post(f"{to.sandbox.url}/control/form/{what}", data=fields, trust_env=False)


def test_the_pages_form_sets_and_lifts_rules(account):
    set_ = form(account, "settings", account=account.name, prediction="", times="2", call_status="503", schema_variant="six")
    found = [each for each in account.sandbox.control("settings").json()["rules"] if each["scope"] == account.name]
    form(account, "settings", account=account.name, call_status="default")
    lifted = form(account, "reset", account=account.name)

    assert (set_.status_code, set_.headers["location"]) == (303, "/control/")
    assert found == [
        {"scope": account.name, "call_status": 503, "times": 2},
        {"scope": account.name, "schema_variant": "six", "times": 2},
    ]
    assert lifted.status_code == 303
    assert account.name not in [each["scope"] for each in account.sandbox.control("settings").json()["rules"]]


@pytest.mark.parametrize("way", ["form", "command"])
def test_tokens_of_both_kinds_are_let_in(account, way):
    replicates, hubs = f"r8_{account.name}{way}".ljust(40, "1"), f"hf_{account.name}{way}".ljust(37, "1")

    for token in (replicates, hubs):
        if way == "form":
            form(account, "tokens", token=token, account=account.name, role="read")
        else:
            command(account, "tokens", f"token={token}", f"account={account.name}", "role=read")

    bearer = {"Authorization": f"Bearer {replicates}"}
    assert servers.httpx.get(f"{account.sandbox.url}/v1/account", headers=bearer, trust_env=False).json()["username"] == account.name
    bearer = {"Authorization": f"Bearer {hubs}"}
    found = servers.httpx.get(f"{account.sandbox.hub_url}/api/whoami-v2", headers=bearer, trust_env=False).json()
    assert (found["name"], found["auth"]["accessToken"]["role"]) == (account.name, "read")


def test_the_page_has_a_field_for_every_rule(account):
    page = account.sandbox.control("").text

    assert [name for name in RULES if f'name="{name}"' not in page] == []


def test_the_page_explains_a_mistake(account):
    answer = form(account, "settings", account=account.name, queue_seconds="<b>many</b>")

    assert answer.status_code == 400
    assert '<p role="alert">queue_seconds takes number.</p>' in answer.text


def test_forms_of_other_sites_are_not_taken(account):
    foreign = {"Sec-Fetch-Site": "cross-site"}

    answer = servers.httpx.post(f"{account.sandbox.url}/control/form/reset", headers=foreign, trust_env=False)

    assert answer.status_code == 400


def command(account, *words):
    program = [sys.executable, "-m", "jobs.sandbox.control", "--url", account.sandbox.url, *words]
    return subprocess.run(program, cwd=servers.ROOT, capture_output=True, text=True, timeout=servers.PATIENCE_SECONDS, check=False)


def test_the_command_tells_the_sandbox_what_to_do(account):
    done = command(account, "set", "fail=out_of_memory", f"account={account.name}", "times=1")

    rules = [each for each in json.loads(done.stdout)["rules"] if each["scope"] == account.name]
    assert (done.returncode, done.stderr) == (0, "")
    assert rules == [{"scope": account.name, "fail": "out_of_memory", "times": 1}]
    assert account.name in command(account, "show", "accounts").stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["set", "fail=sometimes"], "fail takes out_of_memory | "),
        (["set", "fail"], "'fail' is not of the form NAME=VALUE."),
        (["destroy"], "There is no command 'destroy'; there are\nset RULE=VALUE"),
    ],
)
def test_the_command_explains_a_mistake(account, words, sentence):
    done = command(account, *words)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(sentence)


@pytest.mark.parametrize(
    ("profile", "keys", "webhook_status", "unpacked"),
    [("realistic", True, 201, "succeeded"), ("sparse", False, 201, "succeeded"), ("strict", True, 422, "failed")],
)
def test_a_profile_is_a_set_of_other_defaults(tmp_path, open_account, profile, keys, webhook_status, unpacked):
    sandbox = servers.Sandbox(tmp_path, speed=3600, profile=profile)
    account = open_account(sandbox)
    images = account.upload(servers.archive("a_cat.jpg"))["urls"]["get"]

    done = account.finish(servers.inputs(images=images))
    account.rule(queue_seconds=100_000)
    waiting = account.create(servers.inputs())
    body = {"version": account.version()["id"], "input": servers.inputs(), "webhook": "http://127.0.0.1:9/"}
    near = account.http.post("/v1/predictions", json=body)

    assert ("output" in waiting, near.status_code, done["status"]) == (keys, webhook_status, unpacked)
    sandbox.stop()


def test_rules_survive_a_restart(tmp_path, open_account):
    sandbox = servers.Sandbox(tmp_path, speed=1)
    open_account(sandbox, "stable").rule(schema_variant="six", times=2)
    sandbox.kill()

    again = servers.Sandbox(tmp_path, speed=1)
    rules = again.control("settings").json()["rules"]

    assert rules == [{"scope": "stable", "schema_variant": "six", "times": 2}]
    again.stop()


def test_29_old_data_is_purged_by_itself(tmp_path, open_account):
    sandbox = servers.Sandbox(tmp_path, speed=3600)
    account = open_account(sandbox)
    sandbox.control("settings", purge_seconds=0)
    account.rule(queue_seconds=0)

    done = account.finish(servers.inputs())

    servers.until(lambda: account.get(done)["data_removed"])
    found = account.get(done)
    assert (found["input"], found["logs"], found["status"], found["error"]) == ({}, "", done["status"], done["error"])
    sandbox.stop()
