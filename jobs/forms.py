"""The forms of the jobs pages."""

from typing import Any

from django import forms
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from jobs.models.job import JobQuerySet
from jobs.states import ACTIVE, State

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
