"""People, teams, roles, tokens, credentials and the audit trail."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser, UserManager
from django.core.validators import MinLengthValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.encryption import EncryptedTextField
from accounts.roles import Right, Role, Scope, rights_of, rights_of_token


class User(AbstractUser):
    """A person. Signs in by e-mail; the user name is what SimpleTuner's clients print."""

    username = models.CharField(
        _("user name"),
        max_length=50,
        unique=True,
        validators=[MinLengthValidator(3), RegexValidator(r"^[A-Za-z0-9_-]+$", _("Use letters, digits, hyphens and underscores."))],
    )
    email = models.EmailField(_("e-mail address"))
    display_name = models.CharField(_("display name"), max_length=100, blank=True)

    objects = UserManager()  # type: ignore[misc]  # the stubs call Django's own class variable one

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["email"]

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")
        constraints = [models.UniqueConstraint(Lower("email"), name="one_person_per_email")]

    def __str__(self) -> str:
        return self.display_name or self.username


class Team(models.Model):
    """The tenant: every row that a person can see belongs to exactly one team."""

    name = models.CharField(_("name"), max_length=100)
    slug = models.SlugField(_("address"), max_length=50, unique=True)
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
    suspended_at = models.DateTimeField(_("suspended at"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    members = models.ManyToManyField(User, through="Membership", related_name="teams")

    class Meta:
        verbose_name = _("team")
        verbose_name_plural = _("teams")
        ordering = ["name"]
        constraints = [models.CheckConstraint(condition=models.Q(first_weekday__lte=6), name="team_first_weekday_is_a_day")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("jobs:list", args=[self.slug])

    @property
    def is_suspended(self) -> bool:
        return self.suspended_at is not None


class Membership(models.Model):
    """A person's role in a team."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.RESEARCHER)
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


class Invite(models.Model):
    """An invitation by e-mail. Only a hash of its secret is kept."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="invites")
    email = models.EmailField(_("e-mail address"))
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.RESEARCHER)
    secret_hash = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    sent_at = models.DateTimeField(_("sent at"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires at"))
    accepted_at = models.DateTimeField(_("accepted at"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

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


class APITokenQuerySet(models.QuerySet["APIToken"]):
    def usable(self, *, now: Any) -> "APITokenQuerySet":
        """Tokens that open a door at `now`: not revoked, not expired, not past a rotation's overlap."""
        return self.filter(
            models.Q(revoked_at=None) | models.Q(revoked_at__gt=now),
            models.Q(expires_at=None) | models.Q(expires_at__gt=now),
        )


class APIToken(models.Model):
    """A team's token, made by a person and shown once. Rights = its scopes ∩ its maker's role then."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="api_tokens")
    made_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=100)
    key_id = models.CharField(_("key id"), max_length=8, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    role = models.CharField(_("role of its maker"), max_length=10, choices=Role.choices)
    scopes = models.JSONField(_("scopes"), default=list)
    allowed_addresses = models.JSONField(
        _("allowed addresses"), default=list, blank=True, help_text=_("Addresses or networks; empty means all.")
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    # In the future while a rotation's overlap lasts.
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)
    replaced_by = models.OneToOneField("self", models.SET_NULL, null=True, blank=True, related_name="replaces")
    last_used_at = models.DateTimeField(_("last used at"), null=True, blank=True)
    last_used_address = models.GenericIPAddressField(_("last used from"), null=True, blank=True)
    last_used_endpoint = models.CharField(_("last used for"), max_length=200, blank=True)

    objects = APITokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.key_prefix}…)"

    @property
    def key_prefix(self) -> str:
        return f"th_{self.key_id}"

    @property
    def scope_labels(self) -> list[str]:
        return [str(scope.label) for scope in Scope if scope in self.scopes]

    @property
    def rights(self) -> frozenset[Right]:
        return rights_of_token(self.role, self.scopes)


class CredentialKind(models.TextChoices):
    REPLICATE = "replicate", "Replicate"
    HUGGINGFACE = "huggingface", "Hugging Face"
    S3 = "s3", "S3"


class CredentialHealth(models.TextChoices):
    UNCHECKED = "unchecked", _("not checked yet")
    GOOD = "good", _("good")
    REFUSED = "refused", _("refused by the provider")
    NO_CREDIT = "no_credit", _("out of credit")


class CredentialQuerySet(models.QuerySet["Credential"]):
    def in_use(self) -> "CredentialQuerySet":
        return self.filter(removed_at=None)


class Credential(models.Model):
    """A secret of a team, of a person in that team, or of the installation (`team` empty).

    A removed one stays as a row without being offered any more, since jobs keep the credential they were
    admitted with; its secret is wiped once no job needs it. One that comes from the environment keeps no
    secret here, only a fingerprint.
    """

    team = models.ForeignKey(Team, models.PROTECT, null=True, blank=True, related_name="credentials")
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="credentials")
    kind = models.CharField(_("kind"), max_length=20, choices=CredentialKind.choices)
    name = models.CharField(_("name"), max_length=100, default="api_token")
    description = models.CharField(_("description"), max_length=200, blank=True)
    secret = EncryptedTextField(blank=True, editable=False)
    is_from_environment = models.BooleanField(default=False, editable=False)
    fingerprint = models.CharField(max_length=64, editable=False)
    last_four = models.CharField(_("last four"), max_length=4, editable=False)
    # What is not secret of an S3 credential: bucket, region, endpoint_url, path_prefix, use_path_style, public_read.
    details = models.JSONField(default=dict, blank=True)
    account_username = models.CharField(_("account"), max_length=200, blank=True)
    account_type = models.CharField(_("account type"), max_length=20, blank=True)
    health = models.CharField(_("health"), max_length=10, choices=CredentialHealth.choices, default=CredentialHealth.UNCHECKED)
    health_reason = models.CharField(_("reason"), max_length=500, blank=True)
    checked_at = models.DateTimeField(_("checked at"), null=True, blank=True)
    # Webhook signing secrets of the account behind a Replicate token, newest first, one per line.
    signing_keys = EncryptedTextField(blank=True, editable=False)
    signing_keys_fetched_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)
    last_used_at = models.DateTimeField(_("last used at"), null=True, blank=True)
    removed_at = models.DateTimeField(_("removed at"), null=True, blank=True)

    objects = CredentialQuerySet.as_manager()

    class Meta:
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")
        constraints = [
            models.UniqueConstraint(
                fields=["team", "user", "kind", "name"],
                condition=models.Q(removed_at=None),
                nulls_distinct=False,
                name="one_credential_in_use_per_owner_kind_and_name",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} …{self.last_four}"

    @property
    def is_stale(self) -> bool:
        return self.updated_at < timezone.now() - timedelta(days=90)

    def reveal(self) -> str:
        """The secret itself, for a call to the provider and nothing else."""
        if not self.is_from_environment:
            return self.secret
        return settings.REPLICATE_API_TOKEN if self.kind == CredentialKind.REPLICATE else settings.HF_TOKEN


class AuditLine(models.Model):
    """One fact about who changed what. Never changed or deleted: the database itself refuses it."""

    team = models.ForeignKey(Team, models.PROTECT, null=True, related_name="audit_lines", help_text=_("Empty: the platform's own chain."))
    sequence = models.PositiveBigIntegerField()
    at = models.DateTimeField(_("at"))
    event_type = models.CharField(_("event"), max_length=50)
    # Text and numbers rather than keys: a line outlives the rows that it speaks of.
    actor_id = models.BigIntegerField(null=True)
    actor = models.CharField(_("actor"), max_length=150, blank=True)
    token_prefix = models.CharField(_("token"), max_length=11, blank=True)
    address = models.CharField(_("address"), max_length=45, blank=True)
    target_type = models.CharField(_("target type"), max_length=50, blank=True)
    target_id = models.CharField(_("target"), max_length=100, blank=True)
    action = models.CharField(_("action"), max_length=300)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    correlation_id = models.CharField(_("correlation id"), max_length=64, blank=True)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("audit line")
        verbose_name_plural = _("audit lines")
        ordering = ["-at", "-id"]
        constraints = [models.UniqueConstraint(fields=["team", "sequence"], nulls_distinct=False, name="audit_chain_has_no_forks")]
        indexes = [models.Index(fields=["team", "event_type", "-at"], name="audit_by_event")]

    def __str__(self) -> str:
        return f"{self.event_type}: {self.action}"

    def chained_fields(self) -> dict[str, Any]:
        """Every field that the hash covers, as plain JSON values."""
        return {
            "team": self.team_id,
            "sequence": self.sequence,
            "at": self.at.isoformat(),
            "event_type": self.event_type,
            "actor_id": self.actor_id,
            "actor": self.actor,
            "token_prefix": self.token_prefix,
            "address": self.address,
            "target_type": self.target_type,
            "target_id": self.target_id,
            "action": self.action,
            "before": self.before,
            "after": self.after,
            "reason": self.reason,
            "correlation_id": self.correlation_id,
        }


class AuditHead(models.Model):
    """The end of a chain of audit lines; its row lock puts writers in a row. Locked after everything but the ledger's."""

    team = models.OneToOneField(Team, models.PROTECT, null=True, related_name="+")
    sequence = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team"], nulls_distinct=False, name="one_audit_head_per_chain")]

    def __str__(self) -> str:
        return f"{self.team or 'platform'} #{self.sequence}"
