"""The forms of money."""

from decimal import Decimal
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from billing.models import LimitAction, LimitPeriodKind, SpendLimit
from billing.prices import MICROS_PER_USD, as_number


class ChangeLimitForm(forms.Form):
    """What of a limit can be changed. The amount is in US dollars here, and in micro-dollars inside."""

    amount = forms.DecimalField(
        label=_("Amount (USD)"), min_value=0, max_value=Decimal(1_000_000), decimal_places=2, help_text=_("0 blocks everything.")
    )
    action = forms.ChoiceField(label=_("When it is reached"), choices=LimitAction.choices, initial=LimitAction.BLOCK)
    is_enabled = forms.BooleanField(label=_("It is in force"), required=False, initial=True)

    @classmethod
    def of(cls, limit: SpendLimit, data: Any = None) -> "ChangeLimitForm":
        initial = {"amount": as_number(limit.amount).quantize(Decimal("0.01")), "action": limit.action, "is_enabled": limit.is_enabled}
        return cls(data, initial=initial)

    def asked(self) -> dict[str, Any]:
        """The arguments of the service."""
        return {**self.cleaned_data, "amount": int(self.cleaned_data["amount"] * MICROS_PER_USD)}


class LimitForm(ChangeLimitForm):
    """A new limit of the whole team."""

    field_order = ["name", "amount", "period", "action"]
    is_enabled = None  # type: ignore[assignment]  # a new one is

    name = forms.CharField(label=_("Name"), max_length=50, initial="team")
    period = forms.ChoiceField(label=_("Begins anew"), choices=LimitPeriodKind.choices, initial=LimitPeriodKind.MONTHLY)
