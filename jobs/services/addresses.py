"""Where the outside world reaches us: the webhook's address and the storage endpoint's, for one team."""

import ipaddress
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import reverse

from accounts.models import Team
from jobs.models import Job
from jobs.services.provider import settings_of


def public_base(team: Team) -> str:
    """The address without a path at which the provider reaches this installation; "" where nobody has named one."""
    return (settings_of(team).webhook_url or settings.PUBLIC_URL).rstrip("/")


def storage_endpoint(team: Team) -> str:
    """The S3 endpoint that a trainer is given; "" where the provider cannot reach us or the team turned it off."""
    own = settings_of(team)
    base = (own.s3_public_url or public_base(team)).rstrip("/")
    if not own.s3_endpoint_enabled or not base:
        return ""
    path = reverse("storage:root").rstrip("/")
    return base if base.endswith(path) else base + path


def webhook_url(job: Job) -> str | None:
    """The address for one job's webhooks, with its id and its unguessable key; None where we cannot be reached."""
    base = public_base(job.team)
    if not base:
        return None
    return f"{base}{reverse('webhooks:replicate')}?job={job.job_id}&callback={job.callback_key}"


def problem_with_public_url(url: str) -> str:
    """What is wrong with an address that the provider shall call; "" if nothing.

    One rule for webhook addresses, S3 probes and outgoing hooks: https, or http and private hosts only where
    the administrator allows them (TUNEHOUSE_ALLOW_PRIVATE_HOSTS).
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"'{url}' is not an http or https address."
    if settings.ALLOW_PRIVATE_HOSTS:
        return ""
    if parts.scheme != "https":
        return "The address must begin with https."
    if _is_private(parts.hostname):
        return f"{parts.hostname} is a private host, which the provider cannot reach."
    return ""


def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host
