"""What stands in the way of whoever guesses, asks around, or stays longer than they may."""

import json
import re

import httpx
import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value, yield_hotp_counters_from_time
from django.contrib.auth.hashers import Argon2PasswordHasher, MD5PasswordHasher
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts import rekeying
from accounts.models import Registration, User
from config import keys
from tests.factories import PASSWORD, MembershipFactory, UserFactory
from tests.servers import granian
from tests.signing_in import sign_in as fresh_sign_in

NEW_PASSWORD = "staple battery horse correct"


def sign_in(client, email, password=PASSWORD, *, address="192.0.2.1"):
    return client.post(reverse("account_login"), {"login": email, "password": password}, REMOTE_ADDR=address)


def is_in(client):
    return client.get(reverse("profile")).status_code == 200


def code_now(secret):
    return format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))


def with_second_factor(user):
    secret = generate_totp_secret()
    TOTP.activate(user, secret)
    return secret


def errors_of(response):
    return re.sub(r"\s+", " ", " ".join(re.findall(r'class="errorlist.*?</ul>', response.content.decode(), re.DOTALL)))


# --- Guessing -------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_one_account_is_guessed_at_five_times_from_wherever(client):
    victim, other = UserFactory(), UserFactory()

    for number in range(5):
        sign_in(client, victim.email, "wrong", address=f"192.0.2.{number}")
    refused = sign_in(client, victim.email, address="192.0.2.99")
    others = sign_in(client, other.email, address="192.0.2.99")

    assert "Too many failed login attempts" in refused.content.decode()
    assert others.status_code == 302


@pytest.mark.django_db
def test_another_port_in_the_host_is_no_other_account(client):
    person = UserFactory()

    for number in range(5):
        form = {"login": person.email, "password": "wrong"}
        client.post(reverse("account_login"), form, REMOTE_ADDR=f"192.0.2.{number}", HTTP_HOST=f"localhost:{8000 + number}")

    assert "Too many failed login attempts" in sign_in(client, person.email).content.decode()


@pytest.mark.django_db
def test_one_address_guesses_at_ten_accounts_a_minute(client):
    person = UserFactory()

    for number in range(10):
        sign_in(client, f"nobody-{number}@example.com", "wrong")
    refused = sign_in(client, person.email)
    elsewhere = sign_in(client, person.email, address="198.51.100.7")

    assert "Too many failed login attempts" in refused.content.decode()
    assert elsewhere.status_code == 302


@pytest.mark.django_db(transaction=True)
def test_the_count_is_one_for_all_processes(client, tmp_path):
    person = UserFactory()
    cache.clear()
    for _ in range(5):
        sign_in(client, person.email, "wrong")

    hasher = Argon2PasswordHasher()
    person.password = hasher.encode(PASSWORD, hasher.salt())
    person.save()
    with granian("wsgi", tmp_path) as server, httpx.Client(base_url=server.url, trust_env=False, timeout=30) as caller:
        caller.get(reverse("account_login"))
        form = {"login": person.email, "password": PASSWORD, "csrfmiddlewaretoken": caller.cookies["csrftoken"]}
        answer = caller.post(reverse("account_login"), data=form)

    cache.clear()
    assert (answer.status_code, "Too many failed login attempts" in answer.text) == (200, True)


@pytest.mark.django_db
def test_codes_of_the_second_factor_are_guessed_at_five_times_and_used_once(client):
    person = UserFactory()
    secret = with_second_factor(person)
    code = code_now(secret)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    sign_in(client, person.email)

    client.post(reverse("mfa_authenticate"), {"code": code})
    first = is_in(client)
    second_client = Client()
    sign_in(second_client, person.email)
    again = errors_of(second_client.post(reverse("mfa_authenticate"), {"code": code}))
    for number in range(5):
        refused = second_client.post(reverse("mfa_authenticate"), {"code": wrong}, REMOTE_ADDR=f"192.0.2.{number}")

    assert first
    assert not is_in(second_client)
    assert "Incorrect code" in again
    assert "Too many failed" in errors_of(refused)


@pytest.mark.django_db
def test_an_address_is_mailed_at_most_five_times_an_hour(client, mailoutbox):
    person = UserFactory()

    answers = [client.post(reverse("account_reset_password"), {"email": person.email}, REMOTE_ADDR=f"192.0.2.{n}") for n in range(6)]

    assert [answer.status_code for answer in answers] == [302] * 5 + [429]
    assert "That was too often" in answers[-1].content.decode()
    assert len(mailoutbox) == 5


# --- Asking around --------------------------------------------------------------------------------------------


class CountingHasher(MD5PasswordHasher):
    """Counts how often a password was worked on, which is what takes time."""

    algorithm = "counting"
    count = 0

    def encode(self, password, salt):
        CountingHasher.count += 1
        return super().encode(password, salt)


@pytest.mark.django_db
def test_sign_in_tells_nobody_who_has_an_account(client, settings):
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher"]
    known, inactive = UserFactory(), UserFactory(is_active=False)
    answers, work = [], []

    for email in (known.email, inactive.email, "nobody@example.com"):
        CountingHasher.count = 0
        answers.append(sign_in(client, email, "wrong"))
        work.append(CountingHasher.count)

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert errors_of(answers[0]) != ""
    assert len({errors_of(answer) for answer in answers}) == 1
    assert work == [1, 1, 1]


@pytest.mark.django_db
def test_a_reset_tells_nobody_who_has_an_account(client, mailoutbox):
    known, inactive = UserFactory(), UserFactory(is_active=False)

    answers = [
        client.post(reverse("account_reset_password"), {"email": email}) for email in (known.email, inactive.email, "nobody@example.com")
    ]

    assert [(answer.status_code, answer["Location"]) for answer in answers] == [(302, reverse("account_reset_password_done"))] * 3
    # As many mails, so that it takes as long; only one of them holds a key.
    assert [mail.to for mail in mailoutbox] == [[known.email], [inactive.email], ["nobody@example.com"]]
    assert ["/password/reset/key/" in mail.body for mail in mailoutbox] == [True, False, False]


@pytest.mark.django_db
def test_a_reset_that_somebody_asked_for_keeps_nobody_out(client):
    person = UserFactory()

    client.post(reverse("account_reset_password"), {"email": person.email})
    sign_in(client, person.email)

    assert is_in(client)


@pytest.mark.django_db
def test_a_reset_link_leads_to_the_public_address_whoever_asked_for_it(client, settings, mailoutbox):
    settings.PUBLIC_URL = "https://tunehouse.example.com"

    client.post(reverse("account_reset_password"), {"email": UserFactory().email}, HTTP_HOST="localhost:1337")

    assert re.findall(r"https?://[^/\s]+", mailoutbox[0].body) == ["https://tunehouse.example.com"]


@pytest.mark.django_db
def test_a_reset_stands_though_the_mail_server_is_away(client, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1

    answer = client.post(reverse("account_reset_password"), {"email": UserFactory().email})

    assert answer["Location"] == reverse("account_reset_password_done")


@pytest.mark.django_db
def test_making_an_account_tells_nobody_who_has_one(client, mailoutbox, settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"  # as where mail comes
    Registration.objects.create(is_open=True)
    known = UserFactory()
    asked = {"username": "newcomer", "password1": PASSWORD, "password2": PASSWORD}

    taken = client.post(reverse("account_signup"), asked | {"email": known.email})
    free = Client().post(reverse("account_signup"), asked | {"email": "new@example.com"})

    assert [(answer.status_code, answer["Location"]) for answer in (taken, free)] == [(302, reverse("account_email_verification_sent"))] * 2
    assert [mail.to for mail in mailoutbox] == [[known.email], ["new@example.com"]]
    assert User.objects.filter(email=known.email).count() == 1


# --- Staying ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_sign_in_begins_a_new_session(client):
    person = UserFactory()
    client.get(reverse("account_login"))
    session = client.session
    session["planted"] = True
    session.save()
    before = session.session_key
    client.cookies["sessionid"] = before

    sign_in(client, person.email)

    assert is_in(client)
    assert client.session.session_key != before


@pytest.mark.django_db
def test_a_changed_password_ends_all_other_sessions(client):
    person = UserFactory()
    other = Client()
    sign_in(other, person.email)
    sign_in(client, person.email)
    before = client.session.session_key
    assert is_in(other)

    client.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD})

    assert (is_in(client), is_in(other)) == (True, False)
    assert client.session.session_key != before


@pytest.mark.django_db
def test_other_sessions_are_listed_and_ended(client):
    person = UserFactory()
    other = Client(headers={"user-agent": "An old laptop"})
    sign_in(other, person.email)
    sign_in(client, person.email)

    listed = "An old laptop" in client.get(reverse("usersessions_list")).content.decode()
    client.post(reverse("usersessions_list"))

    assert listed
    assert (is_in(client), is_in(other)) == (True, False)


@pytest.mark.django_db
def test_a_deactivated_person_is_out_at_once_and_for_good(client):
    person = UserFactory()
    sign_in(client, person.email)
    assert is_in(client)

    person.is_active = False
    person.save()
    while_inactive = is_in(client)
    person.is_active = True
    person.save()

    assert (while_inactive, is_in(client)) == (False, False)


@pytest.mark.django_db
def test_an_address_that_staff_corrected_opens_nothing_any_more(client):
    person = UserFactory(email="former@example.com")
    sign_in(client, "former@example.com")
    staff = Client()
    staff.force_login(UserFactory(is_staff=True, is_superuser=True))
    form = {"username": person.username, "email": "new@example.com", "display_name": "", "is_active": "on"}

    staff.post(reverse("admin:accounts_user_change", args=[person.pk]), form)
    former, now = Client(), Client()
    sign_in(former, "former@example.com")
    sign_in(now, "new@example.com")

    assert (is_in(former), is_in(now)) == (False, True)
    assert list(EmailAddress.objects.filter(user=person).values_list("email", "verified")) == [("new@example.com", True)]


@pytest.mark.django_db
def test_an_address_is_changed_once_its_mail_was_read(client, mailoutbox):
    person = UserFactory(email="before@example.com")
    sign_in(client, person.email)
    fresh_sign_in(client, person)

    client.post(reverse("account_email"), {"email": "after@example.com", "action_add": "1"})
    waiting = User.objects.get(pk=person.pk).email
    link = re.search(r"http://testserver(/accounts/confirm-email/\S+)", mailoutbox[0].body)[1]
    client.post(link)

    assert waiting == "before@example.com"
    assert User.objects.get(pk=person.pk).email == "after@example.com"
    assert [mail.to for mail in mailoutbox] == [["after@example.com"], ["before@example.com"]]
    assert list(EmailAddress.objects.filter(user=person).values_list("email", flat=True)) == ["after@example.com"]


# --- The second factor --------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_administration_asks_for_the_second_factor(client):
    staff = UserFactory(is_staff=True, is_superuser=True)
    with_second_factor(staff)
    door = client.get(reverse("admin:index"), follow=True)
    asked = client.post(reverse("admin:login"), {"username": staff.email, "password": PASSWORD})

    half_way = sign_in(client, staff.email)

    assert door.request["PATH_INFO"] == reverse("account_login")
    assert asked["Location"].startswith(reverse("account_login"))
    assert half_way["Location"].startswith(reverse("mfa_authenticate"))
    assert client.get(reverse("admin:index")).status_code == 302


@pytest.mark.django_db
def test_the_administration_has_no_password_form_of_its_own(client):
    client.force_login(UserFactory(is_staff=True))

    assert client.get(reverse("admin:password_change"))["Location"] == reverse("account_change_password")


@pytest.mark.django_db
def test_secrets_of_second_factors_lie_encrypted(client):
    person = UserFactory()
    secret = with_second_factor(person)
    fresh_sign_in(client, person)
    client.post(reverse("mfa_generate_recovery_codes"))

    kept = json.dumps(list(Authenticator.objects.values_list("data", flat=True)))
    seed = Authenticator.objects.get(type="recovery_codes").wrap()

    assert Authenticator.objects.count() == 2
    assert secret not in kept
    assert not any(code in kept for code in seed.get_unused_codes())


@pytest.mark.django_db
def test_second_factors_outlive_the_key_that_they_were_encrypted_with(client, settings):
    old = settings.ENCRYPTION_KEYS
    person = UserFactory()
    secret = with_second_factor(person)
    RecoveryCodes.activate(person)
    settings.ENCRYPTION_KEYS = [keys.encryption_key(), *old]

    rekeying.renew()
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    sign_in(client, person.email)
    client.post(reverse("mfa_authenticate"), {"code": code_now(secret)})

    assert is_in(client)
    assert len(Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()) == 10


@pytest.mark.django_db
def test_members_change_their_own_name(client):
    membership = MembershipFactory()
    client.force_login(membership.user)

    client.post(reverse("profile"), {"display_name": "Ada L.", "language": "en"})

    assert str(User.objects.get(pk=membership.user.pk)) == "Ada L."
    assert "Ada L." in client.get(reverse("members", args=[membership.team.slug])).content.decode()
