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
        ({"queue_secs": 1}, "There is no rule 'queue_secs'; there are queue_seconds, "),
        ({"webhooks": "maybe"}, "webhooks takes send | drop."),
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


def test_rules_survive_a_restart(tmp_path, open_account):
    sandbox = servers.Sandbox(tmp_path, speed=1)
    open_account(sandbox, "stable").rule(schema_variant="six", times=2)
    sandbox.kill()

    again = servers.Sandbox(tmp_path, speed=1)
    rules = again.control("settings").json()["rules"]

    assert rules == [{"scope": "stable", "schema_variant": "six", "times": 2}]
    again.stop()


def test_old_data_is_purged_by_itself(tmp_path, open_account):
    sandbox = servers.Sandbox(tmp_path, speed=3600)
    account = open_account(sandbox)
    sandbox.control("settings", purge_seconds=0)
    account.rule(queue_seconds=0)

    done = account.finish(servers.inputs())

    give_up = servers.time.monotonic() + 10
    while not (found := account.get(done))["data_removed"]:
        assert servers.time.monotonic() < give_up
        servers.time.sleep(0.05)
    assert (found["input"], found["logs"], found["status"], found["error"]) == ({}, "", done["status"], done["error"])
    sandbox.stop()
