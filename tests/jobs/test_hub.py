"""The Hub as it answers: whose token it is, what lies in a repository, and what is in the way."""

import hashlib
import json

import pytest

from accounts.models import Credential
from jobs.destinations.errors import BadKey, Forbidden, Missing, Refused, Unreachable
from jobs.destinations.hub import Hub
from jobs.destinations.shelf import File, beginning, digest
from jobs.outbound import Outbound
from jobs.services import hub as hub_service
from tests.factories import CredentialFactory, MembershipFactory
from tests.jobs import elsewhere
from tests.jobs.ready import caller_of
from tests.jobs.sandbox.servers import free_port

TOKEN = "hf_" + "x" * 34
SHA = "c" * 40


def at(service, *, outbound=Outbound(timeout_seconds=5), token=TOKEN):  # noqa: B008
    return Hub(endpoint=service if isinstance(service, str) else service.url, token=token, outbound=outbound)


def answer(body, status=200, **headers):
    return status, body if isinstance(body, str) else json.dumps(body), {name.replace("_", "-"): value for name, value in headers.items()}


def test_a_large_file_comes_with_its_hash_and_a_small_one_is_read():
    listed = [
        {"type": "file", "path": "w.safetensors", "oid": "a" * 40, "size": 9, "lfs": {"oid": "b" * 64, "size": 900, "pointerSize": 9}},
        {"type": "directory", "path": "samples", "oid": "0" * 40, "size": 0},
    ]
    more = [{"type": "file", "path": "samples/a b.txt", "oid": "d" * 40, "size": 4}]
    with elsewhere.answering() as service:
        service.script += [
            answer({"sha": SHA}),
            answer(listed, Link=f'<{service.url}/api/models/acme/lora/tree/{SHA}?cursor=2>; rel="next"'),
            answer(more),
            answer("text"),
        ]
        with at(service) as hub:
            repository = hub.repository("https://huggingface.co/acme/lora/")
            large, small = repository.files()
            hashes = [digest(repository, file) for file in (large, small)]

    assert (large.key, large.size_bytes, small.key) == ("w.safetensors", 900, "samples/a b.txt")
    assert hashes == ["b" * 64, hashlib.sha256(b"text").hexdigest()]
    assert [path for _, path in service.asked] == [
        "/api/models/acme/lora",
        f"/api/models/acme/lora/tree/{SHA}?recursive=true&expand=false",
        f"/api/models/acme/lora/tree/{SHA}?cursor=2",
        f"/acme/lora/resolve/{SHA}/samples/a%20b.txt",
    ]


def test_a_repository_without_an_owner_is_ones_own():
    with elsewhere.answering(answer({"name": "ana", "type": "user"}), answer({"sha": SHA})) as service, at(service) as hub:
        assert hub.repository("lora").name == "ana/lora"


def test_the_token_goes_to_the_hub_alone():
    with elsewhere.answering(answer("x" * 20)) as store, elsewhere.answering() as service:
        service.script += [answer({"sha": SHA}), answer("", 302, Location=f"{store.url}/large")]
        with at(service) as hub:
            repository = hub.repository("acme/lora")
            assert beginning(repository, File(key="w", size_bytes=20, tag=""), 8) == b"x" * 8

    assert [headers.get("Authorization") for headers in service.headers] == [f"Bearer {TOKEN}"] * 2
    assert [(headers.get("Authorization"), headers.get("Range")) for headers in store.headers] == [(None, "bytes=0-7")]


def test_a_list_that_goes_on_elsewhere_is_not_followed():
    with elsewhere.answering() as service:
        service.script += [answer({"sha": SHA}), answer([], Link='<http://elsewhere.example/2>; rel="next"')]
        with at(service) as hub, pytest.raises(Unreachable, match="goes on at another host"):
            list(hub.repository("acme/lora").files())


@pytest.mark.parametrize(
    ("said", "kind", "says"),
    [
        (answer("", 401), BadKey, "The Hub does not accept the token (401)."),
        (answer("", 401, X_Error_Code="RepoNotFound"), Missing, "The Hub has no repository acme/lora, or the token may not see it (401)."),
        (answer("", 404), Missing, "The Hub has no repository acme/lora, or the token may not see it (404)."),
        (answer("", 403, X_Error_Code="GatedRepo"), Forbidden, "The token may not read acme/lora (403)."),
        (answer("", 429), Unreachable, "The Hub does not answer properly for now (429)."),
        (answer("<html>", 502), Unreachable, "The Hub does not answer properly for now (502)."),
        (answer("", 407), Unreachable, "The outbound proxy wants another user name or password."),
        (answer("<html>"), Unreachable, "The Hub's answer cannot be read: it is not the JSON that was expected."),
        (answer([]), Unreachable, "The Hub's answer cannot be read: it is not the JSON that was expected."),
        (answer({}), Unreachable, "The Hub's repository cannot be read: it is not the JSON that was expected."),
        (answer("", 302, Location="/api/models/acme/lora"), Unreachable, "The Hub leads on from address to address without an end."),
    ],
)
def test_every_no_has_a_plain_reason(said, kind, says):
    with elsewhere.answering(said) as service, at(service) as hub, pytest.raises(kind) as error:
        hub.repository("acme/lora")

    assert str(error.value) == says


def test_nobody_there_silence_and_bad_settings_are_worth_another_try(silent):
    with at(f"http://127.0.0.1:{free_port()}") as gone, pytest.raises(Unreachable, match="cannot be reached"):
        gone.account()
    with at(silent, outbound=Outbound(timeout_seconds=0.2)) as hub, pytest.raises(Unreachable, match="does not answer in time"):
        hub.account()
    with pytest.raises(Unreachable, match="see the outbound network settings") as error:
        at("https://hub.example", outbound=Outbound(proxy_url="gopher://me:secret@proxy"))
    with pytest.raises(Refused, match="'no/such/name' is not the name of a repository"), at(silent) as hub:
        hub.repository("no/such/name")

    assert "secret" not in str(error.value)


def test_the_teams_proxy_carries_the_call():
    with elsewhere.answering(answer({"name": "ana"})) as proxy:
        hub = at("http://hub.example.invalid", outbound=Outbound(proxy_url=proxy.url))

        assert hub.account().username == "ana"

    assert proxy.asked == [("GET", "http://hub.example.invalid/api/whoami-v2")]


# --- The team's token -------------------------------------------------------------------------------------------


@pytest.fixture
def caller(db):
    return caller_of(MembershipFactory())


@pytest.fixture
def at_hub(provider_process, settings):
    """The Hub, and a token there for each role."""
    settings.HF_ENDPOINT = provider_process.hub_url

    def token(role):
        text = f"hf_{role}".ljust(37, "0")
        assert provider_process.control("tokens", token=text, account="ana", role=role).status_code == 201
        return text

    return token


@pytest.mark.parametrize(("role", "may_write"), [("write", True), ("fineGrained", True), ("read", False)])
def test_a_token_is_asked_about_when_it_is_saved(caller, at_hub, role, may_write):
    found = hub_service.save_token(caller, at_hub(role))

    saved = Credential.objects.get()
    assert (found.valid, found.error) == (may_write, "" if may_write else hub_service.READ_ONLY)
    assert (saved.health, saved.health_reason, saved.account_username) == ("good", found.error, "ana")


def test_a_token_that_the_hub_does_not_know_is_marked(caller, at_hub):
    found = hub_service.save_token(caller, TOKEN)

    assert (found.valid, Credential.objects.get().health) == (False, "refused")
    assert found.error == "The Hub does not accept this token. It may have been revoked; make a new one there."


def test_a_hub_that_cannot_be_asked_changes_nothing(caller, settings):
    settings.HF_ENDPOINT = f"http://127.0.0.1:{free_port()}"
    without = hub_service.validate(caller)
    CredentialFactory(team=caller.team, kind="huggingface", secret=TOKEN, health="good")

    found = hub_service.validate(caller)

    assert (without.valid, without.error) == (False, hub_service.NOT_SET)
    assert (found.valid, found.error) == (False, "The Hub could not be asked: The Hub cannot be reached, or the connection broke off.")
    assert Credential.objects.get().health == "good"
