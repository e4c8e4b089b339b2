"""The forms of the jobs pages."""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Q
from django.forms.fields import InvalidJSONInput
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import moments
from accounts.models import Team, User
from accounts.roles import Role
from billing.prices import MICROS_PER_USD
from jobs import submit_page
from jobs.models import Dataset, ProviderSettings, Trainer
from jobs.models.admission import APPROVING_ROLES, ApprovalCondition, QueueMode
from jobs.models.catalogue import MOST_RETRIES, Provider
from jobs.models.job import Destination, JobQuerySet, Link
from jobs.models.quotas import QuotaAction, QuotaKind, QuotaScope
from jobs.services import datasets, rehearsing
from jobs.services.approving import LONGEST_NOTE
from jobs.services.datasets import Incoming
from jobs.services.queue import HIGHEST
from jobs.services.queue_modes import LONGEST_REASON
from jobs.services.quota_changes import Quota
from jobs.services.quota_standings import COST_PERIOD
from jobs.settingkeys import masked
from jobs.specs import JobSpec
from jobs.states import ACTIVE, State
from jobs.submit_page import Quote
from jobs.templatetags.figures import dollars
from jobs.templatetags.quotas import KIND_LABELS

ACTIVE_STATES = "active"
MINE = "mine"
DAY = re.compile(r"\d{4}-\d\d-\d\d")


class MomentInput(forms.DateInput):
    """A date's own input; a time, which only an address can name, stays as it is written."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        context["widget"]["type"] = "date" if not value or DAY.fullmatch(str(value)) else "text"
        return context


class MomentField(forms.CharField):
    """A date or a time, as the API reads it."""

    widget = MomentInput

    def clean(self, value: Any) -> datetime | None:
        given = super().clean(value)
        found = moments.read(given) if given else None
        if given and found is None:
            raise forms.ValidationError(_("This must be a date."))
        return found


class JobFilter(forms.Form):
    """The filters of the jobs list, as they stand in its address. `user_id`, `since` and `until` mean what they mean in the API."""

    q = forms.CharField(required=False, max_length=100, strip=True)
    state = forms.ChoiceField(required=False, choices=[("", _("All")), (ACTIVE_STATES, _("Active")), *State.choices])
    user_id = forms.ChoiceField(label=_("Person"), required=False)
    trainer = forms.ChoiceField(label=_("Trainer"), required=False)
    since = MomentField(label=_("Submitted from"), required=False)
    until = MomentField(label=_("Submitted before"), required=False)

    # What stands in the fold, in this order.
    FOLDED = ["user_id", "trainer", "since", "until"]
    # The states that have a chip of their own; the others can be named in the address.
    CHIPS = ["", ACTIVE_STATES, State.BLOCKED, State.COMPLETED, State.FAILED, State.CANCELLED]

    def __init__(self, *args: Any, team: Team, user: User, **options: Any) -> None:
        super().__init__(*args, **options)
        self.user = user
        # The fold lies beside the form of the search.
        for name in self.FOLDED:
            self.fields[name].widget.attrs["form"] = "job-filter"
        # Who left is still the one who submitted.
        people = User.objects.filter(Q(memberships__team=team) | Q(pk__in=team.jobs.values("submitted_by"))).distinct().order_by("username")
        trainers = Trainer.objects.filter(pk__in=team.jobs.values("trainer")).order_by("hardware_type", "gpu_count")
        everybody = [("", _("Everybody")), (MINE, _("My own jobs"))]
        self.fields["user_id"].choices = [*everybody, *((str(person.pk), str(person)) for person in people)]  # type: ignore[attr-defined]
        self.fields["trainer"].choices = [("", _("All")), *((row.profile, row.label) for row in trainers)]  # type: ignore[attr-defined]

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
        if person_id := chosen.get("user_id"):
            jobs = jobs.filter(submitted_by_id=self.user.pk if person_id == MINE else int(person_id))
        if profile := chosen.get("trainer"):
            jobs = jobs.filter(trainer__profile=profile)
        return jobs.submitted(since=chosen.get("since"), until=chosen.get("until"))

    def folded(self) -> list[forms.BoundField]:
        """The fields of the fold."""
        return [self[name] for name in self.FOLDED]

    def is_fold_open(self) -> bool:
        return any(name in self.chosen() for name in self.FOLDED)

    def chips(self) -> list[dict[str, Any]]:
        """The state chips: label, whether it is the chosen one, and its query string."""
        labels = dict(self.fields["state"].choices)  # type: ignore[attr-defined]
        chosen = self.chosen()
        chips = [*self.CHIPS]
        if (state := chosen.get("state", "")) not in chips:
            chips.insert(2, state)
        return [{"value": chip, "label": labels[chip], "is_chosen": chip == state} for chip in chips]


class JSONText(forms.JSONField):
    """JSON that is an object, or a list of them (`is_list`), written with so many blanks before an entry (`indent`)."""

    def __init__(self, *, is_list: bool = False, indent: int | None = None, rows: int = 8, **options: Any) -> None:
        self.is_list = is_list
        self.indent = indent
        super().__init__(widget=forms.Textarea(attrs={"rows": rows, "class": "code", "spellcheck": "false"}), required=False, **options)

    def prepare_value(self, value: Any) -> Any:
        if self.indent is None or isinstance(value, InvalidJSONInput | str | None):
            return super().prepare_value(value)
        return json.dumps(value, ensure_ascii=False, indent=self.indent)

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        if found is None or found == "":
            return None
        rows = found if self.is_list and isinstance(found, list) else [found]
        if not all(isinstance(row, dict) for row in rows) or (self.is_list and not isinstance(found, list)):
            raise forms.ValidationError(_("This must be a list of JSON objects.") if self.is_list else _("This must be a JSON object."))
        return found


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
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
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


class StopTimeForm(forms.Form):
    """Where the stop time shall lie: a moment that somebody typed, in the current zone, or seconds that a button carries."""

    stop_at = forms.DateTimeField(
        label=_("Stop it at"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
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


class StartForm(forms.Form):
    """When a job that waits may start at the earliest, in the current zone; empty for as soon as its turn comes."""

    not_before = forms.DateTimeField(
        label=_("Start not before"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )


class QueueNumbersForm(forms.Form):
    """How many jobs of a team and of each person in it run at the same time; empty for as many as the platform allows."""

    team_max_concurrent = forms.IntegerField(label=_("Jobs of the team"), required=False, min_value=1, max_value=50)
    user_max_concurrent = forms.IntegerField(label=_("Jobs of a person"), required=False, min_value=1, max_value=20)


class QueueModeForm(forms.Form):
    """Whether the team's queue runs; the button that is pressed says the mode."""

    mode = forms.ChoiceField(choices=QueueMode.choices)
    reason = forms.CharField(label=_("Reason"), required=False, max_length=LONGEST_REASON)


class PriorityForm(forms.Form):
    """A job's priority; empty for its own."""

    priority = forms.IntegerField(required=False, min_value=0, max_value=HIGHEST)


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


class ChangeQuotaForm(forms.Form):
    """What of a quota can be changed. The limit is in jobs, GB or US dollars here, and in jobs, bytes or micro-dollars inside."""

    UNITS = {QuotaKind.STORAGE_BYTES: 1024**3, **dict.fromkeys(COST_PERIOD, MICROS_PER_USD)}
    HELP = {
        QuotaKind.STORAGE_BYTES: _("In GB (1 GB is 1,024 MB)."),
        **dict.fromkeys(COST_PERIOD, _("In US dollars.")),
    }

    limit = forms.DecimalField(label=_("At most"), min_value=Decimal("0.000001"), max_value=Decimal(1_000_000_000), decimal_places=6)
    action = forms.ChoiceField(
        label=_("When it is reached"), choices=[(action.value, capfirst(action.label)) for action in QuotaAction], initial=QuotaAction.BLOCK
    )

    def __init__(self, *args: Any, quota: Quota | None = None, **options: Any) -> None:
        if quota is not None:
            limit = (Decimal(quota.limit) / self.UNITS.get(quota.kind, 1)).quantize(Decimal("0.000001"))
            options["initial"] = {"limit": Decimal(f"{limit.normalize():f}"), "action": quota.action}
        super().__init__(*args, **options)
        self.quota = quota
        if quota is not None:
            self.fields["limit"].help_text = self.HELP.get(quota.kind, "")

    @property
    def kind_chosen(self) -> str:
        return self.quota.kind if self.quota else str(self.cleaned_data.get("kind", ""))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "limit" in cleaned and self.kind_chosen not in self.UNITS and cleaned["limit"] % 1:
            self.add_error("limit", _("This must be a whole number."))
        return cleaned

    def asked(self) -> dict[str, Any]:
        """The arguments of the service. What was not touched stays as exact as it is."""
        given = self.cleaned_data
        if self.quota and "limit" not in self.changed_data:
            return {"limit": self.quota.limit, "action": given["action"]}
        return {"limit": round(given["limit"] * self.UNITS.get(self.kind_chosen, 1)), "action": given["action"]}


class QuotaForm(ChangeQuotaForm):
    """A quota of the team, of each person, of a role or of one person."""

    field_order = ["kind", "whom", "limit", "action"]
    PERSON = "person-"
    ROLE = "role-"

    kind = forms.ChoiceField(label=_("What is limited"))
    whom = forms.ChoiceField(label=_("For whom"))

    def __init__(self, *args: Any, team: Team, **options: Any) -> None:
        super().__init__(*args, **options)
        kinds = [(kind, label) for kind, label in KIND_LABELS.items() if kind != QuotaKind.LOCAL_GPUS]
        self.fields["kind"].choices = [(kind, capfirst(label)) for kind, label in kinds]  # type: ignore[attr-defined]
        self.fields["limit"].help_text = _("Jobs as a number, storage in GB, money in US dollars.")
        people = User.objects.filter(memberships__team=team).order_by("username")
        self.fields["whom"].choices = [  # type: ignore[attr-defined]
            (QuotaScope.EACH, _("Each person")),
            (QuotaScope.TEAM, _("The team together")),
            (_("Each person of a role"), [(self.ROLE + role, role.label) for role in Role]),
            (_("One person"), [(f"{self.PERSON}{person.pk}", str(person)) for person in people]),
        ]

    def asked(self) -> dict[str, Any]:
        whom = self.cleaned_data["whom"]
        asked = {**super().asked(), "kind": self.kind_chosen}
        if whom.startswith(self.PERSON):
            return {**asked, "scope": QuotaScope.PERSON, "user": User.objects.get(pk=int(whom.removeprefix(self.PERSON)))}
        if whom.startswith(self.ROLE):
            return {**asked, "scope": QuotaScope.ROLE, "role": whom.removeprefix(self.ROLE)}
        return {**asked, "scope": whom}


class ConfigCopyForm(forms.Form):
    """Another name for the same config."""

    name = forms.CharField(label=_("Name"), max_length=128)


class ConfigForm(ConfigCopyForm):
    """A config with its settings as JSON, and the dataset that goes with it. What is wrong in the settings the service says."""

    description = forms.CharField(label=_("Description"), max_length=500, required=False)
    dataset = forms.ModelChoiceField(
        label=_("Dataset"), required=False, queryset=Dataset.objects.none(), empty_label=_("Chosen when a job is submitted")
    )
    tags = forms.CharField(label=_("Tags"), max_length=1000, required=False, help_text=_("Words with commas between them."))
    config = JSONText(
        label=_("Settings as JSON"),
        help_text=_("SimpleTuner's settings, as in its config.json. A list named dataloader_config is for data that lies elsewhere."),
        indent=2,
        rows=24,
    )

    def __init__(self, *args: Any, team: Team, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["dataset"].queryset = team.datasets.filter(removed_at=None)  # type: ignore[attr-defined]

    def clean_config(self) -> dict[str, Any]:
        if self.cleaned_data["config"] is None:
            raise forms.ValidationError(_("Paste the settings here."))
        given: dict[str, Any] = self.cleaned_data["config"]
        return given

    def clean_tags(self) -> list[str]:
        return [tag.strip() for tag in self.cleaned_data["tags"].split(",") if tag.strip()]


class SecretForm(forms.Form):
    """A secret to be saved. It is never shown again, not even after a mistake."""

    secret = forms.CharField(
        label=_("Token"),
        max_length=500,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "code"}),
    )


class NetworkForm(forms.Form):
    """How calls leave this server, in the words of the API, which checks them when they are saved."""

    proxy_url = forms.CharField(
        label=_("Proxy"),
        required=False,
        max_length=500,
        widget=forms.TextInput(
            attrs={"placeholder": "http://user:password@proxy.example.com:3128", "autocomplete": "off", "spellcheck": "false"}
        ),
        help_text=_("Begins with http, https or socks5. Its password is kept encrypted and shown as ***; leave it so to keep it."),
    )
    ssl_verify = forms.BooleanField(
        label=_("Check certificates"), required=False, help_text=_("Switched off, anybody on the way can read the tokens.")
    )
    ssl_ca_bundle = forms.CharField(
        label=_("CA bundle"),
        required=False,
        max_length=500,
        help_text=_("The path of a PEM file on this server, for a proxy that opens TLS. Empty: the authorities of the system."),
    )
    http_timeout = forms.FloatField(
        label=_("Time-out (seconds)"), required=False, min_value=0, max_value=600, help_text=_("Empty: the time-out of the installation.")
    )
    retries_platform_faults = forms.IntegerField(
        label=_("Retries after faults of Replicate's platform"),
        required=False,
        min_value=0,
        max_value=MOST_RETRIES,
        help_text=_(
            "How often such a job is run again by itself: as a new job for the same person, which must fit the limits. Empty or 0: never."
        ),
    )

    @classmethod
    def of(cls, own: ProviderSettings, data: Any = None) -> "NetworkForm":
        initial = {name: getattr(own, name) for name in cls.base_fields}
        return cls(data, initial={**initial, "proxy_url": masked(own.proxy_url)})

    def asked(self) -> dict[str, Any]:
        """The settings for the service."""
        return dict(self.cleaned_data)


class StorageForm(forms.Form):
    """Whether trainers may bring results to this server, and at which address."""

    s3_endpoint_enabled = forms.BooleanField(label=_("Trainers may upload results to this server"), required=False)
    s3_public_url = forms.CharField(
        label=_("Address for uploads"),
        max_length=500,
        required=False,
        help_text=_("Only where uploads come in at another address than this server's public one. Empty: the public one."),
    )


class BucketForm(forms.Form):
    """A team's own bucket. The secret is never shown again, not even after a mistake."""

    bucket = forms.CharField(label=_("Bucket"), max_length=63)
    endpoint_url = forms.CharField(
        label=_("Address of the service"),
        max_length=500,
        required=False,
        help_text=_("Empty for AWS. For others as in the table below."),
    )
    region = forms.CharField(label=_("Region"), max_length=60, initial="us-east-1")
    access_key_id = forms.CharField(label=_("Access key"), max_length=200, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    secret_access_key = forms.CharField(
        label=_("Secret key"),
        max_length=500,
        strip=False,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "code"}),
    )
    path_prefix = forms.CharField(
        label=_("Folder in the bucket"),
        max_length=300,
        required=False,
        help_text=_("Each job has a folder of its own below it. Empty: at the top."),
    )
    use_path_style = forms.BooleanField(label=_("The bucket's name stands in the path, not in the host name"), required=False)

    def __init__(self, *args: Any, has_secret: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["secret_access_key"].required = not has_secret
        if has_secret:
            self.fields["secret_access_key"].help_text = gettext("Empty: the one that is saved for this access key.")

    def given(self) -> dict[str, Any]:
        """The value of `s3_delivery`."""
        return {**self.initial, **self.cleaned_data}


class DecisionForm(forms.Form):
    """What whoever approves or rejects says of it."""

    notes = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=LONGEST_NOTE,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=_("May be left out. Whoever submitted the job reads it."),
    )


class ApprovalRuleForm(forms.Form):
    """An approval rule of the team."""

    # What a refusal of the service calls by SimpleTuner's words.
    FIELDS = {"required_approver_level": "required_role"}

    name = forms.CharField(label=_("Name"), max_length=100)
    condition = forms.ChoiceField(label=_("A job must be approved if"), choices=ApprovalCondition.choices)
    threshold = forms.CharField(
        label=_("Compared with"),
        required=False,
        max_length=200,
        help_text=_(
            "An amount in US dollars for what it can cost at most; a number for jobs a day; the name of a role for a person; a pattern "
            "with * and ? for hardware and configs, or for configs a regular expression that begins with ^ or ends with $. Nothing for "
            "the first job."
        ),
    )
    exempt_roles = forms.MultipleChoiceField(
        label=_("But not for"), choices=Role.choices, required=False, widget=forms.CheckboxSelectMultiple
    )
    applies_to_role = forms.ChoiceField(label=_("Only for"), choices=[("", _("Everybody")), *Role.choices], required=False)
    required_role = forms.ChoiceField(
        label=_("Approved by at least"), choices=[(role.value, role.label) for role in APPROVING_ROLES], initial=Role.LEAD
    )
    priority = forms.IntegerField(
        label=_("Priority"),
        min_value=-10_000,
        max_value=10_000,
        initial=0,
        help_text=_("If several rules fit a job, the one with the highest decides, and of equals the oldest."),
    )
    description = forms.CharField(label=_("Description"), required=False, max_length=500, widget=forms.Textarea(attrs={"rows": 2}))
    is_active = forms.BooleanField(label=_("It is in force"), required=False, initial=True)

    def __init__(self, *args: Any, **options: Any) -> None:
        shown = options.get("initial") or {}
        if shown.get("condition") == ApprovalCondition.USER_LEVEL:
            options["initial"] = {**shown, "threshold": Role(shown["threshold"]).label}
        super().__init__(*args, **options)

    def clean(self) -> dict[str, Any]:
        """A role goes by the name that the page has for it, and by the API's word."""
        given = super().clean() or self.cleaned_data
        if given.get("condition") == ApprovalCondition.USER_LEVEL:
            words = {str(role.label).casefold(): role.value for role in Role}
            said = given.get("threshold", "").strip()
            given["threshold"] = words.get(said.casefold(), said)
        return given

    def asked(self) -> dict[str, Any]:
        """The fields of the rule."""
        return dict(self.cleaned_data)
