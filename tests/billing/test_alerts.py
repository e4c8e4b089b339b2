"""Spend alerts: once for each period and threshold, told by mail with a proof, true whatever changes later."""

from datetime import timedelta

import pytest
from django.core import mail
from django.urls import reverse

from accounts import letters
from accounts.callers import Staff
from accounts.models import AuditLine, Letter
from accounts.roles import Role
from billing import alerts, tasks
from billing.models import LimitAction, LimitScope, SpendAlert, SpendLimit
from tests.billing.factories import NOW, USD, SpendLimitFactory, hold, settle
from tests.billing.test_top_ups import caller_of
from tests.factories import MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def mail_server(settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"
    settings.PUBLIC_URL = "https://house.test"


@pytest.fixture
def owner():
    return MembershipFactory()


@pytest.fixture
def limit(owner):
    return SpendLimitFactory(team=owner.team, name="runs")


def tell(now=NOW):
    alerts.tell_waiting(now=now)
    letters.send_waiting(now=now)
    return [message.to[0] for message in mail.outbox]


def noted():
    return list(SpendAlert.objects.order_by("reached_at", "threshold_percent").values_list("threshold_percent", flat=True))


def test_owners_are_told_by_mail_and_the_alert_keeps_the_proof(owner, limit):
    MembershipFactory(team=owner.team, role=Role.LEAD)
    partner = MembershipFactory(team=owner.team)
    hold(owner.team, 26)

    told = tell()

    assert sorted(told) == sorted([owner.user.email, partner.user.email])
    message = mail.outbox[0]
    assert message.subject == f"50 % of the limit runs are used and held ({owner.team.name})"
    assert "$26.00 of $50.00 were used and held on Nov 23, 2026, 12:00 UTC." in message.body
    assert "It resets on Dec 1, 2026, 00:00 UTC." in message.body
    assert f"https://house.test{reverse('billing:limit', args=[owner.team.slug, limit.pk])}" in message.body
    (shown,) = alerts.shown(SpendLimit.objects.all(), now=NOW)
    assert (shown.alert.told_at, shown.alert.recipients, shown.sent, shown.stands) == (NOW, 2, 2, True)
    assert shown.sent_at is not None


def test_each_owner_reads_of_one_alert_in_their_own_language_with_its_figures_and_dates(owner, limit):
    reader = MembershipFactory(team=owner.team, user__language="es")
    MembershipFactory(team=owner.team, user__language="en")
    hold(owner.team, 26)

    tell()

    in_spanish = [message for message in mail.outbox if "26,00" in message.body]
    in_english = [message for message in mail.outbox if "$26.00" in message.body]
    assert [message.to for message in in_spanish] == [[reader.user.email]]
    # Of the third nobody knows the language, and a worker has none but English.
    assert len(in_english) == 2
    assert in_spanish[0].subject.startswith("Se ha usado y retenido el 50")
    assert "23 nov 2026, 12:00 UTC" in in_spanish[0].body
    assert "1 dic 2026, 00:00 UTC" in in_spanish[0].body


def test_thresholds_that_one_hold_passes_are_one_mail_that_names_the_highest(owner, limit):
    hold(owner.team, 48)

    tell()

    assert [message.subject.split(" of ")[0] for message in mail.outbox] == ["95 %"]
    assert set(SpendAlert.objects.values_list("threshold_percent", "told_at", "recipients")) == {(50, NOW, 1), (80, NOW, 1), (95, NOW, 1)}
    assert {each.letters.get() for each in SpendAlert.objects.all()} == {Letter.objects.get()}


def test_telling_twice_tells_once(owner, limit):
    hold(owner.team, 26)

    tell()
    tell()

    assert len(mail.outbox) == 1


def test_a_persons_limit_is_told_to_them_as_well_while_they_are_in_the_team(owner):
    member = MembershipFactory(team=owner.team, role=Role.RESEARCHER)
    limit = SpendLimitFactory(team=owner.team, scope=LimitScope.PERSON, user=member.user)
    hold(owner.team, 26, user=member.user)

    told = tell()
    member.delete()

    assert sorted(told) == sorted([owner.user.email, member.user.email])
    assert f"A limit of {member.user} in the team" in mail.outbox[0].body
    assert alerts.recipients(limit) == [owner.user]


def test_the_platforms_limit_is_told_to_the_staff(owner):
    staff = UserFactory(is_staff=True)
    UserFactory(is_staff=True, is_active=False)
    SpendLimitFactory(scope=LimitScope.PLATFORM, team=None)
    hold(owner.team, 26)

    assert tell() == [staff.email]
    assert reverse("admin:billing_spendlimit_changelist") in mail.outbox[0].body


def test_while_no_mail_can_be_sent_the_alert_says_so(owner, limit, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    hold(owner.team, 26)

    tell()

    (shown,) = alerts.shown(SpendLimit.objects.all(), now=NOW)
    assert (shown.alert.recipients, shown.sent, shown.sent_at) == (1, 0, None)


def test_a_raised_limit_repeats_no_alert_and_claims_none(owner, limit):
    hold(owner.team, 41)
    SpendLimit.objects.update(amount=200 * USD)

    hold(owner.team, 60)
    alerts.look_again(now=NOW)

    assert noted() == [50, 80]
    stand = {shown.alert.threshold_percent: shown.stands for shown in alerts.shown(SpendLimit.objects.all(), now=NOW)}
    assert stand == {50: True, 80: False}
    assert list(SpendAlert.objects.values_list("room", flat=True)) == [50 * USD] * 2


def test_a_charge_beyond_its_hold_alerts_by_the_limit_as_it_is_now(owner, limit):
    held = hold(owner.team, 4).hold
    SpendLimit.objects.update(amount=100 * USD)

    settle(held, 40, flag="billed beyond the deadline")

    assert noted() == []


def test_a_limit_that_is_lowered_below_what_is_used_is_noticed_without_a_hold(owner, limit):
    hold(owner.team, 20)
    SpendLimit.objects.update(amount=21 * USD)

    tasks.watch_limits()
    alerts.look_again(now=NOW)

    assert noted() == [50, 80, 95]


def test_a_limit_that_is_switched_off_alerts_nobody(owner, limit):
    SpendLimit.objects.update(is_enabled=False)

    hold(owner.team, 60)
    alerts.look_again(now=NOW)

    assert noted() == []


def test_the_next_period_alerts_anew(owner, limit):
    SpendLimit.objects.update(action=LimitAction.WARN)

    for days in (0, 0, 30):
        hold(owner.team, 26, now=NOW + timedelta(days=days))

    assert noted() == [50, 80, 95, 100, 50]


def test_looking_again_costs_the_same_queries_with_many_limits(owner, limit, django_assert_num_queries):
    hold(owner.team, 30)
    for _ in range(3):
        SpendLimitFactory(team=owner.team)
    hold(owner.team, 1)

    with django_assert_num_queries(2):
        alerts.look_again(now=NOW)


def test_a_trial_goes_the_way_that_alerts_go_and_is_no_alert(owner, limit):
    hold(owner.team, 3)

    count = alerts.send_trial(caller_of(owner), limit, now=NOW)
    before = alerts.latest_trial(limit)
    letters.send_waiting(now=NOW)

    assert (count, before.sent, alerts.latest_trial(limit).sent) == (1, 0, 1)
    assert mail.outbox[0].subject.startswith("Trial: 80 % of the limit runs")
    assert "This is a trial." in mail.outbox[0].body
    assert SpendAlert.objects.count() == 0
    line = AuditLine.objects.get(event_type="spend_alert.tried")
    assert (line.actor, line.target_id) == (owner.user.username, str(limit.pk))


def test_trials_of_a_limit_are_a_minute_apart(owner, limit):
    alerts.send_trial(caller_of(owner), limit, now=NOW)

    with pytest.raises(alerts.TriedLately):
        alerts.send_trial(caller_of(owner), limit, now=NOW + timedelta(seconds=59))
    assert alerts.send_trial(caller_of(owner), limit, now=NOW + timedelta(seconds=60)) == 1


def test_staff_try_the_platforms_alerts(owner):
    staff = UserFactory(is_staff=True)
    limit = SpendLimitFactory(scope=LimitScope.PLATFORM, team=None)

    assert alerts.send_trial(Staff(user=staff, address="203.0.113.5"), limit, now=NOW) == 1
    assert AuditLine.objects.get(event_type="spend_alert.tried").team is None
