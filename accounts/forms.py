"""What the forms of the portal share: a refusal finds its field and its words."""

from collections.abc import Mapping

from django import forms
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from accounts.errors import Refusal

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
