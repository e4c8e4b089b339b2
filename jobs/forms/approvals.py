"""The forms of approvals: a decision, and a team's rules."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.roles import Role
from jobs.models.admission import APPROVING_ROLES, ApprovalCondition
from jobs.services.approving import LONGEST_NOTE


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
