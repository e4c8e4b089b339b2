"""The forms of quotas."""

from decimal import Decimal
from typing import Any

from django import forms
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User
from accounts.roles import Role
from billing.prices import MICROS_PER_USD
from jobs.models.quotas import QuotaAction, QuotaKind, QuotaScope
from jobs.services.quota_changes import Quota
from jobs.services.quota_standings import COST_PERIOD
from jobs.templatetags.quotas import KIND_LABELS


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
