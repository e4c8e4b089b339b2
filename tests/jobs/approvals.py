"""Jobs that wait for an approval, and people who may give it."""

from typing import Any

from accounts.models import Membership
from accounts.roles import Role
from jobs.models import ApprovalRequest, ApprovalRule, Job
from tests.factories import MembershipFactory
from tests.jobs.ready import Ready, caller_of


def rule(team: Any, condition: str = "cost_exceeds", threshold: str = "0", **fields: Any) -> ApprovalRule:
    """A rule of a team, or of the platform's for None; unless said it asks about everything that costs."""
    return ApprovalRule.objects.create(team=team, **{"name": "Ask", "condition": condition, "threshold": threshold, **fields})


def blocked(ready: Ready, **asked: Any) -> ApprovalRequest:
    """The request of a job that the member submitted, in a team that asks about everything."""
    if not ready.team.approval_rules.exists():
        rule(ready.team)
    job = ready.submit(**asked)
    assert job.state == "blocked"
    return request_of(job)


def request_of(job: Job) -> ApprovalRequest:
    return ApprovalRequest.objects.select_related("job__team", "job__hold", "job__submitted_by", "job__trainer", "rule").get(job=job)


def member(ready: Ready, role: str = Role.LEAD, **fields: Any) -> Membership:
    return MembershipFactory(team=ready.team, role=role, **fields)


def caller(ready: Ready, role: str = Role.LEAD) -> Any:
    """Somebody else in the team."""
    return caller_of(member(ready, role))
