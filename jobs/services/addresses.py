"""Where the outside world reaches us: the webhook's address and the storage endpoint's, for one team."""

from django.conf import settings
from django.urls import reverse

from accounts.models import Team
from jobs.models import Job
from jobs.models.catalogue import Provider
from jobs.services.provider import settings_of

# Networks from which Replicate is said to call. Source: SimpleTuner docs, cloud training, "Firewall configuration".
DOCUMENTED_RANGES = ("34.82.0.0/16", "35.185.0.0/16")


def public_base(team: Team, *, provider: str = Provider.REPLICATE) -> str:
    """The address without a path at which the provider reaches this installation; "" where nobody has named one."""
    if provider == Provider.SANDBOX:
        return str(settings.SANDBOX_CALLBACK_URL)
    return (settings_of(team).webhook_url or settings.PUBLIC_URL).rstrip("/")


def storage_endpoint(team: Team, *, provider: str = Provider.REPLICATE) -> str:
    """The S3 endpoint that a trainer is given; "" where the provider cannot reach us or the team turned it off."""
    own = settings_of(team)
    named = own.s3_public_url if provider == Provider.REPLICATE else ""
    base = (named or public_base(team, provider=provider)).rstrip("/")
    if not own.s3_endpoint_enabled or not base:
        return ""
    path = reverse("storage:root").rstrip("/")
    return base if base.endswith(path) else base + path


def webhook_url(job: Job) -> str | None:
    """The address for one job's webhooks, with its id and its unguessable key; None where we cannot be reached."""
    base = public_base(job.team, provider=job.provider)
    if not base:
        return None
    return f"{base}{reverse('webhooks:replicate')}?job={job.job_id}&callback={job.callback_key}"
