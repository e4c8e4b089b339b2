"""What the forms of the portal share: a refusal finds its field and its words."""

import re
import zoneinfo
from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.conf import settings
from django.contrib.auth.forms import SetPasswordMixin
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db.models import Q, QuerySet
from django.utils.dates import WEEKDAYS
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from accounts import events
from accounts.errors import Refusal
from accounts.invites import DAYS, MOST_DAYS
from accounts.models import LONGEST_EMAIL, AuditLine, Team, User
from accounts.roles import RIGHTS_OF_SCOPE, Right, Role, Scope, manages
from accounts.teams import LONGEST_DESCRIPTION, LONGEST_NAME, LONGEST_SLUG, Profile

# What a refusal means, by its code. Its own sentence is English everywhere, so that it can be searched for.
MEANINGS = {
    "cost_limit_exceeded": _("A spend limit does not allow this."),
    "quota_exceeded": _("A quota does not allow this."),
    "cost_quota_exceeded": _("A quota does not allow this."),
    "missing_token": _("No Replicate token is saved for this team."),
    "invalid_config": _("The config is not right yet."),
    "no_dataset": _("The job has no data that can reach the trainer."),
    "no_destination": _("The result has nowhere to go."),
    "consent_denied": _("The team does not allow its data to be uploaded."),
    "idempotency_conflict": _("This form was sent before, with other content."),
    "invalid_dataset": _("The files cannot be taken."),
    "permission_denied": _("Your role in this team does not allow this."),
    "resource_denied": _("The rules of the team do not let your role use this."),
    "team_suspended": _("The team is suspended: its work can be read, and nothing can be changed."),
    "team_in_use": _("The team has jobs that are not over."),
    "invite_ended": _("The invite is not open any more."),
    "account_exists": _("This address has an account already."),
    "rate_limited": _("This was done a moment ago."),
    "last_owner": _("The team would be left without an owner."),
    "approval_decided": _("This request does not wait any more."),
    "own_job": _("Nobody decides on a job that they submitted themselves."),
    "approver_level": _("Somebody with a higher role must decide this."),
    "link_ended": _("This link is not open any more."),
    "stop_time_out_of_bounds": _("The stop time cannot lie there."),
    "not_before_out_of_bounds": _("The job cannot start at that time."),
    "queue_draining": _("No new jobs are taken at the moment."),
    "held_by_staff": _("The platform's staff have stopped this queue."),
    "invalid_job_state": _("The state of the job does not allow this."),
    "conflict": _("The state of things does not allow this."),
}
WITHOUT_MEANING = _("This is not possible as it stands.")


class MomentInput(forms.DateTimeInput):
    """Where people give a date and a time to the minute, as their browser has them do it."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M")


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


class InviteForm(forms.Form):
    """Somebody is asked to come into the team, with an account or without."""

    email = forms.EmailField(label=_("E-mail address"), max_length=LONGEST_EMAIL)
    role = forms.ChoiceField(label=_("Role"))
    days = forms.IntegerField(label=_("Days for which the invite lasts"), min_value=1, max_value=MOST_DAYS, initial=DAYS)

    def __init__(self, *args: Any, giver: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["role"].choices = _roles_given_by(giver)  # type: ignore[attr-defined]


class RoleForm(forms.Form):
    role = forms.ChoiceField(label=_("Role"))

    def __init__(self, *args: Any, giver: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["role"].choices = _roles_given_by(giver)  # type: ignore[attr-defined]


def _roles_given_by(giver: str) -> list[tuple[str, Any]]:
    return [(role.value, role.label) for role in Role if manages(giver, role)]


class AccountForm(SetPasswordMixin, forms.Form):
    """What whoever makes an account chooses: a user name and a password. The address is a field of its own, or known."""

    username = forms.CharField(
        label=_("User name"),
        min_length=3,
        max_length=50,
        # Of the model's own those that the field does not bring itself, so that nothing is said twice.
        validators=[known for known in User._meta.get_field("username").validators if isinstance(known, RegexValidator)],
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none"}),
        help_text=_("3 to 50 letters, digits, hyphens and underscores. You sign in with the e-mail address."),
    )
    password1, password2 = SetPasswordMixin.create_password_fields()

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        self.validate_passwords()
        if (password := given.get("password1")) and not self.errors:
            try:
                validate_password(password, User(username=given["username"], email=self.address()))
            except ValidationError as weak:
                self.add_error("password1", weak)
        return given

    def address(self) -> str:
        """The e-mail address of the account."""
        return str(self.cleaned_data["email"])


class NewcomerForm(AccountForm):
    """The account of somebody who was invited."""

    display_name = forms.CharField(label=_("Your name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    field_order = ["display_name", "username", "password1", "password2"]

    def __init__(self, *args: Any, email: str, **options: Any) -> None:
        self._email = email
        offered = re.sub(r"[^a-z0-9_-]+", "-", email.partition("@")[0].lower()).strip("-")[:50]
        super().__init__(*args, **options)
        self.fields["username"].initial = offered

    def address(self) -> str:
        return self._email

    def asked(self) -> dict[str, str]:
        """The arguments of `invites.accept_as_newcomer` that the person chooses."""
        given = self.cleaned_data
        return {"username": given["username"], "display_name": given["display_name"], "password": given["password1"]}


class TeamNameForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=LONGEST_NAME)


class TeamForm(TeamNameForm):
    """What a team says of itself."""

    slug = forms.SlugField(label=_("Address"), max_length=LONGEST_SLUG)
    description = forms.CharField(label=_("Description"), max_length=LONGEST_DESCRIPTION, required=False)
    time_zone = forms.ChoiceField(label=_("Time zone"), help_text=_("Spending periods begin at midnight in this zone."))
    first_weekday = forms.TypedChoiceField(label=_("The week begins on"), choices=list(WEEKDAYS.items()), coerce=int)
    shows_details = forms.BooleanField(label=_("Members see each other's work"), required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        zones = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
        self.fields["time_zone"].choices = [(zone, zone.replace("_", " ")) for zone in zones]  # type: ignore[attr-defined]

    def profile(self) -> Profile:
        return Profile(**self.cleaned_data)


class AuditFilter(forms.Form):
    """The filters of the audit trail, as they stand in its address."""

    SECURITY = "security"

    event = forms.ChoiceField(
        label=_("Event"),
        required=False,
        choices=[("", _("All")), (SECURITY, _("What concerns security")), *((event, event) for event in events.ALL)],
    )
    person = forms.CharField(label=_("Person or token"), required=False, max_length=100)
    target = forms.CharField(label=_("Target"), required=False, max_length=100)
    since = forms.DateField(label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=_("To"), required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def chosen(self) -> dict[str, Any]:
        """What was asked for; what cannot be read counts as not said."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    def of(self, lines: QuerySet[AuditLine], *, team: Team) -> QuerySet[AuditLine]:
        """The lines that pass; days are those of the team."""
        chosen, zone = self.chosen(), ZoneInfo(team.time_zone)
        if event := chosen.get("event"):
            lines = lines.filter(event_type__in=events.SECURITY if event == self.SECURITY else [event])
        if person := chosen.get("person"):
            lines = lines.filter(Q(actor__icontains=person) | Q(token_prefix__startswith=person))
        if target := chosen.get("target"):
            lines = lines.filter(Q(target_id__icontains=target) | Q(target_type=target))
        if since := chosen.get("since"):
            lines = lines.filter(at__gte=datetime.combine(since, time.min, tzinfo=zone))
        if until := chosen.get("until"):
            lines = lines.filter(at__lt=datetime.combine(until + timedelta(days=1), time.min, tzinfo=zone))
        return lines


class ProfileForm(forms.Form):
    display_name = forms.CharField(
        label=_("Display name"),
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        help_text=_("What others see of you. Empty: your user name."),
    )
    language = forms.ChoiceField(
        label=_("Language"),
        choices=settings.LANGUAGES,
        help_text=_("Of these pages while you are signed in, and of your mails."),
    )
