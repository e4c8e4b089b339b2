"""What `manage.py check` tells an operator: what is wrong with the settings, and how to mend it."""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from accounts.roles import Role


@register(Tags.security)
def trusted_proxies(**_: Any) -> list[CheckMessage]:
    return [
        Error(f"TUNEHOUSE_TRUSTED_PROXIES: '{entry}' is no address or network.", hint="Write 10.0.0.1 or 10.0.0.0/8.", id="tunehouse.E001")
        for entry in settings.TRUSTED_PROXIES
        if not _is_network(entry)
    ]


@register(Tags.security)
def encryption_keys(**_: Any) -> list[CheckMessage]:
    hint = "Make one with: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
    return [
        Error(f"Key {number} of TUNEHOUSE_ENCRYPTION_KEYS is no Fernet key.", hint=hint, id="tunehouse.E002")
        for number, key in enumerate(settings.ENCRYPTION_KEYS, start=1)
        if not _is_fernet_key(key)
    ]


@register
def public_url(**_: Any) -> list[CheckMessage]:
    parts = urlsplit(settings.PUBLIC_URL)
    if settings.PUBLIC_URL and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path):
        hint = "Write https://tunehouse.example.com, without a path."
        return [Error(f"TUNEHOUSE_PUBLIC_URL: '{settings.PUBLIC_URL}' is no address of a server.", hint=hint, id="tunehouse.E003")]
    return []


@register(Tags.security)
def directory_roles(**_: Any) -> list[CheckMessage]:
    asked = [("TUNEHOUSE_OIDC_ROLES", settings.OIDC_ROLES), ("TUNEHOUSE_LDAP_ROLES", settings.LDAP_ROLES)]
    hint = f"Roles are {', '.join(Role.values)}."
    return [
        Error(f"{name}: there is no role '{entry.role}', which the group {entry.group} is to have.", hint=hint, id="tunehouse.E004")
        for name, entries in asked
        for entry in entries
        if entry.role not in Role.values
    ]


@register(Tags.security)
def somebody_may_sign_in(**_: Any) -> list[CheckMessage]:
    if settings.ALLOW_PASSWORDS or settings.OIDC_ISSUER or settings.LDAP_URL:
        return []
    hint = "Set TUNEHOUSE_OIDC_ISSUER or TUNEHOUSE_LDAP_URL, or take TUNEHOUSE_PASSWORDS=0 away."
    return [Error("TUNEHOUSE_PASSWORDS is 0, and there is no other way to sign in.", hint=hint, id="tunehouse.E005")]


@register(Tags.security, deploy=True)
def encrypted_directory(**_: Any) -> list[CheckMessage]:
    hint = "Use an address that begins with https or ldaps, or TUNEHOUSE_LDAP_START_TLS=1."
    found: list[CheckMessage] = []
    if settings.OIDC_ISSUER and not settings.OIDC_ISSUER.startswith("https://"):
        found.append(Warning("TUNEHOUSE_OIDC_ISSUER is asked without encryption.", hint=hint, id="tunehouse.W004"))
    if settings.LDAP_URL.startswith("ldap://") and not settings.LDAP_START_TLS:
        found.append(Warning("TUNEHOUSE_LDAP_URL gets people's passwords without encryption.", hint=hint, id="tunehouse.W004"))
    return found


@register(Tags.security, deploy=True)
def proxy_in_front(**_: Any) -> list[CheckMessage]:
    if settings.TRUSTED_PROXIES or not settings.PUBLIC_URL.startswith("https://"):
        return []
    hint = "Name the addresses from which it calls; until then everybody shares its address, and with it the rate limits."
    return [Warning("https says that a proxy is in front, and TUNEHOUSE_TRUSTED_PROXIES is empty.", hint=hint, id="tunehouse.W003")]


@register(Tags.security, deploy=True)
def reachable(**_: Any) -> list[CheckMessage]:
    if settings.PUBLIC_URL.startswith("https://"):
        return []
    hint = "Set it to the https address at which Replicate reaches this server; without it there are no webhooks and no results kept here."
    return [Warning("TUNEHOUSE_PUBLIC_URL names no https address.", hint=hint, id="tunehouse.W001")]


@register(Tags.security, deploy=True)
def production(**_: Any) -> list[CheckMessage]:
    if settings.PRODUCTION:
        return []
    hint = "Set TUNEHOUSE_PRODUCTION=1, SECRET_KEY, TUNEHOUSE_ENCRYPTION_KEYS, DATABASE_URL and CELERY_BROKER_URL."
    return [Warning("This installation does not run as production.", hint=hint, id="tunehouse.W002")]


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_fernet_key(text: str) -> bool:
    try:
        Fernet(text)
    except ValueError:
        return False
    return True
