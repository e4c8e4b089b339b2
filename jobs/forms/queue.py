"""The forms of the queue: its numbers, its mode, and a waiting job's place in it."""

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.forms import MomentInput
from jobs.models.admission import QueueMode
from jobs.services.queue import HIGHEST
from jobs.services.queue_modes import LONGEST_REASON


class StartForm(forms.Form):
    """When a job that waits may start at the earliest, in the current zone; empty for as soon as its turn comes."""

    not_before = forms.DateTimeField(
        label=_("Start not before"),
        required=False,
        widget=MomentInput(),
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
