"""Tags that every page of the portal uses: icons and moments."""

from datetime import datetime
from zoneinfo import ZoneInfo

from django import template
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.templatetags.static import static
from django.utils import formats
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.models import Team

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A picture out of icons.svg. It is hidden from screen readers: a word always stands beside it."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("portal/icons.svg"), name)


@register.simple_tag
def moment(at: datetime | None, team: Team, form: str = "relative") -> SafeString | str:
    """A time in words ("5 minutes ago"), exact on hover in the team's zone; `form` "exact" turns that round."""
    if at is None:
        return "—"
    local = at.astimezone(ZoneInfo(team.time_zone))
    exact = f"{formats.date_format(local, 'SHORT_DATETIME_FORMAT')} {local.tzname()}"
    relative = naturaltime(at)
    shown, hint = (relative, exact) if form == "relative" else (exact, relative)
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(timespec="seconds"), hint, shown)
