"""What an operator is told about the settings."""

import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import checks, directory, keys
from tests.servers import ROOT, database_url


def test_a_proxy_that_is_no_network_is_named(settings):
    settings.TRUSTED_PROXIES = ["10.0.0.0/8", "::1", "proxy.internal"]

    found = checks.trusted_proxies()

    assert [message.msg for message in found] == ["TUNEHOUSE_TRUSTED_PROXIES: 'proxy.internal' is no address or network."]


def test_a_key_that_encrypts_nothing_is_counted_and_not_shown(settings):
    settings.ENCRYPTION_KEYS = [*settings.ENCRYPTION_KEYS, "short-and-secret"]

    found = checks.encryption_keys()

    assert [message.msg for message in found] == ["Key 2 of TUNEHOUSE_ENCRYPTION_KEYS is no Fernet key."]
    assert "short-and-secret" not in str(found)


@pytest.mark.parametrize("url", ["tunehouse.example.com", "https://tunehouse.example.com/app", "ftp://tunehouse.example.com"])
def test_a_public_address_that_cannot_be_called_is_an_error(settings, url):
    settings.PUBLIC_URL = url

    found = checks.public_url()

    assert [message.id for message in found] == ["tunehouse.E003"]


def test_a_role_that_does_not_exist_is_named(settings):
    settings.OIDC_ROLES = directory.roles("ml-leads=atelier:lead, all=the team=atelier:boss", name="TUNEHOUSE_OIDC_ROLES")

    found = checks.directory_roles()

    assert [message.msg for message in found] == ["TUNEHOUSE_OIDC_ROLES: there is no role 'boss', which the group all=the team is to have."]


@pytest.mark.parametrize("text", ["ml-leads", "ml-leads=atelier", "ml-leads=:lead", "=atelier:lead"])
def test_a_mapping_of_groups_that_is_none_is_refused_by_name(text):
    with pytest.raises(ImproperlyConfigured, match=f"TUNEHOUSE_OIDC_ROLES: '{text}' is no group=team:role"):
        directory.roles(f"ml-all=atelier:viewer,{text}", name="TUNEHOUSE_OIDC_ROLES")


def test_a_server_that_nobody_can_sign_in_to_is_an_error(settings):
    settings.ALLOW_PASSWORDS = False
    alone = checks.somebody_may_sign_in()
    settings.OIDC_ISSUER = "https://login.example.com"

    assert [message.id for message in alone] == ["tunehouse.E005"]
    assert checks.somebody_may_sign_in() == []


def test_a_proxy_that_is_not_named_is_hinted_at(settings):
    settings.PUBLIC_URL = "https://tunehouse.example.com"

    assert [message.id for message in checks.proxy_in_front()] == ["tunehouse.W003"]


def test_passwords_that_go_to_the_directory_in_clear_are_warned_of(settings):
    settings.LDAP_URL, settings.OIDC_ISSUER = "ldap://ldap.example.com", "http://login.example.com"
    in_clear = checks.encrypted_directory()
    settings.LDAP_START_TLS, settings.OIDC_ISSUER = True, "https://login.example.com"

    assert [message.id for message in in_clear] == ["tunehouse.W004"] * 2
    assert checks.encrypted_directory() == []


def test_a_production_of_good_settings_passes_the_deployment_checks(tmp_path):
    environment = os.environ | {
        "TUNEHOUSE_PRODUCTION": "1",
        "TUNEHOUSE_DATA": str(tmp_path),
        "TUNEHOUSE_PUBLIC_URL": "https://tunehouse.example.com",
        "TUNEHOUSE_TRUSTED_PROXIES": "127.0.0.1",
        "TUNEHOUSE_ENCRYPTION_KEYS": keys.encryption_key(),
        "SECRET_KEY": keys.secret_key() * 2,
        "CELERY_BROKER_URL": "redis://localhost:6379/0",
        "DATABASE_URL": database_url(),
    }

    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)

    assert (done.returncode, "System check identified no issues" in done.stdout + done.stderr) == (0, True), done.stderr


def test_good_settings_are_not_complained_about(settings):
    settings.PUBLIC_URL = "https://tunehouse.example.com"
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    settings.PRODUCTION = True

    found = [*checks.trusted_proxies(), *checks.encryption_keys(), *checks.public_url(), *checks.reachable(), *checks.production()]

    assert found == []
