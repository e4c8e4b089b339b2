"""The platform's approval rules in the administration, and what is only shown there."""

import pytest
from django.urls import reverse

from accounts.models import AuditLine
from jobs.models import ApprovalRule
from tests.factories import TeamFactory, UserFactory
from tests.jobs.approvals import blocked, rule
from tests.signing_in import sign_in

ADD = reverse("admin:jobs_approvalrule_add")
FORM = {"name": "Dear", "condition": "cost_exceeds", "threshold": "50.00", "required_role": "lead", "priority": "3", "is_active": "on"}


@pytest.fixture
def superuser(client, db):
    superuser = UserFactory(is_staff=True, is_superuser=True)
    sign_in(client, superuser)
    return superuser


def change(row):
    return reverse("admin:jobs_approvalrule_change", args=[row.pk])


def test_a_rule_that_is_set_here_is_the_platforms_and_audited(client, superuser):
    response = client.post(ADD, FORM | {"exempt_roles": ["owner"]})

    made = ApprovalRule.objects.get()
    assert (response.status_code, made.team, made.threshold, made.exempt_roles, made.created_by) == (302, None, "50", ["owner"], superuser)
    line = AuditLine.objects.get(event_type="approval_rule.created")
    assert (line.team, line.actor, line.target_id) == (None, superuser.username, str(made.pk))


def test_what_its_condition_cannot_compare_with_is_refused_at_its_field(client, superuser):
    page = client.post(ADD, FORM | {"condition": "config_pattern", "threshold": "^(a+)+$"}).content.decode()

    assert ("a group that is repeated" in page, ApprovalRule.objects.count()) == (True, 0)


def test_a_rule_of_the_platforms_is_changed_and_a_teams_is_only_shown(client, superuser):
    theirs, ours = rule(None), rule(TeamFactory())

    answers = [client.post(change(row), FORM | {"threshold": "75"}).status_code for row in (theirs, ours)]

    assert answers == [302, 403]
    assert [ApprovalRule.objects.get(pk=row.pk).threshold for row in (theirs, ours)] == ["75", "0"]
    assert client.get(change(ours)).status_code == 200
    assert AuditLine.objects.filter(event_type="approval_rule.updated").count() == 1


def test_requests_are_only_shown(client, superuser, ready):
    asked = blocked(ready)

    page = client.get(reverse("admin:jobs_approvalrequest_change", args=[asked.pk]))

    assert (page.status_code, asked.reason.partition("'")[0] in page.content.decode()) == (200, True)
    assert client.post(reverse("admin:jobs_approvalrequest_change", args=[asked.pk]), {"state": "approved"}).status_code == 403
