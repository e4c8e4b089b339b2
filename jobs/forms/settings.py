"""The forms of a team's settings for Replicate: its secrets, and how calls leave this server."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from jobs.models import ProviderSettings
from jobs.models.catalogue import MOST_RETRIES
from jobs.settingkeys import masked


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
