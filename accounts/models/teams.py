"""Teams, who is in them with which role, who is invited, and which roles may use what."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models.people import User
from accounts.roles import Right, Role, rights_of

# Where an API names a team, this names the platform.
PLATFORM = "platform"


def not_reserved(slug: str) -> None:
    """Raise ValidationError for a slug that means something else than a team."""
    if slug == PLATFORM:
        raise ValidationError(_("This address is taken by the platform itself."), code="reserved")


class Team(models.Model):
    """The tenant: every row that a person can see belongs to exactly one team."""

    name = models.CharField(_("name"), max_length=100)
    slug = models.SlugField(_("address"), max_length=50, unique=True, validators=[not_reserved])
    description = models.CharField(_("description"), max_length=500, blank=True)
    time_zone = models.CharField(
        _("time zone"), max_length=64, default="UTC", help_text=_("Spending periods begin at midnight in this zone.")
    )
    first_weekday = models.PositiveSmallIntegerField(_("first day of the week"), default=0, help_text=_("0 is Monday, 6 is Sunday."))
    shows_details = models.BooleanField(
        _("members see each other's work"),
        default=True,
        help_text=_("Configs, prompts, logs and files of a job are shown to the whole team, not only to who submitted it."),
    )
    credential_days = models.PositiveSmallIntegerField(_("days until a credential is old"), default=90)
    warns_of_old_credentials = models.BooleanField(_("hint before a credential is old"), default=False)
    credential_warning_percent = models.PositiveSmallIntegerField(
        _("hint from this percentage of the days on"), default=75, help_text=_("1 to 99.")
    )
    suspended_at = models.DateTimeField(_("suspended at"), null=True, blank=True, editable=False)
    suspension_reason = models.CharField(_("reason"), max_length=500, blank=True, editable=False)
    # An archived team has no way in any more; what it did stays.
    archived_at = models.DateTimeField(_("archived at"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    members = models.ManyToManyField(User, through="Membership", related_name="teams")

    class Meta:
        verbose_name = _("team")
        verbose_name_plural = _("teams")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(first_weekday__lte=6), name="team_first_weekday_is_a_day"),
            models.CheckConstraint(
                condition=models.Q(credential_days__range=(1, 365), credential_warning_percent__range=(1, 99)),
                name="team_credential_ages_are_in_bounds",
                violation_error_message=_("A credential is old after 1 to 365 days, and a hint comes after 1 to 99 percent of that."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("jobs:list", args=[self.slug])

    @property
    def is_suspended(self) -> bool:
        """Whether its work can only be read, and its queue is held; an archived team's is, too."""
        return self.suspended_at is not None or self.archived_at is not None


class FormerSlug(models.Model):
    """An address that a team had: links with it lead to the team still, and no other team gets it."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="former_slugs")
    slug = models.SlugField(_("address"), max_length=50, unique=True)

    class Meta:
        verbose_name = _("former address")
        verbose_name_plural = _("former addresses")

    def __str__(self) -> str:
        return self.slug


class Origin(models.TextChoices):
    """Who made a membership: people, or the company's directory, by the groups that it names at each sign-in."""

    HAND = "hand", _("people")
    OIDC = "oidc", "OIDC"
    LDAP = "ldap", "LDAP"


class Membership(models.Model):
    """A person's role in a team."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.RESEARCHER)
    origin = models.CharField(_("made by"), max_length=4, choices=Origin.choices, default=Origin.HAND, editable=False)
    joined_at = models.DateTimeField(_("joined at"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="one_membership_per_person_and_team")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"

    @property
    def rights(self) -> frozenset[Right]:
        return rights_of(self.role)


class InviteQuerySet(models.QuerySet["Invite"]):
    def open(self) -> "InviteQuerySet":
        """Those that were neither used nor taken back."""
        return self.filter(accepted_at=None, revoked_at=None)

    def usable(self, *, now: Any) -> "InviteQuerySet":
        """Those that still let somebody in at `now`."""
        return self.open().filter(expires_at__gt=now)

    def unsent(self, *, now: Any) -> "InviteQuerySet":
        """Those whose mail is still to go out."""
        return self.usable(now=now).filter(sent_at=None, team__suspended_at=None, team__archived_at=None)


class Invite(models.Model):
    """An invitation by e-mail. Only a hash of its secret is kept, and there is none before the mail goes out."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="invites")
    email = models.EmailField(_("e-mail address"))
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.RESEARCHER)
    secret_hash = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    # How the mail is written, and the server's address that its link begins with.
    language = models.CharField(_("language"), max_length=10, default="en")
    site = models.CharField(_("leads to"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    # When it was last asked to be sent: at first, and again.
    asked_at = models.DateTimeField(_("asked at"), default=timezone.now, editable=False)
    sent_at = models.DateTimeField(_("sent at"), null=True, blank=True)
    # Whoever comes by a link that was mailed reads the mail of that address; one that was handed over proves nothing.
    proves_address = models.BooleanField(_("was mailed"), default=False)
    expires_at = models.DateTimeField(_("expires at"))
    accepted_at = models.DateTimeField(_("accepted at"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

    objects = InviteQuerySet.as_manager()

    class Meta:
        verbose_name = _("invite")
        verbose_name_plural = _("invites")
        constraints = [
            models.UniqueConstraint(
                "team",
                Lower("email"),
                condition=models.Q(accepted_at=None, revoked_at=None),
                name="one_open_invite_per_team_and_email",
            )
        ]

    def __str__(self) -> str:
        return f"{self.email} → {self.team}"


class Letter(models.Model):
    """A mail that a person is to get. The row is the truth; a sweep sends what was not sent."""

    person = models.ForeignKey(User, models.CASCADE, related_name="letters")
    team = models.ForeignKey(Team, models.CASCADE, null=True, related_name="+")
    # The template is templates/mail/<event>.txt; the facts are what it is filled with, never secrets.
    event = models.CharField(_("event"), max_length=50)
    language = models.CharField(_("language"), max_length=10, default="en")
    facts = models.JSONField(_("facts"), default=dict)
    written_at = models.DateTimeField(_("written at"), default=timezone.now, editable=False)
    sent_at = models.DateTimeField(_("sent at"), null=True, blank=True)

    class Meta:
        verbose_name = _("mail")
        verbose_name_plural = _("mails")
        indexes = [models.Index(fields=["written_at"], condition=models.Q(sent_at=None), name="letter_unsent")]

    def __str__(self) -> str:
        return f"{self.event} → {self.person}"


class ResourceType(models.TextChoices):
    """What of a job a resource rule looks at."""

    CONFIG = "config", _("config")
    HARDWARE = "hardware", _("hardware")
    PROVIDER = "provider", _("provider")
    OUTPUT_PATH = "output_path", _("place of the result")


class RuleAction(models.TextChoices):
    ALLOW = "allow", _("allow")
    DENY = "deny", _("deny")


class ResourceRule(models.Model):
    """Which configs, hardware, providers or places some of a team's roles may use, by a pattern of the shell's kind."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="resource_rules")
    name = models.CharField(_("name"), max_length=100)
    resource_type = models.CharField(_("applies to"), max_length=11, choices=ResourceType.choices)
    pattern = models.CharField(_("pattern"), max_length=200, help_text=_("With * for any characters and ? for one."))
    action = models.CharField(_("action"), max_length=5, choices=RuleAction.choices, default=RuleAction.ALLOW)
    priority = models.PositiveSmallIntegerField(_("priority"), default=0, help_text=_("Decides the order in lists, nothing else."))
    description = models.CharField(_("description"), max_length=500, blank=True)
    # A few words of a fixed set, always read and written whole.
    roles = models.JSONField(_("roles"), default=list, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("resource rule")
        verbose_name_plural = _("resource rules")
        ordering = ["-priority", "pk"]
        constraints = [
            models.CheckConstraint(condition=models.Q(priority__lte=1000), name="resource_rule_priority_is_in_bounds"),
            models.CheckConstraint(
                condition=models.Q(resource_type__in=ResourceType.values, action__in=RuleAction.values),
                name="resource_rule_has_known_words",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.action} {self.resource_type} {self.pattern}"
