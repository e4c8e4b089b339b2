"""Invites: how they go out, whom they let in, and that each lets in once."""

import smtplib
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.db import connection
from django.utils import timezone, translation

from accounts import audit, invites, members, tasks, teams
from accounts.callers import TeamSuspended
from accounts.errors import Conflict, InvalidInput, NotPermitted
from accounts.invites import AccountExists, AnotherAddress, InviteEnded, TooSoon
from accounts.models import AuditLine, Invite, Membership, User
from accounts.roles import Role
from tests.billing.factories import race
from tests.factories import PASSWORD, MembershipFactory, UserFactory
from tests.jobs.ready import caller_of
from tests.mail import link_in

NEW = "new@example.com"
SITE = "https://tunehouse.test"


@pytest.fixture(autouse=True)
def mail_server(settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"


@pytest.fixture
def caller(db):
    return caller_of(MembershipFactory())


def invite(caller, email=NEW, role="researcher", **options):
    return invites.invite(caller, email=email, role=role, site=SITE, **options)


def secret_in(message):
    return link_in(message).rstrip("/").rpartition("/")[2]


def sent(caller, **options):
    """An invite that went out, and the secret of its link."""
    made = invite(caller, **options)
    tasks.send_mail()
    return made, secret_in(mail.outbox[-1])


def newcomer(secret, username="newcomer"):
    return invites.accept_as_newcomer(secret, username=username, display_name="New Comer", password=PASSWORD, address="192.0.2.1")


def age(made, **days):
    earlier = timedelta(**days)
    Invite.objects.filter(pk=made.pk).update(
        asked_at=made.asked_at - earlier, created_at=made.created_at - earlier, expires_at=made.expires_at - earlier
    )


# --- Sending ----------------------------------------------------------------------------------------------


def test_the_mail_goes_out_after_the_row_is_there(caller, django_capture_on_commit_callbacks, monkeypatch):
    monkeypatch.setattr(tasks.send_mail, "delay", tasks.send_mail)

    with django_capture_on_commit_callbacks(execute=True):
        made = invite(caller)
        before = len(mail.outbox)

    made.refresh_from_db()
    (message,) = mail.outbox
    assert (before, message.to, made.sent_at is not None, made.proves_address) == (0, [NEW], True, True)
    assert message.subject == f"{caller.user} invites you to {caller.team.name}"
    assert f"{caller.user} invites you to the team {caller.team.name} on Tunehouse, as: Researcher." in message.body
    assert link_in(message).startswith(f"{SITE}/invites/")


def test_it_is_written_in_the_language_of_whoever_invites(caller):
    with translation.override("es"):
        invite(caller)

    tasks.send_mail()

    assert Invite.objects.get().language == "es"
    assert translation.get_language() == "en"


def test_neither_a_row_nor_an_audit_line_has_the_secret(caller):
    _made, secret = sent(caller)

    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(t::text, '') FROM accounts_invite t")
        rows = cursor.fetchone()[0]
        cursor.execute("SELECT string_agg(t::text, '') FROM accounts_auditline t")
        rows += cursor.fetchone()[0]
    assert (NEW in rows, secret in rows, len(secret)) == (True, False, 43)


def test_a_repeated_task_sends_nothing_again(caller):
    sent(caller)

    tasks.send_mail()

    assert len(mail.outbox) == 1


@pytest.mark.parametrize("error", [OSError("no route"), smtplib.SMTPRecipientsRefused({NEW: (550, b"no")})])
def test_a_mail_that_fails_goes_out_later_with_a_link_that_works(caller, monkeypatch, error):
    made = invite(caller)
    with monkeypatch.context() as away:
        away.setattr("tests.mail.EmailBackend.send_messages", lambda *_: (_ for _ in ()).throw(error))
        tasks.send_mail()
    made.refresh_from_db()
    unsent = made.sent_at

    tasks.send_mail()

    assert (unsent, len(mail.outbox)) == (None, 1)
    assert newcomer(secret_in(mail.outbox[0])).team == caller.team


def test_one_refused_address_does_not_stop_the_others(caller, monkeypatch):
    from tests.mail import EmailBackend

    real = EmailBackend.send_messages

    def send(self, messages):
        if messages[0].to == ["bad@example.com"]:
            raise smtplib.SMTPRecipientsRefused({})
        return real(self, messages)

    monkeypatch.setattr(EmailBackend, "send_messages", send)
    invite(caller, email="bad@example.com")
    invite(caller)

    tasks.send_mail()

    assert [message.to for message in mail.outbox] == [[NEW]]


def test_a_server_without_mail_sends_nothing_and_hands_the_link_out(caller, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    made = invite(caller)
    tasks.send_mail()

    secret = invites.hand_out(caller, made)

    membership = newcomer(secret)
    assert membership.role == "researcher"
    # Nobody has shown that they read the mail of this address.
    assert not EmailAddress.objects.get(user=membership.user).verified


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"email": "no address"}, InvalidInput),
        ({"email": ""}, InvalidInput),
        ({"role": "boss"}, InvalidInput),
        ({"days": 0}, InvalidInput),
        ({"days": 31}, InvalidInput),
    ],
)
def test_what_cannot_be_invited_is_refused_and_leaves_nothing(caller, asked, refusal):
    with pytest.raises(refusal):
        invite(caller, **asked)

    assert (Invite.objects.count(), AuditLine.objects.count()) == (0, 0)


def test_an_address_has_one_open_invite_and_members_have_none(caller):
    invite(caller)

    with pytest.raises(Conflict, match="open invite already"):
        invite(caller, email=NEW.upper())
    with pytest.raises(Conflict, match="in the team already"):
        invite(caller, email=caller.user.email.upper())


def test_an_invite_that_is_too_old_makes_room(caller):
    made, secret = sent(caller)
    age(made, days=8)

    again = invite(caller)

    assert again.pk != made.pk
    with pytest.raises(InviteEnded):
        newcomer(secret)


def test_inviting_says_the_same_of_an_address_with_an_account_and_one_without(caller):
    UserFactory(email="known@example.com")

    known, unknown = invite(caller, email="known@example.com"), invite(caller)

    said = list(AuditLine.objects.filter(event_type="invite.created").values_list("action", "after"))
    assert {known.role, unknown.role} == {"researcher"}
    assert [set(after) for _action, after in said] == [{"email", "role", "days"}] * 2


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.LEAD])
def test_only_owners_invite_resend_and_take_back(caller, role):
    made, _secret = sent(caller)
    other = caller_of(MembershipFactory(team=caller.team, role=role))

    for act in (lambda: invite(other, email="x@example.com"), lambda: invites.resend(other, made), lambda: invites.revoke(other, made)):
        with pytest.raises(NotPermitted):
            act()


# --- Again, back, too late --------------------------------------------------------------------------------


def test_sent_again_it_has_another_link_for_as_many_days(caller):
    made, first = sent(caller, days=3)
    age(made, days=1)

    invites.resend(caller, made, site=SITE)
    tasks.send_mail()

    made.refresh_from_db()
    assert made.expires_at - made.asked_at == timedelta(days=3)
    with pytest.raises(InviteEnded):
        newcomer(first)
    assert newcomer(secret_in(mail.outbox[-1])).team == caller.team


def test_it_is_sent_at_most_once_a_minute(caller):
    made, secret = sent(caller)

    with pytest.raises(TooSoon):
        invites.resend(caller, made)

    age(made, minutes=1, seconds=1)
    invites.resend(caller, made)
    with pytest.raises(InviteEnded):
        invites.find(secret, now=timezone.now())


def test_what_was_taken_back_lets_nobody_in_and_cannot_be_sent(caller):
    made, secret = sent(caller)

    invites.revoke(caller, made)

    for act in (lambda: newcomer(secret), lambda: invites.resend(caller, made), lambda: invites.revoke(caller, made)):
        with pytest.raises(InviteEnded):
            act()
    assert list(AuditLine.objects.filter(team=caller.team).order_by("sequence").values_list("event_type", flat=True)) == [
        "invite.created",
        "invite.revoked",
    ]


def test_an_old_one_lets_nobody_in_and_the_sweep_closes_it(caller):
    made, secret = sent(caller)
    age(made, days=7, seconds=1)

    with pytest.raises(InviteEnded):
        newcomer(secret)
    tasks.send_mail()
    tasks.send_mail()

    line = AuditLine.objects.get(event_type="invite.expired")
    assert (line.team, line.actor, Invite.objects.open().count()) == (caller.team, "", 0)


# --- Coming in --------------------------------------------------------------------------------------------


def test_a_newcomer_gets_an_account_with_a_confirmed_address_and_the_role(caller):
    made, secret = sent(caller, role="lead")

    membership = newcomer(secret)

    person = User.objects.get(email=NEW)
    made.refresh_from_db()
    assert (membership.user, membership.role, str(person), person.is_staff) == (person, "lead", "New Comer", False)
    assert person.check_password(PASSWORD)
    assert EmailAddress.objects.get(user=person).verified
    assert made.accepted_at is not None
    line = AuditLine.objects.get(event_type="member.added")
    assert (line.team, line.actor, line.address) == (caller.team, "newcomer", "192.0.2.1")
    assert line.after == {"role": "lead", "invited_by": caller.user.username}
    assert AuditLine.objects.get(event_type="user.created").team is None
    assert audit.verify(caller.team).valid


def test_somebody_with_an_account_comes_in_with_it(caller):
    person = UserFactory(email="Known@example.com")
    EmailAddress.objects.create(user=person, email=person.email, primary=True, verified=False)
    _made, secret = sent(caller, email="known@EXAMPLE.com")

    with pytest.raises(AccountExists):
        newcomer(secret)
    membership = invites.accept(secret, by=person, address="")

    assert (membership.team, membership.user, membership.role) == (caller.team, person, "researcher")
    assert EmailAddress.objects.get(user=person).verified


def test_a_second_address_counts_once_it_is_confirmed(caller):
    person = UserFactory()
    second = EmailAddress.objects.create(user=person, email=NEW, verified=False)
    _made, secret = sent(caller)

    with pytest.raises(AnotherAddress):
        invites.accept(secret, by=person, address="")
    second.verified = True
    second.save()

    assert invites.accept(secret, by=person, address="").user == person


def test_somebody_elses_invite_lets_nobody_in_and_stays_open(caller):
    made, secret = sent(caller)
    stranger = UserFactory()

    with pytest.raises(AnotherAddress):
        invites.accept(secret, by=stranger, address="")

    made.refresh_from_db()
    assert (made.accepted_at, stranger.teams.count()) == (None, 0)


def test_who_is_in_the_team_already_stays_what_they_are(caller):
    person = UserFactory(email=NEW)
    _made, secret = sent(caller, role="viewer")
    MembershipFactory(team=caller.team, user=person, role=Role.LEAD)

    membership = invites.accept(secret, by=person, address="")

    assert (membership.role, Invite.objects.open().count()) == ("lead", 0)


def test_a_link_works_once(caller):
    _made, secret = sent(caller)
    person = newcomer(secret).user

    with pytest.raises(InviteEnded):
        newcomer(secret, username="second")
    with pytest.raises(InviteEnded):
        invites.accept(secret, by=person, address="")


def test_a_taken_user_name_leaves_the_invite_open(caller):
    UserFactory(username="Taken")
    _made, secret = sent(caller)

    with pytest.raises(Conflict, match="user name"):
        newcomer(secret, username="taken")

    assert newcomer(secret).user.email == NEW


@pytest.mark.parametrize("secret", ["", "x", "x" * 43, "é" * 43])
def test_a_link_that_never_was_is_one_that_ended(db, secret):
    with pytest.raises(InviteEnded):
        newcomer(secret)


def test_a_suspended_team_lets_nobody_in_until_it_is_released(caller):
    staff = UserFactory(is_staff=True)
    _made, secret = sent(caller)
    teams.suspend(caller.team, by=staff, reason="unpaid")

    with pytest.raises(TeamSuspended):
        newcomer(secret)
    teams.release(caller.team, by=staff, reason="paid")

    assert newcomer(secret).team == caller.team


@pytest.mark.parametrize("goes", ["removed", "demoted"])
def test_nobody_comes_in_by_the_word_of_who_may_not_give_it_any_more(caller, goes):
    colleague = MembershipFactory(team=caller.team)
    _made, secret = sent(caller_of(colleague), role="owner")

    if goes == "removed":
        members.remove(caller, colleague)
    else:
        members.change_role(caller, colleague, role="lead")

    with pytest.raises(InviteEnded):
        newcomer(secret)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_use_a_link_at_once_one_comes_in():
    caller = caller_of(MembershipFactory())
    _made, secret = sent(caller)

    outcomes = race(lambda number: newcomer(secret, username=f"racer-{number}"), times=6)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InviteEnded"] * 5 + ["Membership"]
    assert (User.objects.filter(email=NEW).count(), Membership.objects.filter(team=caller.team).count()) == (1, 2)


@pytest.mark.django_db(transaction=True)
def test_two_teams_that_invite_the_same_newcomer_make_one_account():
    secrets = [sent(caller_of(MembershipFactory()))[1] for _ in range(2)]

    outcomes = race(lambda number: newcomer(secrets[number], username=f"racer-{number}"), times=2, threads=2)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AccountExists", "Membership"]
    assert User.objects.filter(email=NEW).count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_invite_that_is_taken_back_while_it_is_used_does_one_of_both():
    caller = caller_of(MembershipFactory())
    made, secret = sent(caller)

    outcomes = race(lambda number: [newcomer, invites.revoke][number](*[(secret,), (caller, made)][number]), times=2, threads=2)

    assert [isinstance(outcome, InviteEnded) for outcome in outcomes].count(True) == 1


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_a_mail_once():
    invite(caller_of(MembershipFactory()))

    race(lambda _number: invites.send_waiting(now=timezone.now()), times=4, threads=4)

    assert len(mail.outbox) == 1
