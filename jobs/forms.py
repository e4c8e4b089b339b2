"""The forms of the jobs pages."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Q, QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from billing.models import LedgerLine, LineKind
from jobs import submit_page
from jobs.models.job import Destination, JobQuerySet
from jobs.services import datasets
from jobs.services.datasets import Incoming
from jobs.specs import JobSpec
from jobs.states import ACTIVE, State
from jobs.submit_page import Quote
from jobs.templatetags.figures import dollars

ACTIVE_STATES = "active"


class JobFilter(forms.Form):
    """The filters of the jobs list, as they stand in its address."""

    q = forms.CharField(required=False, max_length=100, strip=True)
    state = forms.ChoiceField(required=False, choices=[("", _("All")), (ACTIVE_STATES, _("Active")), *State.choices])

    # The states that have a chip of their own; the others can be named in the address.
    CHIPS = ["", ACTIVE_STATES, State.BLOCKED, State.COMPLETED, State.FAILED, State.CANCELLED]

    def chosen(self) -> dict[str, Any]:
        """What was asked for; words that we do not know count as not said."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    def of(self, jobs: JobQuerySet) -> JobQuerySet:
        """The jobs that pass."""
        chosen = self.chosen()
        if state := chosen.get("state"):
            jobs = jobs.filter(state__in=ACTIVE if state == ACTIVE_STATES else [state])
        if text := chosen.get("q"):
            named = Q(job_id__icontains=text) | Q(run_name__icontains=text) | Q(config_name__icontains=text)
            person = Q(submitted_by__username__icontains=text) | Q(submitted_by__display_name__icontains=text)
            jobs = jobs.filter(named | person)
        return jobs

    def chips(self) -> list[dict[str, Any]]:
        """The state chips: label, whether it is the chosen one, and its query string."""
        labels = dict(self.fields["state"].choices)  # type: ignore[attr-defined]
        chosen = self.chosen()
        chips = [*self.CHIPS]
        if (state := chosen.get("state", "")) not in chips:
            chips.insert(2, state)
        return [{"value": chip, "label": labels[chip], "is_chosen": chip == state} for chip in chips]


class JSONText(forms.JSONField):
    """JSON that is an object, or a list of them (`is_list`)."""

    def __init__(self, *, is_list: bool = False, **options: Any) -> None:
        self.is_list = is_list
        super().__init__(widget=forms.Textarea(attrs={"rows": 8, "class": "code", "spellcheck": "false"}), required=False, **options)

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        if found is None or found == "":
            return None
        rows = found if self.is_list and isinstance(found, list) else [found]
        if not all(isinstance(row, dict) for row in rows) or (self.is_list and not isinstance(found, list)):
            raise forms.ValidationError(_("This must be a list of JSON objects.") if self.is_list else _("This must be a JSON object."))
        return found


class SubmitForm(forms.Form):
    """A job as it is asked for. `agreed` is the most that it can cost, in micro-dollars, as the button last said it."""

    # Where planning's refusals belong, by the names that the API has for the fields.
    FIELDS = {
        "config_name_to_load": "config_name",
        "dataloader_config": "dataloader_json",
        "max_seconds": "max_minutes",
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
        help_text=_("The run is stopped after this long. Empty: twice what it likely takes."),
    )
    destination = forms.ChoiceField(
        label=_("Where the result goes"), required=False, choices=[("", _("As the team's settings say")), *Destination.choices]
    )
    hub_model_id = forms.CharField(label=_("Hub repository"), required=False, max_length=200, help_text=_("Only for the Hub: owner/name."))
    run_name = forms.CharField(label=_("Run name"), required=False, max_length=200)
    agrees = forms.BooleanField(label=_("I agree for the team that its data goes there"), required=False)
    agreed = forms.IntegerField(required=False, widget=forms.HiddenInput)
    label = forms.CharField(required=False, max_length=128, widget=forms.HiddenInput)
    from_job = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    key = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    def __init__(self, *args: Any, choices: dict[str, submit_page.Choices], **options: Any) -> None:
        super().__init__(*args, **options)
        for name, offered in choices.items():
            self.fields[name].choices = offered  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("config_name") and given.get("config_json") is not None:
            self.add_error("config_json", _("Choose a config or paste one, not both."))
        return given

    def spec(self) -> JobSpec:
        given = self.cleaned_data
        minutes = given["max_minutes"]
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
            max_seconds=minutes * 60 if minutes else None,
            rerun_of=given["from_job"],
        )

    def asked(self) -> dict[str, Any]:
        """What a repeat of this form must ask for as well to mean the same job."""
        return {name: value for name, value in self.cleaned_data.items() if name not in ("agrees", "agreed", "key")}

    def accept(self, quote: Quote, *, needs_consent: bool) -> bool:
        """Whether what was agreed to covers the quote; if not, the form says what is missing."""
        if quote.plan.worst_case > (self.cleaned_data["agreed"] or 0):
            amount = dollars(quote.plan.worst_case)
            self.add_error(None, gettext("It can now cost up to %(amount)s. Look at it again, then submit.") % {"amount": amount})
        if needs_consent and quote.uploads_data and not self.cleaned_data["agrees"]:
            self.add_error("agrees", gettext("The team's data is not uploaded before somebody has agreed."))
        return not self.errors


class FilesField(forms.FileField):
    """Any number of files of one input."""

    class Input(forms.ClearableFileInput):
        allow_multiple_selected = True

    widget = Input

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        files = data or [None]  # none at all is refused as one that is missing
        return [super(FilesField, self).clean(file, initial) for file in files]


class UploadForm(forms.Form):
    """The files of a dataset's version: images with their captions, or one zip of them."""

    files = FilesField(  # type: ignore[assignment]  # the fields are taken out of the class
        label=_("Files"),
        allow_empty_file=True,
        widget=FilesField.Input(attrs={"accept": ".jpg,.jpeg,.png,.webp,.txt,.zip"}),
        help_text=_("JPEG, PNG or WebP images, each with its caption in a .txt file of the same name; or one zip of all of them."),
    )

    def clean_files(self) -> list[UploadedFile]:
        files: list[UploadedFile] = self.cleaned_data["files"]
        if len(files) > 1 and any(_is_zip(file) for file in files):
            raise forms.ValidationError(_("Send one zip, or files without a zip."))
        return files

    def incoming(self) -> Iterable[Incoming]:
        """The files one by one, out of the zip if it is one. Raises what `datasets.unpacked` raises."""
        files: list[UploadedFile] = self.cleaned_data["files"]
        if len(files) == 1 and _is_zip(files[0]):
            return datasets.unpacked(files[0].open("rb"))
        return [Incoming(name=file.name or "", open=partial(file.open, "rb")) for file in files]


def _is_zip(file: UploadedFile) -> bool:
    return (file.name or "").lower().endswith(".zip")


class DatasetForm(UploadForm):
    """A new dataset."""

    field_order = ["name", "description", "files"]

    name = forms.CharField(label=_("Name"), max_length=100)
    description = forms.CharField(label=_("Description"), max_length=500, required=False)


class SecretForm(forms.Form):
    """A secret to be saved. It is never shown again, not even after a mistake."""

    secret = forms.CharField(
        label=_("Token"),
        max_length=500,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "code"}),
    )


class LedgerFilter(forms.Form):
    """The filters of the ledger, as they stand in its address."""

    kind = forms.ChoiceField(label=_("Kind"), required=False, choices=[("", _("All")), *LineKind.choices])
    job = forms.CharField(label=_("Job"), required=False, max_length=64)
    since = forms.DateField(label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=_("To"), required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def chosen(self) -> dict[str, Any]:
        """What was asked for; what cannot be read counts as not said."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    def of(self, lines: QuerySet[LedgerLine]) -> QuerySet[LedgerLine]:
        """The lines that pass; days are those of UTC."""
        chosen = self.chosen()
        if kind := chosen.get("kind"):
            lines = lines.filter(kind=kind)
        if job := chosen.get("job"):
            lines = lines.filter(reference__icontains=job)
        if since := chosen.get("since"):
            lines = lines.filter(at__date__gte=since)
        if until := chosen.get("until"):
            lines = lines.filter(at__date__lte=until)
        return lines
