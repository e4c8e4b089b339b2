"""What needs more than a person to answer: a token's own limits, and whether the caller's token at the provider is good."""

import pytest

from accounts.roles import Scope
from billing.models import LimitScope
from tests.billing.factories import SpendLimitFactory
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs.ready import post

VALIDATE = "/api/users/me/credentials/validate"


def test_a_token_reads_its_own_limits(client, db):
    token, key = make_token(MembershipFactory(), scopes=[Scope.READ])
    SpendLimitFactory(scope=LimitScope.TOKEN, team=token.team, token=token, amount=5_000_000)

    said = client.get("/api/users/me", headers={"X-API-Key": key}).json()

    assert [(limit["scope"], limit["limit"], limit["used"]) for limit in said["token"]["limits"]] == [("token", "5.000000", "0.000000")]


@pytest.mark.parametrize("body", ["", {"provider": "replicate", "credential_name": "api_token"}])
@pytest.mark.parametrize("ending", ["", "/"])
def test_the_token_that_the_callers_jobs_use_is_asked_about(at_provider, body, ending):
    teams = at_provider.post(body, path=VALIDATE + ending).json()
    CredentialFactory(team=at_provider.team, user=at_provider.member.user, secret="r8_" + "x" * 37)
    own = at_provider.post(body, path=VALIDATE + ending).json()

    assert (teams["valid"], type(teams["username"]), teams["token_source"], teams["error"]) == (True, str, "team", None)
    assert (own["valid"], own["token_source"], type(own["error"])) == (False, "user", str)


def test_without_a_token_and_for_another_provider(db, settings):
    settings.REPLICATE_API_TOKEN = ""
    _, key = make_token(MembershipFactory())

    none, other = post(VALIDATE, {}, key=key), post(VALIDATE, {"provider": "runpod"}, key=key)

    assert (none.status_code, none.json()["valid"], none.json()["token_source"]) == (200, False, None)
    assert (other.status_code, other.json()["field"], post(VALIDATE, {}).status_code) == (400, "provider", 401)
