"""The forms by which staff put money right: adjustments, reviews, invoices. Amounts are US dollars here, and micro-dollars inside."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSingleDateWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.errors import Refusal
from accounts.models import Team
from billing import invoices
from billing.prices import MICROS_PER_USD

LARGEST_INVOICE = 64 * 1024 * 1024


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=_("Reason"), max_length=500, widget=UnfoldAdminTextInputWidget, help_text=_("It stays in the ledger, and the team sees it.")
    )


class AdjustForm(ReasonForm):
    """What is added to a charge, or given back."""

    field_order = ["team", "amount", "reason"]

    amount = forms.DecimalField(
        label=_("Amount (USD)"), max_digits=15, decimal_places=6, widget=UnfoldAdminDecimalFieldWidget,
        help_text=_("Below 0 gives money back."),
    )  # fmt: skip

    def asked(self) -> dict[str, Any]:
        """The arguments of `services.adjust`."""
        return {**self.cleaned_data, "amount": int(self.cleaned_data["amount"] * MICROS_PER_USD)}


class AdjustTeamForm(AdjustForm):
    team = forms.ModelChoiceField(label=_("Team"), queryset=Team.objects.order_by("name"), widget=UnfoldAdminSelectWidget)


class SettleAsForm(ReasonForm):
    """What is true of a flagged charge: the time that was billed, or the amount."""

    field_order = ["seconds", "amount", "reason"]

    seconds = forms.DecimalField(
        label=_("Billed seconds"), required=False, min_value=0, max_digits=14, decimal_places=6, widget=UnfoldAdminDecimalFieldWidget,
        help_text=_("Priced by the rate that the job was admitted with."),
    )  # fmt: skip
    amount = forms.DecimalField(
        label=_("or the amount (USD)"), required=False, min_value=0, max_digits=15, decimal_places=6,
        widget=UnfoldAdminDecimalFieldWidget,
    )  # fmt: skip

    def asked(self) -> dict[str, Any]:
        """The arguments of `reviews.settle_as`."""
        amount = self.cleaned_data["amount"]
        return {**self.cleaned_data, "amount": None if amount is None else int(amount * MICROS_PER_USD)}


class ImportForm(forms.Form):
    """An invoice as the provider's site gives it out."""

    file = forms.FileField(
        label=_("CSV file"), widget=UnfoldAdminFileFieldWidget,
        help_text=_("With columns for prediction id, amount in US dollars and date; seconds and hardware if there are any."),
    )  # fmt: skip
    account = forms.CharField(
        label=_("Account"), max_length=200, widget=UnfoldAdminTextInputWidget, help_text=_("At the provider, as its tokens name it.")
    )
    name = forms.CharField(
        label=_("Name"), max_length=100, widget=UnfoldAdminTextInputWidget, help_text=_("How adjustments refer to it, for example 2026-11.")
    )
    first_on = forms.DateField(label=_("From"), required=False, widget=UnfoldAdminSingleDateWidget, help_text=_("Empty: the first row's."))
    last_on = forms.DateField(label=_("To"), required=False, widget=UnfoldAdminSingleDateWidget, help_text=_("Empty: the last row's."))
    columns = forms.CharField(
        label=_("Columns with other names"), required=False, max_length=1000, widget=UnfoldAdminTextareaWidget,
        help_text=_("One to a line, like: amount = Line total. Known are provider_reference, amount, billed_on, seconds and hardware."),
    )  # fmt: skip

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > LARGEST_INVOICE:
            raise ValidationError(_("The file is larger than 64 MiB. Import it by manage.py import_invoice."))
        return file

    def clean_columns(self) -> dict[str, str]:
        try:
            return invoices.named_columns(self.cleaned_data["columns"])
        except Refusal as refusal:
            raise ValidationError(refusal.detail) from refusal

    def asked(self) -> dict[str, Any]:
        """The arguments of `invoices.import_invoice`, but for who asks."""
        return {**self.cleaned_data, "file": self.cleaned_data["file"].file}
