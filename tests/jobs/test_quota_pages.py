"""The pages of quotas: everybody sees how they stand, owners set them in words, and the submit page says what is close."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditLine
from accounts.roles import Role
from billing.models import SpendLimit
from jobs.models import JobQuota
from jobs.models.quotas import QuotaAction, QuotaKind, QuotaScope
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import MembershipFactory
from tests.jobs.factories import JobFactory, make_member
from tests.jobs.ready import NAMED
from tests.pages import INLINE, words

pytestmark = pytest.mark.django_db
NEW = {"kind": "concurrent_jobs", "whom": "each", "limit": "5", "action": "block"}


@pytest.fixture
def owner(client):
    owner = MembershipFactory()
    client.force_login(owner.user)
    return owner


@pytest.fixture
def team(owner):
    return owner.team


def address(name, team, *args):
    return reverse(f"jobs:{name}", args=[team.slug, *args])


def quota(team, kind=QuotaKind.CONCURRENT_JOBS, limit=5, action=QuotaAction.BLOCK, scope=QuotaScope.EACH, **more):
    return JobQuota.objects.create(team=team, kind=kind, limit_value=limit, action=action, scope=scope, **more)


def test_owners_set_quotas_for_each_the_team_a_role_and_a_person(client, team):
    member = make_member(team)
    for fields in ({}, {"whom": "team", "limit": "9"}, {"whom": "role-lead"}, {"whom": f"person-{member.user.pk}"}):
        answer = client.post(address("quota_new", team), NEW | fields)
        assert (answer.status_code, answer.url) == (302, address("quotas", team))

    rows = JobQuota.objects.order_by("pk").values_list("team", "scope", "user", "role", "limit_value")
    assert list(rows) == [
        (team.pk, "each", None, "", 5), (team.pk, "team", None, "", 9), (team.pk, "role", None, "lead", 5),
        (team.pk, "person", member.user.pk, "", 5),
    ]  # fmt: skip
    assert AuditLine.objects.filter(event_type="quota.changed", team=team).count() == 4
    page = words(client.get(address("quotas", team)))
    whose = ("each person", "the team together", "each person with the role Lead", str(member.user))
    assert [f"Jobs at the same time {each}" in page for each in whose] == [True] * 4


def test_storage_is_set_in_gigabytes_and_money_in_dollars(client, team):
    client.post(address("quota_new", team), NEW | {"kind": "storage_bytes", "whom": "team", "limit": "1.5"})
    client.post(address("quota_new", team), NEW | {"kind": "cost_monthly", "whom": "team", "limit": "12.50"})

    assert (JobQuota.objects.get().limit_value, SpendLimit.objects.get().amount) == (1.5 * 1024**3, 12_500_000)
    page = words(client.get(address("quotas", team)))
    assert ["1.5 GB" in page, "$12.50" in page, "Money in a calendar month the team together" in page] == [True] * 3


WRONG = [
    ({"kind": "cats"}, "kind"),
    ({"kind": "local_gpus"}, "kind"),
    ({"whom": "everybody"}, "whom"),
    ({"whom": "person-0"}, "whom"),
    ({"limit": "0"}, "limit"),
    ({"limit": "2.5"}, "limit"),
    ({"limit": "much"}, "limit"),
    ({"limit": "NaN"}, "limit"),
    ({"limit": "10"}, "limit"),
    ({"limit": "999999999"}, "limit"),
    ({"action": "shout"}, "action"),
    ({"kind": "storage_bytes", "action": "require_approval"}, "action"),
    ({"kind": "cost_daily", "whom": "team", "action": "notify"}, "action"),
]


@pytest.mark.parametrize(("fields", "field"), WRONG)
def test_what_is_wrong_stands_at_its_field(client, team, fields, field):
    quota(team, limit=9, scope=QuotaScope.TEAM)

    response = client.post(address("quota_new", team), NEW | fields)

    assert (list(response.context["form"].errors), JobQuota.objects.count(), SpendLimit.objects.count()) == ([field], 1, 0)


def test_a_quota_is_changed_and_removed(client, team):
    row = quota(team)
    path = address("quota_change", team, 2 * row.pk)
    form = client.get(path).context["form"]

    client.post(path, {"limit": "7", "action": "warn"})
    row.refresh_from_db()
    client.post(path, {"remove": "1"})

    assert (form.initial, row.limit_value, row.action) == ({"limit": 5, "action": "block"}, 7, "warn")
    assert not JobQuota.objects.exists()
    befores = [line.before.get("limit") for line in AuditLine.objects.filter(event_type="quota.changed").order_by("pk")]
    assert befores == [5, 7]


def test_a_limit_that_nobody_touched_stays_exact(client, team):
    row = quota(team, QuotaKind.STORAGE_BYTES, 1_234_567_891, scope=QuotaScope.TEAM)
    path = address("quota_change", team, 2 * row.pk)
    shown = client.get(path).context["form"].initial["limit"]

    client.post(path, {"limit": shown, "action": "warn"})

    row.refresh_from_db()
    assert (row.limit_value, row.action) == (1_234_567_891, "warn")


def test_a_quota_of_money_is_a_spend_limit_that_is_switched_off(client, team):
    limit = SpendLimitFactory(team=team, amount=50 * USD)

    client.post(address("quota_change", team, 2 * limit.pk + 1), {"limit": "20", "action": "warn"})
    client.post(address("quota_change", team, 2 * limit.pk + 1), {"remove": "1"})

    limit.refresh_from_db()
    assert (limit.amount, limit.action, limit.is_enabled) == (20 * USD, "warn", False)


def test_the_suggested_ones_are_one_click_and_leave_others_alone(client, team):
    quota(team, limit=3)
    before = words(client.get(address("quotas", team)))

    page = words(client.post(address("quotas_suggested", team), follow=True))

    assert set(JobQuota.objects.values_list("kind", "scope", "limit_value", "action")) == {
        ("concurrent_jobs", "each", 3, "block"), ("jobs_per_day", "each", 20, "warn"),
    }  # fmt: skip
    assert ["Suggested for a beginning" in text for text in (before, page)] == [True, False]


def test_the_page_says_who_comes_closest(client, team, owner):
    ana, ben = make_member(team), make_member(team, Role.LEAD)
    quota(team, limit=3)
    quota(team, limit=9, scope=QuotaScope.ROLE, role=Role.LEAD)
    quota(team, limit=20, scope=QuotaScope.TEAM)
    for member, count in ((ana, 3), (ben, 2), (owner, 1)):
        JobFactory.create_batch(count, team=team, submitted_by=member.user)
    JobFactory.create_batch(4)

    rows = {row.quota.scope: (row.current, row.fullest, row.is_full) for row in client.get(address("quotas", team)).context["rows"]}

    assert rows == {"each": (3, ana.user, True), "role": (2, ben.user, False), "team": (6, None, False)}


def test_the_page_asks_as_many_questions_for_many_quotas(client, team):
    def questions():
        with CaptureQueriesContext(connection) as captured:
            client.get(address("quotas", team))
        return len(captured)

    quota(team)
    questions()
    few = questions()
    make_member(team)
    quota(team, QuotaKind.JOBS_PER_DAY, 9)
    quota(team, QuotaKind.JOBS_PER_HOUR, 9, scope=QuotaScope.ROLE, role=Role.LEAD)

    assert questions() == few


@pytest.mark.parametrize(
    ("role", "sees", "manages"), [(Role.VIEWER, 403, 403), (Role.RESEARCHER, 200, 403), (Role.LEAD, 200, 403), (Role.OWNER, 200, 200)]
)
def test_everybody_who_submits_sees_their_own_and_owners_all(client, team, role, sees, manages):
    row = quota(team)
    client.force_login(MembershipFactory(team=team, role=role).user)

    index = client.get(address("quotas", team))
    pages = [index, client.get(address("quota_new", team)), client.get(address("quota_change", team, 2 * row.pk))]

    assert [page.status_code for page in pages] == [sees, manages, manages]
    assert ("Quotas of the team" in index.content.decode()) == (role == Role.OWNER)
    assert [INLINE.findall(page.content.decode()) for page in pages] == [[]] * 3


def test_a_strangers_and_the_platforms_quotas_are_not_the_teams_to_change(client, team):
    platform, foreign = quota(None, limit=3), quota(MembershipFactory().team)

    paths = [address("quota_change", team, 2 * row.pk) for row in (platform, foreign)]
    page = words(client.get(address("quotas", team)))

    assert [client.post(path, {"limit": "1", "action": "warn"}).status_code for path in paths] == [404, 404]
    assert "Jobs at the same time of the platform each person 3" in page


def test_how_one_stands(client, team, owner):
    quota(team, limit=2)
    quota(None, limit=50, scope=QuotaScope.PLATFORM)
    JobFactory.create_batch(2, team=team, submitted_by=owner.user)

    page = words(client.get(address("quotas", team)))

    assert "Jobs at the same time each person 2 used up 2 Block" in page
    # Of the platform's total nobody is shown other teams' jobs.
    assert "Jobs at the same time all teams together — 50 Block" in page


# --- On the other pages -----------------------------------------------------------------------------------


@pytest.fixture
def submitting(ready, client):
    client.force_login(ready.member.user)
    return ready


def running(ready, count):
    JobFactory.create_batch(count, team=ready.team, submitted_by=ready.member.user)


def test_the_submit_page_and_the_list_say_what_is_close(client, submitting):
    quota(submitting.team, limit=5)
    running(submitting, 3)

    pages = [client.get(address("new", submitting.team)), client.get(address("list", submitting.team))]

    sentence = "Quota for jobs at the same time: 3 of 5 (each person)."
    assert [sentence in words(page) for page in pages] == [True, True]


def test_what_is_far_from_its_end_is_not_spoken_of(client, submitting):
    quota(submitting.team, limit=5)
    running(submitting, 1)

    pages = [client.get(address("new", submitting.team)), client.get(address("list", submitting.team))]

    assert ["Quota for jobs" in words(page) for page in pages] == [False, False]


def test_a_quota_that_is_used_up_takes_the_submit_button_away(client, submitting):
    quota(submitting.team, limit=2)
    running(submitting, 2)

    page = client.get(address("new", submitting.team))

    assert "A quota is used up: jobs at the same time, 2 of 2 (each person). Wait until a job has ended" in words(page)
    assert re.search(r'form="job-form"\s+disabled', page.content.decode())


def test_a_job_that_costs_more_than_is_left_of_a_quota_of_money_is_not_offered(client, submitting):
    quota(submitting.team, QuotaKind.COST_DAILY, USD)

    page = client.get(address("new", submitting.team))

    assert re.search(r"This job can cost up to \$\d+\.\d\d, and of a quota \$0\.00 of \$1\.00 are used or held: money in a", words(page))
    assert re.search(r'form="job-form"\s+disabled', page.content.decode())


def test_who_submits_all_the_same_reads_why_not(client, submitting):
    quota(submitting.team, limit=2)
    running(submitting, 2)

    response = client.post(address("new", submitting.team), {"config_name": NAMED, "key": "form-1", "agreed": 10 * USD, "agrees": "on"})

    [sentence] = response.context["form"].non_field_errors()
    assert re.sub("<[^>]+>", "", sentence).startswith("Quota exceeded: Maximum 2 concurrent jobs allowed for each person; 2 now.")


def test_a_warning_stands_over_the_new_jobs_page(client, submitting):
    quota(submitting.team, limit=1, action=QuotaAction.WARN)
    running(submitting, 1)

    response = client.post(
        address("new", submitting.team), {"config_name": NAMED, "key": "form-1", "agreed": 10 * USD, "agrees": "on"}, follow=True
    )

    assert "Quota exceeded: Maximum 1 concurrent job allowed for each person; 1 now." in words(response)
