"""The forms of money."""

import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.db.models import QuerySet
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from accounts.forms import MomentInput, TokenForm
from accounts.models import Team, User
from billing.models import LedgerLine, LimitAction, LimitPeriodKind, LineKind, SpendLimit
from billing.periods import bounds
from billing.prices import MICROS_PER_USD, as_number
from billing.token_limits import AtMost


class ChangeLimitForm(forms.Form):
    """What of a limit can be changed. The amount is in US dollars here, and in micro-dollars inside."""

    amount = forms.DecimalField(
        label=_("Amount (USD)"), min_value=0, max_value=Decimal(1_000_000), decimal_places=2, help_text=_("0 blocks everything.")
    )
    action = forms.ChoiceField(
        label=_("When it is reached"),
        choices=[(action.value, capfirst(action.label)) for action in LimitAction],
        initial=LimitAction.BLOCK,
        help_text=_(
            "Block: a job that would pass it is refused. Require approval: such a job waits until a lead or an owner approves it. "
            "Warn: it goes on, with a warning."
        ),
    )
    is_enabled = forms.BooleanField(label=_("It is in force"), required=False, initial=True)

    @classmethod
    def of(cls, limit: SpendLimit, data: Any = None) -> "ChangeLimitForm":
        initial = {"amount": as_number(limit.amount).quantize(Decimal("0.01")), "action": limit.action, "is_enabled": limit.is_enabled}
        return cls(data, initial=initial)

    def asked(self) -> dict[str, Any]:
        """The arguments of the service."""
        return {**self.cleaned_data, "amount": int(self.cleaned_data["amount"] * MICROS_PER_USD)}


class LimitForm(ChangeLimitForm):
    """A new limit of the whole team, or of one of its people."""

    field_order = ["person", "name", "amount", "period", "action"]
    is_enabled = None  # type: ignore[assignment]  # a new one is

    person = forms.ModelChoiceField(label=_("Applies to"), queryset=User.objects.none(), required=False, empty_label=_("The whole team"))
    name = forms.CharField(label=_("Name"), max_length=50, initial="limit")
    period = forms.ChoiceField(
        label=_("Begins anew"), choices=[(kind.value, capfirst(kind.label)) for kind in LimitPeriodKind], initial=LimitPeriodKind.MONTHLY
    )

    def __init__(self, *args: Any, team: Team, **options: Any) -> None:
        super().__init__(*args, **options)
        people = User.objects.filter(memberships__team=team).order_by("username")
        self.fields["person"].queryset = people  # type: ignore[attr-defined]


class TopUpForm(forms.Form):
    """More room for the present period of a limit, in US dollars."""

    amount = forms.DecimalField(label=_("Amount (USD)"), min_value=Decimal("0.01"), max_value=Decimal(1_000_000), decimal_places=2)
    reason = forms.CharField(label=_("Reason"), max_length=500, help_text=_("It stands in the ledger and in the audit trail."))
    expires_at = forms.DateTimeField(
        label=_("Expires"),
        required=False,
        widget=MomentInput(),
        help_text=_("In the team's time zone. Empty: at the end of the period, which is the latest."),
    )
    # Ties all sendings of one form to one top-up, so that a double click gives nothing twice.
    key = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput, initial=lambda: f"form-{uuid.uuid4().hex}")

    def __init__(self, *args: Any, time_zone: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.time_zone = time_zone

    def clean_expires_at(self) -> datetime | None:
        """What was typed is the clock of the team's zone."""
        given = self.cleaned_data["expires_at"]
        return given.replace(tzinfo=ZoneInfo(self.time_zone)) if given else None

    def asked(self) -> dict[str, Any]:
        """The arguments of `top_ups.add`."""
        return {**self.cleaned_data, "amount": int(self.cleaned_data["amount"] * MICROS_PER_USD)}


class TokenLimitForm(forms.Form):
    """What a token may spend at most: nothing said means no limit of its own."""

    amount = forms.DecimalField(
        label=_("At most (USD)"),
        required=False,
        min_value=0,
        max_value=Decimal(1_000_000),
        decimal_places=2,
        help_text=_("Empty: no limit of its own. The limits of the team count in any case."),
    )
    period = forms.ChoiceField(
        label=_("In"),
        choices=[
            (LimitPeriodKind.DAILY.value, _("a day")),
            (LimitPeriodKind.WEEKLY.value, _("a week")),
            (LimitPeriodKind.MONTHLY.value, _("a month")),
        ],
        initial=LimitPeriodKind.MONTHLY,
        required=False,
    )

    @classmethod
    def of(cls, chosen: AtMost | None, data: Any = None) -> "TokenLimitForm":
        if chosen is None:
            return cls(data)
        return cls(data, initial={"amount": as_number(chosen.amount).quantize(Decimal("0.01")), "period": chosen.period})

    def at_most(self) -> AtMost | None:
        amount = self.cleaned_data["amount"]
        if amount is None:
            return None
        return AtMost(amount=int(amount * MICROS_PER_USD), period=self.cleaned_data["period"] or LimitPeriodKind.MONTHLY)


class NewTokenForm(TokenLimitForm, TokenForm):
    """A new token with a spend limit of its own."""

    field_order = ["name", "scopes", "expires_in", "amount", "period", "allowed_addresses"]

    def asked(self) -> dict[str, Any]:
        """The arguments of `token_limits.create`."""
        return super().asked() | {"at_most": self.at_most()}


class OverlapForm(forms.Form):
    """For how long a token that is replaced works on beside the new one."""

    OVERLAPS = {
        "0": _("Not at all"),
        "1": _("1 day"),
        "2": _("2 days"),
        "3": _("3 days"),
        "4": _("4 days"),
        "5": _("5 days"),
        "6": _("6 days"),
        "7": _("7 days"),
    }

    overlap = forms.ChoiceField(label=_("The former token works on for"), choices=list(OVERLAPS.items()), initial="1")


class LedgerFilter(forms.Form):
    """The filters of the ledger, as they stand in its address."""

    kind = forms.ChoiceField(label=_("Kind"), required=False, choices=[("", _("All")), *LineKind.choices])
    job = forms.CharField(label=_("Job"), required=False, max_length=64)
    period = forms.ChoiceField(
        label=_("Set aside"),
        required=False,
        choices=[
            ("", _("At any time")),
            (LimitPeriodKind.DAILY.value, _("Today")),
            (LimitPeriodKind.WEEKLY.value, _("This week")),
            (LimitPeriodKind.MONTHLY.value, _("This month")),
        ],
    )
    since = forms.DateField(label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=_("To"), required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def chosen(self) -> dict[str, Any]:
        """What was asked for; what cannot be read counts as not said."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    def of(self, lines: QuerySet[LedgerLine], *, team: Team, now: datetime) -> QuerySet[LedgerLine]:
        """The lines that pass; days are those of the team.

        A period is that of limits: the lines of what was set aside in it, whenever they were written.
        """
        chosen = self.chosen()
        if kind := chosen.get("kind"):
            lines = lines.filter(kind=kind)
        if job := chosen.get("job"):
            lines = lines.filter(reference__icontains=job)
        if period := chosen.get("period"):
            starts_at, ends_at = bounds(period, now, time_zone=team.time_zone, first_weekday=team.first_weekday)
            lines = lines.filter(hold__created_at__gte=starts_at, hold__created_at__lt=ends_at)
        if since := chosen.get("since"):
            lines = lines.filter(at__gte=_midnight(since, team))
        if until := chosen.get("until"):
            lines = lines.filter(at__lt=_midnight(until + timedelta(days=1), team))
        return lines


def _midnight(day: date, team: Team) -> datetime:
    return datetime.combine(day, time.min, tzinfo=ZoneInfo(team.time_zone))
