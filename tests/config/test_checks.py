"""What an operator is told about the settings."""

import pytest

from config import checks


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


def test_good_settings_are_not_complained_about(settings):
    settings.PUBLIC_URL = "https://tunehouse.example.com"
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    settings.PRODUCTION = True

    found = [*checks.trusted_proxies(), *checks.encryption_keys(), *checks.public_url(), *checks.reachable(), *checks.production()]

    assert found == []
