"""The pages of a team's spend limits: owners set them in dollars, and the next hold goes by them."""

from zoneinfo import ZoneInfo

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import letters
from accounts.models import AuditLine
from accounts.roles import Role
from billing.models import LimitScope, SpendAlert, SpendLimit, TopUp
from tests.billing.factories import USD, SpendLimitFactory, hold
from tests.factories import MembershipFactory, make_token
from tests.pages import INLINE

pytestmark = pytest.mark.django_db
NEW = {"person": "", "name": "team", "amount": "12.50", "period": "weekly", "action": "block"}
TOP_UP = {"amount": "20", "reason": "release week", "key": "form-1"}


@pytest.fixture
def owner(client):
    owner = MembershipFactory()
    client.force_login(owner.user)
    return owner


@pytest.fixture
def team(owner):
    return owner.team


def address(name, team, *args):
    return reverse(f"billing:{name}", args=[team.slug, *args])


def test_a_limit_is_set_in_dollars(client, team, owner):
    page = client.post(address("limit_new", team), NEW, follow=True).content.decode()

    limit = SpendLimit.objects.get()
    assert (limit.scope, limit.team, limit.amount, limit.period, limit.action) == ("team", team, 12_500_000, "weekly", "block")
    assert ["The limit was set." in page, "$12.50" in page] == [True, True]
    line = AuditLine.objects.get(event_type="quota.changed")
    assert (line.event_type, line.actor_id, line.after["amount_micros"]) == ("quota.changed", owner.user.pk, 12_500_000)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "much"}, "amount"),
        ({"amount": "1.234"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "1000001"}, "amount"),
        ({"period": "yearly"}, "period"),
        ({"action": "shout"}, "action"),
        ({"name": "taken"}, "name"),
        ({"person": "0"}, "person"),
    ],
)
def test_what_is_wrong_stands_at_its_field(client, team, fields, field):
    SpendLimitFactory(team=team, name="taken", period="weekly")

    response = client.post(address("limit_new", team), NEW | fields)

    assert (list(response.context["form"].errors), SpendLimit.objects.count()) == ([field], 1)


def test_a_limit_is_changed_and_switched_off(client, team):
    limit = SpendLimitFactory(team=team, amount=50 * USD)
    form = client.get(address("limit_change", team, limit.pk)).context["form"]

    client.post(address("limit_change", team, limit.pk), {"amount": "20", "action": "warn"})

    limit.refresh_from_db()
    assert str(form.initial["amount"]) == "50.00"
    assert (limit.amount, limit.action, limit.is_enabled) == (20 * USD, "warn", False)
    line = AuditLine.objects.get(event_type="quota.changed")
    assert (line.before["is_enabled"], line.after["is_enabled"]) == (True, False)
    assert "Switched off" in client.get(address("limits", team)).content.decode()


def test_saving_what_stands_leaves_no_line(client, team):
    limit = SpendLimitFactory(team=team, amount=50 * USD)

    client.post(address("limit_change", team, limit.pk), {"amount": "50.00", "action": "block", "is_enabled": "on"})

    assert AuditLine.objects.filter(event_type="quota.changed").count() == 0


def test_the_platforms_limits_are_not_the_owners(client, team):
    platform = SpendLimitFactory(scope="platform", team=None, amount=7 * USD)

    assert client.post(address("limit_change", team, platform.pk), {"amount": "1", "action": "warn"}).status_code == 404
    assert "No spend limit is set" in client.get(address("limits", team)).content.decode().split("<main")[1]


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 403), (Role.OWNER, 200)])
def test_only_owners_set_limits(client, team, role, status):
    limit = SpendLimitFactory(team=team)
    client.force_login(MembershipFactory(team=team, role=role).user)

    found = [["limits"], ["limit_new"], *([name, limit.pk] for name in ("limit", "limit_change", "limit_top_up"))]
    pages = [client.get(address(name, team, *args)) for name, *args in found]

    assert [page.status_code for page in pages] == [status] * 5
    assert [INLINE.findall(page.content.decode()) for page in pages] == [[]] * 5


def test_a_strangers_limits_do_not_exist(client, team):
    limit = SpendLimitFactory(team=team)
    stranger = MembershipFactory()
    client.force_login(stranger.user)

    assert [client.get(address(name, team)).status_code for name in ("limits", "limit_new")] == [404, 404]
    assert client.post(address("limit_change", stranger.team, limit.pk), {"amount": "1", "action": "warn"}).status_code == 404


def test_a_person_gets_a_limit_of_their_own(client, team):
    member = MembershipFactory(team=team, role=Role.RESEARCHER)

    page = client.post(address("limit_new", team), NEW | {"person": member.user.pk}, follow=True).content.decode()

    limit = SpendLimit.objects.get()
    assert (limit.scope, limit.team, limit.user, limit.amount) == (LimitScope.PERSON, team, member.user, 12_500_000)
    assert str(member.user) in page.split("<main")[1]
    assert AuditLine.objects.get(event_type="quota.changed").after["person"] == member.user.username


def test_who_is_not_in_the_team_gets_no_limit_in_it(client, team):
    response = client.post(address("limit_new", team), NEW | {"person": MembershipFactory().user.pk})

    assert (list(response.context["form"].errors), SpendLimit.objects.count()) == (["person"], 0)


def test_the_list_shows_how_the_limits_of_team_people_and_tokens_stand(client, team, owner):
    token, _ = make_token(owner, name="nightly")
    SpendLimitFactory(team=team, name="runs")
    SpendLimitFactory(team=team, scope=LimitScope.PERSON, user=owner.user, amount=20 * USD)
    bearer = SpendLimitFactory(team=team, scope=LimitScope.TOKEN, token=token, amount=10 * USD)
    SpendLimitFactory(team=team, scope=LimitScope.TOKEN, token=token, period="daily", is_enabled=False)
    hold(team, 4, user=owner.user, token=token, now=timezone.now())

    page = client.get(address("limits", team)).content.decode()
    of_token = client.get(address("limit", team, bearer.pk)).content.decode()

    assert [page.split("<main")[1].count(amount) for amount in (">$46.00<", ">$16.00<", ">$6.00<")] == [1, 1, 1]
    assert reverse("token", args=[team.slug, token.pk]) in of_token
    assert client.get(address("limit_change", team, bearer.pk)).status_code == 404


def test_a_limit_is_topped_up_in_dollars_with_a_reason(client, team, owner):
    limit = SpendLimitFactory(team=team)

    page = client.post(address("limit_top_up", team, limit.pk), TOP_UP, follow=True).content.decode()
    client.post(address("limit_top_up", team, limit.pk), TOP_UP)

    top_up = TopUp.objects.get()
    assert (top_up.amount, top_up.reason, top_up.made_by, top_up.period.limit) == (20 * USD, "release week", owner.user, limit)
    assert ["The limit was topped up." in page, "release week" in page, "$70.00" in page] == [True, True, True]
    assert "+ $20.00 topped up" in client.get(address("limits", team)).content.decode()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "much"}, "amount"),
        ({"reason": " "}, "reason"),
        ({"expires_at": "2020-01-01T00:00"}, "expires_at"),
        ({"expires_at": "2099-01-01T00:00"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
    ],
)
def test_what_is_no_top_up_stands_at_its_field(client, team, fields, field):
    limit = SpendLimitFactory(team=team)

    response = client.post(address("limit_top_up", team, limit.pk), TOP_UP | fields)

    assert (list(response.context["form"].errors), TopUp.objects.count()) == ([field], 0)


def test_the_expiry_is_the_clock_of_the_teams_zone(client, team):
    type(team).objects.filter(pk=team.pk).update(time_zone="Asia/Tokyo")
    limit = SpendLimitFactory(team=team, period="monthly")
    ends_at = client.get(address("limit_top_up", team, limit.pk)).context["standing"].resets_at
    local = ends_at.astimezone(ZoneInfo("Asia/Tokyo")).strftime("%Y-%m-%dT%H:%M")

    client.post(address("limit_top_up", team, limit.pk), TOP_UP | {"expires_at": local})

    assert TopUp.objects.get().expires_at == ends_at


def test_alerts_are_listed_where_money_is_looked_at(client, team):
    limit = SpendLimitFactory(team=team, name="runs")
    hold(team, 41, now=timezone.now())

    pages = [client.get(path).content.decode() for path in (address("limits", team), address("limit", team, limit.pk))]
    spend = client.get(reverse("jobs:spend", args=[team.slug])).content.decode()

    assert SpendAlert.objects.count() == 2
    assert ["Alerts of the present periods" in page and ">80 %<" in page for page in (*pages, spend)] == [True] * 3
    assert ["80 % of the team&#x27;s monthly limit" in page.split("<main")[0] for page in (*pages, spend)] == [True] * 3


def test_a_trial_alert_is_sent_and_the_page_says_what_became_of_it(client, team, settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"
    limit = SpendLimitFactory(team=team)

    page = client.post(address("limit_try_alert", team, limit.pk), follow=True).content.decode()
    again = client.post(address("limit_try_alert", team, limit.pk), follow=True).content.decode()
    letters.send_waiting(now=timezone.now())
    after = client.get(address("limit", team, limit.pk)).content.decode()

    assert ["A trial alert is on its way to 1 person." in page, "less than a minute ago" in again] == [True, True]
    assert "0 of 1 mail sent" in page
    assert "1 of 1 mail sent" in after
    assert mail.outbox[0].subject.startswith("Trial: ")


def test_where_no_mail_is_sent_the_page_says_so(client, team):
    limit = SpendLimitFactory(team=team)

    assert "This server sends no mail" in client.get(address("limit", team, limit.pk)).content.decode()


def test_the_list_costs_the_same_queries_with_one_limit_and_with_three(client, team, django_assert_num_queries):
    SpendLimitFactory(team=team)
    SpendLimitFactory(team=team, scope=LimitScope.PERSON, user=MembershipFactory(team=team).user)
    hold(team, 41, now=timezone.now())
    client.get(address("limits", team))
    with CaptureQueriesContext(connection) as one:
        client.get(address("limits", team))
    for _ in range(2):
        SpendLimitFactory(team=team, scope=LimitScope.PERSON, user=MembershipFactory(team=team).user)
    hold(team, 1, now=timezone.now())

    with django_assert_num_queries(len(one)):
        client.get(address("limits", team))
