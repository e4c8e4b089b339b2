"""What the forms of the portal share: a refusal finds its field and its words."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from accounts.errors import Refusal
from accounts.roles import RIGHTS_OF_SCOPE, Right, Role, Scope

# What a refusal means, by its code. Its own sentence is English everywhere, so that it can be searched for.
MEANINGS = {
    "cost_limit_exceeded": _("A spend limit does not allow this."),
    "missing_token": _("No Replicate token is saved for this team."),
    "invalid_config": _("The config is not right yet."),
    "no_dataset": _("The job has no data that can reach the trainer."),
    "no_destination": _("The result has nowhere to go."),
    "consent_denied": _("The team does not allow its data to be uploaded."),
    "idempotency_conflict": _("This form was sent before, with other content."),
    "invalid_dataset": _("The files cannot be taken."),
    "permission_denied": _("Your role in this team does not allow this."),
    "last_owner": _("The team would be left without an owner."),
    "conflict": _("The state of things does not allow this."),
}
WITHOUT_MEANING = _("This is not possible as it stands.")


def in_words(refusal: Refusal) -> SafeString:
    """A refusal as people read it: in other languages than English its meaning stands before the server's own words."""
    own = f"{refusal.detail} {refusal.hint}".strip()
    if (get_language() or "en").startswith("en"):
        return format_html("{}", own)
    return format_html('{} <span lang="en">{}</span>', MEANINGS.get(refusal.code, WITHOUT_MEANING), own)


def refuse(form: forms.Form, refusal: Refusal, fields: Mapping[str, str] | None = None) -> None:
    """Put a refusal on the form: at its field, under the name that the form has for it, else above all fields."""
    named = (fields or {}).get(refusal.field or "", refusal.field)
    form.add_error(named if named in form.fields else None, in_words(refusal))


class TokenForm(forms.Form):
    """A new API token: the least that it can be, unless more is asked for."""

    EXPIRIES = {"7": _("7 days"), "30": _("30 days"), "90": _("90 days"), "365": _("1 year"), "": _("Never")}

    name = forms.CharField(label=_("Name"), max_length=100, help_text=_("What it is for, for example: training server."))
    scopes = forms.MultipleChoiceField(label=_("What it may do"), widget=forms.CheckboxSelectMultiple, initial=[Scope.READ])
    expires_in = forms.ChoiceField(label=_("Expires after"), choices=list(EXPIRIES.items()), initial="90", required=False)
    allowed_addresses = forms.CharField(
        label=_("Only from these addresses"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "class": "code", "spellcheck": "false"}),
        help_text=_("One address or network a line. Empty: from everywhere."),
    )

    def __init__(self, *args: Any, rights: frozenset[Right], **options: Any) -> None:
        super().__init__(*args, **options)
        # A scope that gives the maker's role nothing would only look like something.
        offered = [scope for scope in Scope if scope == Scope.READ or (RIGHTS_OF_SCOPE[scope] - {Right.READ}) & rights]
        self.fields["scopes"].choices = [(scope.value, scope.label) for scope in offered]  # type: ignore[attr-defined]

    def asked(self) -> dict[str, Any]:
        """The arguments of `tokens.create`."""
        given = self.cleaned_data
        days = given["expires_in"]
        return {
            "name": given["name"],
            "scopes": given["scopes"],
            "expires_in": timedelta(days=int(days)) if days else None,
            "allowed_addresses": given["allowed_addresses"].split(),
        }


class MemberForm(forms.Form):
    """Somebody who has an account comes into the team."""

    email = forms.EmailField(label=_("E-mail address"))
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices, initial=Role.RESEARCHER)


class RoleForm(forms.Form):
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices)
