"""How the provider is, where people should know it."""

from django import template
from django.utils import timezone

from jobs.models import ProviderStatus
from jobs.services import statuspage

register = template.Library()


@register.inclusion_tag("shared/_provider_banner.html")
def provider_banner() -> dict[str, object]:
    """A line on every team page while the provider has troubles; nothing where all is well or nobody knows."""
    return {"status": statuspage.standing(now=timezone.now())}


@register.simple_tag
def provider_status() -> ProviderStatus:
    """The provider's status as it was last read; nobody is asked while a page waits."""
    return statuspage.standing(now=timezone.now())
