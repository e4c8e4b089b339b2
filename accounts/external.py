"""Ways to sign in besides the password, as the environment sets them up."""

from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True)
class Way:
    name: str
    type: str


def available() -> list[Way]:
    """OIDC providers where django-allauth has some, and LDAP where its backend is in use."""
    apps = getattr(settings, "SOCIALACCOUNT_PROVIDERS", {}).get("openid_connect", {}).get("APPS", [])
    ways = [Way(name=app["provider_id"], type="oidc") for app in apps]
    if any("ldap" in backend.lower() for backend in settings.AUTHENTICATION_BACKENDS):
        ways.append(Way(name="ldap", type="ldap"))
    return ways
