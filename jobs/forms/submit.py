"""The form by which a job is submitted."""

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.forms import MomentInput
from jobs import submit_page
from jobs.forms.fields import JSONText
from jobs.models.catalogue import Provider
from jobs.models.job import Destination, Link
from jobs.services import rehearsing
from jobs.specs import JobSpec
from jobs.submit_page import Quote
from jobs.templatetags.figures import dollars

# The only other place, offered where an administrator has set one up.
REHEARSAL = [(Provider.SANDBOX.value, _("Rehearsal on the sandbox: free, nothing is really trained"))]


class SubmitForm(forms.Form):
    """A job as it is asked for. `agreed` is the most that it can cost, in micro-dollars, as the button last said it."""

    # Where planning's refusals belong, by the names that the API has for the fields.
    FIELDS = {
        "config_name_to_load": "config_name",
        "dataloader_config": "dataloader_json",
        "max_seconds": "max_minutes",
        "stop_after_seconds": "stop_minutes",
        "hardware": "hardware_profile",
    }

    config_name = forms.ChoiceField(label=_("Config"), required=False)
    config_json = JSONText(label=_("Config as JSON"), help_text=_("SimpleTuner's settings, as in its config.json."))
    dataset = forms.ChoiceField(label=_("Dataset"), required=False)
    dataloader_json = JSONText(
        is_list=True,
        label=_("Dataloader as JSON"),
        help_text=_("Only for data that the trainer reads from elsewhere, instead of a dataset."),
    )
    hardware_profile = forms.ChoiceField(label=_("Hardware"), required=False)
    max_minutes = forms.IntegerField(
        label=_("Run-time limit (minutes)"),
        required=False,
        min_value=1,
        max_value=1440,
        help_text=_("The most is held by it, and Replicate itself ends the run there. Empty: twice what it likely takes."),
    )
    stop_minutes = forms.IntegerField(
        label=_("Stop before that, after (minutes)"),
        required=False,
        min_value=1,
        max_value=1440,
        help_text=_("Can be moved while the job runs, up to the run-time limit. Empty: at the run-time limit."),
    )
    not_before = forms.DateTimeField(
        label=_("Start not before"),
        required=False,
        widget=MomentInput(),
        help_text=_("In the team's time zone, at most 30 days ahead. Empty: as soon as its turn comes."),
    )
    provider = forms.ChoiceField(label=_("Where it runs"), required=False, choices=[("", _("At Replicate")), *REHEARSAL])
    destination = forms.ChoiceField(
        label=_("Where the result goes"), required=False, choices=[("", _("As the team's settings say")), *Destination.choices]
    )
    hub_model_id = forms.CharField(label=_("Hub repository"), required=False, max_length=200, help_text=_("Only for the Hub: owner/name."))
    run_name = forms.CharField(label=_("Run name"), required=False, max_length=200)
    agrees = forms.BooleanField(label=_("I agree for the team that its data goes there"), required=False)
    agreed = forms.IntegerField(required=False, widget=forms.HiddenInput)
    label = forms.CharField(required=False, max_length=128, widget=forms.HiddenInput)
    from_job = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    link = forms.ChoiceField(required=False, choices=[("", ""), (Link.CONTINUE.value, "")], widget=forms.HiddenInput)
    key = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    def __init__(self, *args: Any, choices: dict[str, submit_page.Choices], **options: Any) -> None:
        super().__init__(*args, **options)
        for name, offered in choices.items():
            self.fields[name].choices = offered  # type: ignore[attr-defined]
        if not rehearsing.is_offered():
            del self.fields["provider"]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("config_name") and given.get("config_json") is not None:
            self.add_error("config_json", _("Choose a config or paste one, not both."))
        return given

    def spec(self) -> JobSpec:
        given = self.cleaned_data
        minutes, stop_minutes = given["max_minutes"], given["stop_minutes"]
        return JobSpec(
            config_name=given["config_name"],
            config=given["config_json"],
            label=given["label"],
            dataloader=given["dataloader_json"] or [],
            dataset=given["dataset"],
            hardware_profile=given["hardware_profile"],
            destination=given["destination"],
            hub_model_id=given["hub_model_id"],
            run_name=given["run_name"],
            provider=given.get("provider") or Provider.REPLICATE,
            max_seconds=minutes * 60 if minutes else None,
            stop_after_seconds=stop_minutes * 60 if stop_minutes else None,
            not_before=given["not_before"],
            rerun_of=given["from_job"],
            link=given["link"] or Link.RERUN,
        )

    def asked(self) -> dict[str, Any]:
        """What a repeat of this form must ask for as well to mean the same job."""
        asked = {name: value for name, value in self.cleaned_data.items() if name not in ("agrees", "agreed", "key")}
        return asked | {"not_before": str(asked["not_before"] or "")}

    def accept(self, quote: Quote, *, needs_consent: bool) -> bool:
        """Whether what was agreed to covers the quote; if not, the form says what is missing."""
        if quote.plan.worst_case > (self.cleaned_data["agreed"] or 0):
            amount = dollars(quote.plan.worst_case)
            self.add_error(None, gettext("It can now cost up to %(amount)s. Look at it again, then submit.") % {"amount": amount})
        if needs_consent and quote.uploads_data and not self.cleaned_data["agrees"]:
            self.add_error("agrees", gettext("The team's data is not uploaded before somebody has agreed."))
        return not self.errors
