"""Sign-ins in the platform's audit trail, by whichever door."""

import pytest
from allauth.account import signals as account_signals
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import audit
from accounts.models import AuditLine
from tests.factories import PASSWORD, MembershipFactory, UserFactory
from tests.signing_in import sign_in

pytestmark = pytest.mark.django_db

NEW = "another long and boring passphrase"


@pytest.fixture(autouse=True)
def nobody_tried_before():
    # django-allauth counts failed sign-ins there.
    cache.clear()


@pytest.fixture
def person():
    user = MembershipFactory().user
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    return user


def enter(client, name, password=PASSWORD, **options):
    return client.post(reverse("account_login"), {"login": name, "password": password}, **options)


def lines():
    return list(AuditLine.objects.filter(team=None).order_by("sequence"))


def test_signing_in_and_out_is_told_with_address_and_request(client, person):
    enter(client, person.email, headers={"X-Request-ID": "ci-1"}, REMOTE_ADDR="192.0.2.7")
    client.post(reverse("account_logout"), headers={"X-Request-ID": "ci-2"}, REMOTE_ADDR="192.0.2.7")

    told = [(line.event_type, line.actor, line.target_id, line.address, line.correlation_id) for line in lines()]
    assert told == [
        ("auth.login.success", person.username, str(person.pk), "192.0.2.7", "ci-1"),
        ("auth.logout", person.username, str(person.pk), "192.0.2.7", "ci-2"),
    ]
    assert audit.verify(None).valid


def test_signing_out_without_being_signed_in_is_no_event(client, db):
    client.logout()

    assert lines() == []


def test_a_failed_sign_in_names_the_person_who_was_tried_and_no_actor(client, person):
    enter(client, person.email.upper(), "wrong", REMOTE_ADDR="192.0.2.7")

    (line,) = lines()
    assert (line.event_type, line.actor, line.target_id, line.address) == ("auth.login.failed", "", str(person.pk), "192.0.2.7")
    assert line.action == f"Failed to sign in as {person.username}"


def test_a_password_typed_into_the_name_is_not_kept(client, person):
    typed = "correct-horse@battery.staple"

    enter(client, typed, "wrong")
    enter(client, typed.upper(), "wrong")
    enter(client, "somebody@else.example", "wrong")

    told = lines()
    assert {line.event_type for line in told} == {"auth.login.failed"}
    assert "horse" not in str([line.chained_fields() for line in told]).lower()
    # The same name is known again, though nobody can tell which it is.
    assert [line.target_id[:8] for line in told] == ["unknown:"] * 3
    assert told[0].target_id == told[1].target_id != told[2].target_id


def test_the_administration_has_the_same_door(client):
    staff = UserFactory(is_staff=True)
    EmailAddress.objects.create(user=staff, email=staff.email, primary=True, verified=True)

    client.post(f"{reverse('account_login')}?next=/admin/", {"login": staff.email, "password": "wrong"})
    client.post(f"{reverse('account_login')}?next=/admin/", {"login": staff.email, "password": PASSWORD})

    assert [line.event_type for line in lines()] == ["auth.login.failed", "auth.login.success"]


def test_a_changed_password_is_told_without_it(client, person):
    sign_in(client, person)

    client.post(
        reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}, headers={"X-Request-ID": "ci-3"}
    )

    line = lines()[-1]
    assert (line.event_type, line.actor, line.target_id, line.correlation_id) == (
        "user.password.changed", person.username, str(person.pk), "ci-3",
    )  # fmt: skip
    assert NEW not in str(line.chained_fields())


def test_a_wrong_password_on_being_asked_again_is_a_failed_sign_in(client, person):
    sign_in(client, person, seconds_ago=100_000)

    client.post(reverse("account_reauthenticate"), {"password": "wrong"})

    assert [(line.event_type, line.target_id) for line in lines()][-1] == ("auth.login.failed", str(person.pk))


def test_a_second_factor_is_told_when_it_comes_goes_and_fails(client, person, settings, django_capture_on_commit_callbacks):
    # Its mail would be written on commit, which comes here when the request is over.
    settings.ACCOUNT_EMAIL_NOTIFICATIONS = False
    sign_in(client, person)
    page = client.get(reverse("mfa_activate_totp"))
    secret = page.context["form"].secret
    code = totp.format_hotp_value(totp.hotp_value(secret, next(totp.yield_hotp_counters_from_time())))
    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("mfa_activate_totp"), {"code": code})
    client.logout()
    enter(client, person.email)
    client.post(reverse("mfa_authenticate"), {"code": "000000"})
    sign_in(client, person)
    client.post(reverse("mfa_deactivate_totp"))

    told = [(line.event_type, line.actor or line.target_id) for line in lines()]
    assert told == [
        ("auth.login.success", person.username),
        ("user.mfa.added", person.username),
        ("user.mfa.added", person.username),
        ("auth.logout", person.username),
        ("auth.login.failed", str(person.pk)),
        ("auth.login.success", person.username),
        ("user.mfa.removed", person.username),
        ("user.mfa.removed", person.username),
    ]
    assert secret not in str([line.chained_fields() for line in lines()])
    assert not Authenticator.objects.exists()


def test_changed_addresses_are_told(person):
    request = RequestFactory().post("/", REMOTE_ADDR="192.0.2.7")
    old, new = EmailAddress.objects.get(), EmailAddress(user=person, email="new@example.com")

    account_signals.email_added.send(EmailAddress, request=request, user=person, email_address=new)
    account_signals.email_changed.send(EmailAddress, request=request, user=person, from_email_address=old, to_email_address=new)
    account_signals.email_changed.send(EmailAddress, request=request, user=person, from_email_address=None, to_email_address=new)
    account_signals.email_removed.send(EmailAddress, request=request, user=person, email_address=old)

    assert [(line.event_type, line.before, line.after) for line in lines()] == [
        ("user.email.added", {}, {"email": "new@example.com"}),
        ("user.email.changed", {"email": old.email}, {"email": "new@example.com"}),
        ("user.email.changed", {}, {"email": "new@example.com"}),
        ("user.email.removed", {"email": old.email}, {}),
    ]


def test_a_failed_sign_in_costs_the_same_for_everybody(client, person):
    """Nobody learns by the number of queries whether a name is known; hashing is django-allauth's care."""

    def queries(name):
        with CaptureQueriesContext(connection) as seen:
            enter(client, name, "wrong")
        return len([query for query in seen if "accounts_audit" in query["sql"]])

    queries("first@example.com")

    assert queries(person.email) == queries("nobody@example.com")
