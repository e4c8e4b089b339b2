"""Another encryption key: every secret gets it while processes read and write, and a command that was killed can be repeated."""

import signal

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from accounts import credentials, encryption, rekeying
from accounts.models import Credential
from jobs.models import ProviderSettings
from tests.config.processes import python, running, wait_until
from tests.factories import CredentialFactory, MembershipFactory, TeamFactory, UserFactory
from tests.servers import database_url

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
PROCESSES = 8


@pytest.fixture
def old(settings):
    settings.ENCRYPTION_KEYS = [OLD]


def both(settings):
    settings.ENCRYPTION_KEYS = [NEW, OLD]


def sealed():
    """The credentials' secrets as the table has them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM accounts_credential ORDER BY id")
        return [value for (value,) in cursor.fetchall()]


def opens(key, text):
    return Fernet(key).decrypt(text.encode()).decode()


def test_fields_are_found_by_their_class_whatever_app_they_are_in():
    found = {f"{model._meta.label}.{field.name}" for model, field in rekeying.sealed_columns()}

    assert found == {
        "accounts.AuditForwarding.auth_token",
        "accounts.Credential.secret",
        "accounts.Credential.signing_keys",
        "jobs.StorageKey.secret",
        "jobs.ProviderSettings.proxy_url",
    }


@pytest.mark.django_db
def test_every_secret_is_put_on_the_new_key_and_nothing_else_changes(old, settings, capsys):
    first = CredentialFactory(signing_keys="whsec_one")
    removed = CredentialFactory(secret="", signing_keys="")
    ProviderSettings.objects.create(team=TeamFactory(), proxy_url="http://me:planted@proxy:1")
    person = UserFactory()
    TOTP.activate(person, "JBSWY3DPEHPK3PXP")
    updated_at = first.updated_at
    both(settings)

    call_command("rotate_encryption_keys")
    said = capsys.readouterr().out
    call_command("rotate_encryption_keys")

    assert "accounts.Credential.secret: 1 secrets, 1 put on the first key" in said
    assert "mfa.Authenticator.data: 1 secrets, 1 put on the first key" in said
    assert "accounts.Credential.secret: 1 secrets, 0 put on the first key" in capsys.readouterr().out
    settings.ENCRYPTION_KEYS = [NEW]
    first.refresh_from_db()
    removed.refresh_from_db()
    assert (first.reveal(), first.signing_keys, first.updated_at, removed.secret) == (first.secret, "whsec_one", updated_at, "")
    assert ProviderSettings.objects.get().proxy_url == "http://me:planted@proxy:1"
    assert encryption.decrypt(Authenticator.objects.get().data["secret"]) == "JBSWY3DPEHPK3PXP"


@pytest.mark.django_db
def test_a_secret_that_no_key_opens_is_named_and_left_as_it_is(old, settings, capsys):
    CredentialFactory()
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    CredentialFactory()
    lost = sealed()[1]
    both(settings)

    with pytest.raises(CommandError, match="1 secrets open with no key of the list"):
        call_command("rotate_encryption_keys")

    assert "accounts.Credential.secret: 2 secrets, 1 put on the first key, 1 open with no key" in capsys.readouterr().out
    assert sealed()[1] == lost
    assert opens(NEW, sealed()[0]).startswith("r8_")


@pytest.mark.django_db
def test_a_row_that_is_written_meanwhile_is_not_overwritten(old, settings, monkeypatch):
    credential = CredentialFactory()
    both(settings)
    renew, written = encryption.renew, []

    def renew_late(text):
        fresh = renew(text)
        if not written:
            settings.ENCRYPTION_KEYS = [OLD, NEW]  # a process that does not know the new order yet
            Credential.objects.filter(pk=credential.pk).update(secret="r8_meanwhile")
            written.append(True)
            both(settings)
        return fresh

    monkeypatch.setattr(encryption, "renew", renew_late)

    rekeying.renew()

    assert opens(NEW, sealed()[0]) == "r8_meanwhile"


@pytest.mark.django_db(transaction=True)
def test_eight_processes_read_and_write_meanwhile_and_nothing_fails(old, settings):
    owner = MembershipFactory()
    for number in range(100):
        credentials.save(team=owner.team, kind="s3", name=f"kept-{number}", secret=f"secret-{number}", by=owner.user)
    both(settings)
    environment = {"DATABASE_URL": database_url(), "TUNEHOUSE_ENCRYPTION_KEYS": f"{NEW},{OLD}"}
    workers = [
        running(*python("-m", "tests.accounts.busy_with_credentials", str(number)), environment=environment) for number in range(PROCESSES)
    ]
    entered = [worker.__enter__() for worker in workers]
    try:
        for worker in entered:
            worker.line(lambda line: line == "busy")

        call_command("rotate_encryption_keys")

        codes = [worker.end() for worker in entered]
    finally:
        for worker in workers:
            worker.__exit__(None, None, None)

    said = [worker.lines[-1] for worker in entered]
    assert (codes, [line.split()[0] for line in said]) == ([0] * PROCESSES, ["done"] * PROCESSES), said
    assert all(int(line.split()[1]) > 0 for line in said)
    settings.ENCRYPTION_KEYS = [NEW]
    kept = list(Credential.objects.all())
    assert len(kept) > 100
    assert [credential for credential in kept if credentials.fingerprint(credential.secret) != credential.fingerprint] == []


@pytest.mark.django_db(transaction=True)
def test_a_command_that_was_killed_leaves_every_secret_readable_and_the_next_one_ends_it(old, settings):
    CredentialFactory.create_batch(1500)
    environment = {"DATABASE_URL": database_url(), "TUNEHOUSE_ENCRYPTION_KEYS": f"{NEW},{OLD}"}
    both(settings)
    half_way = Credential.objects.order_by("pk")[750].pk
    with transaction.atomic():
        # It goes from key to key, and here it waits for us.
        Credential.objects.select_for_update().get(pk=half_way)
        with running(*python("manage.py", "rotate_encryption_keys"), environment=environment) as command:
            wait_until(lambda: any(encryption.is_current(text) for text in sealed()))
            command.end(signal.SIGKILL)

    on_new = sum(encryption.is_current(text) for text in sealed())
    assert 0 < on_new < 1500
    assert all(credential.secret.startswith("r8_") for credential in Credential.objects.all())
    call_command("rotate_encryption_keys")
    assert all(opens(NEW, text).startswith("r8_") for text in sealed())
