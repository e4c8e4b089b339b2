"""The pages of a team's spend limits: owners set them in dollars, and the next hold goes by them."""

import pytest
from django.urls import reverse

from accounts.models import AuditLine
from accounts.roles import Role
from billing.models import SpendLimit
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import MembershipFactory
from tests.jobs.test_pages import INLINE

pytestmark = pytest.mark.django_db
NEW = {"name": "team", "amount": "12.50", "period": "weekly", "action": "block"}


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
    line = AuditLine.objects.get()
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
    line = AuditLine.objects.get()
    assert (line.before["is_enabled"], line.after["is_enabled"]) == (True, False)
    assert "Switched off" in client.get(address("limits", team)).content.decode()


def test_saving_what_stands_leaves_no_line(client, team):
    limit = SpendLimitFactory(team=team, amount=50 * USD)

    client.post(address("limit_change", team, limit.pk), {"amount": "50.00", "action": "block", "is_enabled": "on"})

    assert AuditLine.objects.count() == 0


def test_the_platforms_limits_are_not_the_owners(client, team):
    platform = SpendLimitFactory(scope="platform", team=None, amount=7 * USD)

    assert client.post(address("limit_change", team, platform.pk), {"amount": "1", "action": "warn"}).status_code == 404
    assert "No spend limit is set" in client.get(address("limits", team)).content.decode().split("<main")[1]


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 403), (Role.OWNER, 200)])
def test_only_owners_set_limits(client, team, role, status):
    limit = SpendLimitFactory(team=team)
    client.force_login(MembershipFactory(team=team, role=role).user)

    pages = [client.get(address(name, team, *args)) for name, *args in (["limits"], ["limit_new"], ["limit_change", limit.pk])]

    assert [page.status_code for page in pages] == [status] * 3
    assert [INLINE.findall(page.content.decode()) for page in pages] == [[]] * 3


def test_a_strangers_limits_do_not_exist(client, team):
    limit = SpendLimitFactory(team=team)
    stranger = MembershipFactory()
    client.force_login(stranger.user)

    assert [client.get(address(name, team)).status_code for name in ("limits", "limit_new")] == [404, 404]
    assert client.post(address("limit_change", stranger.team, limit.pk), {"amount": "1", "action": "warn"}).status_code == 404
