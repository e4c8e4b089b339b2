"""Money and durations as people read them, and the money bar."""

from datetime import timedelta
from decimal import Decimal

from babel.numbers import format_currency
from django import template
from django.template import Context
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, to_locale
from django.utils.translation import gettext_lazy as _

from billing.prices import CENT, as_number
from jobs import money_bar as bars

register = template.Library()

# What brought a job's event about, by the word that services write.
CAUSES = {
    "submit": _("submitted"),
    "dispatch": _("its turn had come"),
    "launch": _("our launcher"),
    "search": _("found at the provider"),
    "webhook": _("webhook"),
    "poll": _("asked the provider"),
    "sync": _("asked by a person"),
    "archive": _("asked the provider"),
    "cancel": _("cancelled"),
    "person": _("a person"),
    "approval": _("approved"),
    "rejection": _("rejected"),
    "expiry": _("nobody approved it in time"),
    "provider": _("the provider"),
    "watchdog": _("stop time"),
    "rule": _("the team's rule"),
    "trainer": _("the trainer itself"),
}


@register.filter
def dollars(micros: int | None) -> str:
    """Micro-dollars as text in the person's language: two decimals, four below a cent; a dash for None."""
    if micros is None:
        return "—"
    amount = as_number(micros)
    pattern = "0.0000" if 0 < abs(amount) < CENT else "0.00"
    return _currency(amount.quantize(Decimal(pattern)))


@register.filter
def money(micros: int | None) -> SafeString | str:
    """The same with the exact figure on hover."""
    if micros is None:
        return "—"
    return format_html('<data class="number" value="{0}" title="{0} USD">{1}</data>', f"{as_number(micros):f}", dollars(micros))


@register.filter
def exact(micros: int | None) -> str:
    """Micro-dollars to the last digit; a dash for None."""
    return "—" if micros is None else _currency(as_number(micros))


@register.filter
def rate(usd: Decimal) -> str:
    """A price by time in US dollars, with all decimals that it has and two at least."""
    exact = usd.normalize()
    decimals = max(2, -int(exact.as_tuple().exponent))
    return _currency(exact.quantize(Decimal(1).scaleb(-decimals)))


def _currency(amount: Decimal) -> str:
    locale = to_locale(get_language() or "en")
    return format_currency(amount, "USD", locale=locale, currency_digits=False, decimal_quantization=False)


@register.filter
def duration(seconds: float | None) -> str:
    """Seconds as "45 s", "12 min 5 s" or "3 h 20 min"; a dash for None."""
    if seconds is None:
        return "—"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest and minutes < 30 else f"{minutes} min"
    return f"{rest} s"


@register.filter
def span(length: timedelta | None) -> str:
    """The same for a timedelta."""
    return duration(None if length is None else length.total_seconds())


@register.filter
def job_id(reference: str) -> str:
    """The id of the job that a ledger line names; "" if it names none."""
    return reference.removeprefix("job:") if reference.startswith("job:") else ""


@register.filter
def cause(word: str) -> str:
    """The cause of an event in words; one that has none as it is."""
    return str(CAUSES.get(word, word))


@register.inclusion_tag("jobs/_money_bar.html", takes_context=True)
def money_bar(context: Context) -> dict[str, object]:
    """The bar on every team page: used, held and left of the limit that will refuse first."""
    caller = context["request"].caller
    return {"bar": bars.bar_for(team=caller.team, user=caller.user, now=timezone.now()), "team": caller.team}
