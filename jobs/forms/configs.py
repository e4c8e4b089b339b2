"""The forms of training configs."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Team
from jobs.forms.fields import JSONText
from jobs.models import Dataset


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
