"""Resource rules at submit: what a job uses by the names that rules know it by."""

import pytest

from accounts.models import AuditLine, ResourceRule
from accounts.roles import Role
from jobs.models import Job
from tests.factories import MembershipFactory, make_token
from tests.jobs.ready import NAMED

BODY = {"config_name_to_load": NAMED}


def deny(team, resource_type, pattern):
    """Let researchers use everything but what fits the pattern: there is no other rule."""
    ResourceRule.objects.create(team=team, name="r", resource_type=resource_type, pattern=pattern, action="deny", roles=["researcher"])


def allow(team, resource_type, pattern):
    ResourceRule.objects.create(team=team, name="r", resource_type=resource_type, pattern=pattern, action="allow", roles=["researcher"])


@pytest.mark.parametrize(
    ("kind", "pattern"), [("config", "sdxl-*"), ("hardware", "*h100*"), ("provider", "other"), ("output_path", "acme/*")]
)
def test_a_job_beyond_the_rules_is_refused_and_nothing_held(ready, kind, pattern):
    allow(ready.team, kind, pattern)

    answer = ready.post(BODY)

    assert (answer.status_code, answer.json()["code"], answer.json()["details"]["resource_type"]) == (403, "resource_denied", kind)
    assert (Job.objects.count(), ready.team.holds.count()) == (0, 0)
    assert AuditLine.objects.filter(event_type="job.refused").get().after == {"code": "resource_denied"}


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [("config", "flux-*"), ("hardware", "gpu-l40s"), ("hardware", "*L40S*"), ("provider", "replicate"), ("output_path", "local")],
)
def test_a_job_within_the_rules_is_admitted(ready, kind, pattern):
    allow(ready.team, kind, pattern)

    assert ready.post(BODY).status_code == 200


def test_an_owner_skips_the_rules(ready):
    deny(ready.team, "config", "*")
    _, key = make_token(MembershipFactory(team=ready.team, role=Role.OWNER))

    assert (ready.post(BODY).status_code, ready.post(BODY, key=key).status_code) == (403, 200)
