"""The filters of the jobs list."""

import re
from datetime import datetime
from typing import Any

from django import forms
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts import moments
from accounts.models import Team, User
from jobs.models import Trainer
from jobs.models.job import JobQuerySet
from jobs.states import ACTIVE, State

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
