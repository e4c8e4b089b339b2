"""The forms of where results go."""

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


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
