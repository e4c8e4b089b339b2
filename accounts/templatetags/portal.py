"""Tags that every page of the portal uses, and mails: icons and moments."""

from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from babel.dates import format_skeleton, format_timedelta
from django import template
from django.conf import settings
from django.template import Context
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import now
from django.utils.translation import get_language, ngettext, to_locale
from django.utils.translation import gettext as _

from accounts import registration, teams
from accounts.models import Team, User

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A picture out of icons.svg. It is hidden from screen readers: a word always stands beside it."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("portal/icons.svg"), name)


@register.simple_tag
def accounts_are_open() -> bool:
    """Whether people may make accounts for themselves."""
    return registration.current().is_open


@register.simple_tag
def mail_is_sent() -> bool:
    """Whether a mail of this server goes to its reader."""
    return registration.sends_mail()


@register.simple_tag
def staff_to_ask() -> list[User]:
    """Whom a suspended team turns to."""
    return teams.staff_to_ask()


@register.simple_tag
def ways_to_sign_in() -> dict[str, bool]:
    """Whether a password is asked for at all: one that is kept here, or one that LDAP knows."""
    return {"by_password": settings.ALLOW_PASSWORDS or bool(settings.LDAP_URL)}


@register.simple_tag(takes_context=True)
def rail_link(context: Context, address: str, picture: str, label: str, waiting: int = 0) -> SafeString:
    """A line of the left rail, marked while a page of its section is open, with how many things wait there for the person."""
    is_open = context["request"].path.startswith(address)
    mark = mark_safe(' aria-current="page"') if is_open else ""
    count = _count(waiting) if waiting else ""
    return format_html('<li><a href="{}"{}>{}{}{}</a></li>', address, mark, icon(picture), label, count)


def _count(waiting: int) -> SafeString:
    """A number for the eyes, and a sentence for screen readers and on hover."""
    words = ngettext("%(count)s waits for you", "%(count)s wait for you", waiting) % {"count": waiting}
    spoken = format_html('<span class="visually-hidden">: {}</span>', words)
    return format_html('<span class="rail-count" title="{}">{}<span aria-hidden="true">{}</span></span>', words, spoken, waiting)


@register.simple_tag
def moment(at: datetime | None, team: Team, form: str = "relative") -> SafeString | str:
    """A time in words ("5 minutes ago"), exact on hover in the team's zone.

    `form` "short" says "5 min ago", "exact" turns words and hover round, and "second" is exact to the second.
    """
    if at is None:
        return "—"
    exact = _exact(at, team, "%H:%M:%S" if form == "second" else "%H:%M")
    relative = _relative(at, "short" if form == "short" else "long")
    shown, hint = (exact, relative) if form in ("exact", "second") else (relative, exact)
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(timespec="seconds"), hint, shown)


@register.filter
def in_zone(moment: str, time_zone: str) -> str:
    """A moment of a mail's facts, which is an ISO text, as the people of a time zone write it."""
    return _written(datetime.fromisoformat(moment).astimezone(ZoneInfo(time_zone)), "yMMMd", "%H:%M")


def _exact(at: datetime, team: Team, clock: str) -> str:
    local = at.astimezone(ZoneInfo(team.time_zone))
    return _written(local, "MMMd" if local.year == now().year else "yMMMd", clock)


def _written(local: datetime, skeleton: str, clock: str) -> str:
    return f"{format_skeleton(skeleton, local, locale=_locale())}, {local.strftime(clock)} {local.tzname()}"


def _relative(at: datetime, width: Literal["short", "long"]) -> str:
    distance = at - now()
    if abs(distance) < timedelta(minutes=1):
        return _("just now")
    return format_timedelta(distance, granularity="minute", add_direction=True, format=width, locale=_locale())


def _locale() -> str:
    return to_locale(get_language() or "en")
