"""The forms of one job's page."""

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.forms import MomentInput
from jobs.submit_page import Quote
from jobs.templatetags.figures import dollars


class StopTimeForm(forms.Form):
    """Where the stop time shall lie: a moment that somebody typed, in the current zone, or seconds that a button carries."""

    stop_at = forms.DateTimeField(
        label=_("Stop it at"),
        required=False,
        widget=MomentInput(),
    )
    stop_after_seconds = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if not self.errors and not any(value is not None for value in given.values()):
            self.add_error("stop_at", _("Say when."))
        return given

    def wanted(self) -> dict[str, Any]:
        """One of the two, a button's before what stands in the field beside it."""
        name = "stop_at" if self.cleaned_data["stop_after_seconds"] is None else "stop_after_seconds"
        return {name: self.cleaned_data[name]}


class RetryForm(forms.Form):
    """The word that a job shall run again. `agreed` is the most that it can cost, in micro-dollars, as the button last said it."""

    agreed = forms.IntegerField(required=False, widget=forms.HiddenInput)
    key = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    def accept(self, quote: Quote) -> bool:
        """Whether what was agreed to covers the quote; if not, the form says so."""
        if quote.plan.worst_case > (self.cleaned_data["agreed"] or 0):
            amount = dollars(quote.plan.worst_case)
            self.add_error(None, gettext("It can now cost up to %(amount)s. Look at it again, then submit.") % {"amount": amount})
        return not self.errors
