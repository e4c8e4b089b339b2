"""Tags that every page of the portal uses: icons and moments."""

from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from babel.dates import format_skeleton, format_timedelta
from django import template
from django.template import Context
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import now
from django.utils.translation import get_language, to_locale
from django.utils.translation import gettext as _

from accounts.models import Team

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A picture out of icons.svg. It is hidden from screen readers: a word always stands beside it."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("portal/icons.svg"), name)


@register.simple_tag(takes_context=True)
def rail_link(context: Context, address: str, picture: str, label: str) -> SafeString:
    """A line of the left rail, marked while a page of its section is open."""
    is_open = context["request"].path.startswith(address)
    mark = mark_safe(' aria-current="page"') if is_open else ""
    return format_html('<li><a href="{}"{}>{}{}</a></li>', address, mark, icon(picture), label)


@register.simple_tag
def moment(at: datetime | None, team: Team, form: str = "relative") -> SafeString | str:
    """A time in words ("5 minutes ago"), exact on hover in the team's zone.

    `form` "short" says "5 min ago", and "exact" turns words and hover round.
    """
    if at is None:
        return "—"
    exact, relative = _exact(at, team), _relative(at, "short" if form == "short" else "long")
    shown, hint = (exact, relative) if form == "exact" else (relative, exact)
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(timespec="seconds"), hint, shown)


def _exact(at: datetime, team: Team) -> str:
    local = at.astimezone(ZoneInfo(team.time_zone))
    day = format_skeleton("MMMd" if local.year == now().year else "yMMMd", local, locale=_locale())
    return f"{day}, {local:%H:%M} {local.tzname()}"


def _relative(at: datetime, width: Literal["short", "long"]) -> str:
    distance = at - now()
    if abs(distance) < timedelta(minutes=1):
        return _("just now")
    return format_timedelta(distance, granularity="minute", add_direction=True, format=width, locale=_locale())


def _locale() -> str:
    return to_locale(get_language() or "en")
