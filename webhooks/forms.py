"""The forms of a team's webhook settings, of its inbox, and of a cloud's file of networks."""

import json
from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Team
from jobs.models import ProviderSettings
from jobs.models.catalogue import AddressMode
from webhooks import ranges
from webhooks.inbox import Sought
from webhooks.models import DeliveryState
from webhooks.ranges import RangeFile
from webhooks.trainer_events import TrainerWord


class WebhookSettingsForm(forms.Form):
    """The webhook settings in the words of the API, which checks them when they are saved."""

    webhook_url = forms.CharField(
        label=_("Public address of this server"),
        required=False,
        max_length=500,
        widget=forms.URLInput(attrs={"placeholder": "https://tunehouse.example.com"}),
        help_text=_("With https and without a path. Empty: the address that an administrator set for everybody."),
    )
    webhook_require_signature = forms.BooleanField(label=_("Take signed deliveries only"), required=False)
    webhook_allowed_ips = forms.CharField(
        label=_("Allowed addresses"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 4, "class": "code", "spellcheck": "false"}),
        help_text=_("Addresses or networks, one a line. Empty: every address may deliver."),
    )
    webhook_address_mode = forms.ChoiceField(
        label=_("What is well signed and comes from another address"), required=False, choices=AddressMode.choices, widget=forms.RadioSelect
    )
    webhook_sends_logs = forms.BooleanField(label=_("Send the log by webhook as it grows"), required=False)
    webhook_sends_output = forms.BooleanField(label=_("Send outputs by webhook as they come"), required=False)
    webhook_rate_limit_max = forms.IntegerField(label=_("At most so many deliveries"), min_value=1, max_value=10_000)
    webhook_rate_limit_window = forms.IntegerField(label=_("within so many seconds"), min_value=1, max_value=3_600)

    @classmethod
    def of(cls, own: ProviderSettings, data: Any = None) -> "WebhookSettingsForm":
        initial = {name: getattr(own, name) for name in cls.base_fields}
        return cls(data, initial={**initial, "webhook_allowed_ips": "\n".join(own.webhook_allowed_ips)})

    def asked(self) -> dict[str, Any]:
        """The settings for the service."""
        mode = self.cleaned_data["webhook_address_mode"] or None
        return {**self.cleaned_data, "webhook_address_mode": mode, "webhook_allowed_ips": lines(self.cleaned_data["webhook_allowed_ips"])}


def lines(text: str) -> list[str]:
    """What stands on the lines, or between commas."""
    return [item.strip() for item in text.replace(",", "\n").splitlines() if item.strip()]


class InboxFilter(forms.Form):
    """The filters of the inbox, as they stand in its address."""

    state = forms.ChoiceField(label=_("State"), required=False, choices=[("", _("All")), *DeliveryState.choices])
    event = forms.ChoiceField(
        label=_("Event"), required=False, choices=[("", _("All")), *((word.value, word.value) for word in TrainerWord)]
    )
    job = forms.CharField(label=_("Job"), required=False, max_length=20)
    address = forms.GenericIPAddressField(label=_("From the address"), required=False)
    since = forms.DateField(label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=_("To"), required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def sought(self, team: Team) -> Sought:
        """What was asked for; what cannot be read counts as not said. Days are those of the team."""
        self.is_valid()
        chosen, zone = self.cleaned_data, ZoneInfo(team.time_zone)
        since, until = chosen.get("since"), chosen.get("until")
        return Sought(
            state=chosen.get("state") or "",
            event=chosen.get("event") or "",
            job_id=chosen.get("job") or "",
            address=chosen.get("address") or "",
            since=datetime.combine(since, time.min, tzinfo=zone) if since else None,
            until=datetime.combine(until + timedelta(days=1), time.min, tzinfo=zone) if until else None,
        )


class RangeFileForm(forms.Form):
    """A cloud's file of networks: as a file, or where it lies."""

    file = forms.FileField(label=_("File"), required=False, widget=forms.FileInput(attrs={"accept": ".json,application/json"}))
    url = forms.URLField(
        label=_("Or the address where it lies"),
        required=False,
        max_length=500,
        assume_scheme="https",
        widget=forms.URLInput(attrs={"placeholder": "https://www.gstatic.com/ipranges/cloud.json"}),
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if not self.errors and bool(given.get("file")) == bool(given.get("url")):
            raise forms.ValidationError(_("Choose a file, or name an address: one of them."))
        return given


class RegionsForm(forms.Form):
    """Which regions of a file count. The file travels along, and is read anew each time; `before` is the list as it was shown."""

    ranges = forms.CharField(widget=forms.HiddenInput, max_length=ranges.MOST_BYTES)
    before = forms.CharField(widget=forms.HiddenInput, required=False, max_length=100_000)
    regions = forms.MultipleChoiceField(label=_("Regions"), widget=forms.CheckboxSelectMultiple)
    keeps_others = forms.BooleanField(label=_("Keep what else is on the list"), required=False)

    def __init__(self, file: RangeFile, present: Iterable[str], data: Any = None) -> None:
        listed = [{"ip_prefix": network, "region": region} for region, networks in file.by_region.items() for network in networks]
        travelling = {"ranges": json.dumps({"prefixes": listed}, separators=(",", ":")), "before": "\n".join(present)}
        super().__init__(data, initial={**travelling, "keeps_others": True})
        self.fields["regions"].choices = [(region, f"{region} ({len(networks)})") for region, networks in file.by_region.items()]  # type: ignore[attr-defined]

    def proposed(self, file: RangeFile, present: Iterable[str]) -> list[str]:
        """The list as it would be."""
        chosen = file.networks(self.cleaned_data["regions"])
        return list(dict.fromkeys([*present, *chosen])) if self.cleaned_data["keeps_others"] else chosen
