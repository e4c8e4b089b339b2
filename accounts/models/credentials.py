"""The secrets with which a team goes to other services."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.encryption import EncryptedTextField
from accounts.models.people import User
from accounts.models.teams import Team


class CredentialKind(models.TextChoices):
    REPLICATE = "replicate", "Replicate"
    HUGGINGFACE = "huggingface", "Hugging Face"
    S3 = "s3", "S3"
    SANDBOX = "sandbox", _("Sandbox")


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
        """Whether it is older than the team lets a credential become; one of the installation goes by the default."""
        return self._age >= timedelta(days=self.days_allowed)

    @property
    def is_nearly_stale(self) -> bool:
        """Whether it is time for a hint, where the team wants one."""
        team = self._owner
        hint_after = timedelta(days=self.days_allowed) * (team.credential_warning_percent / 100)
        return team.warns_of_old_credentials and not self.is_stale and self._age >= hint_after

    @property
    def days_allowed(self) -> int:
        return self._owner.credential_days

    @property
    def _owner(self) -> Team:
        return self.team or Team()

    @property
    def _age(self) -> timedelta:
        return timezone.now() - self.updated_at

    def reveal(self) -> str:
        """The secret itself, for a call to the provider and nothing else."""
        if not self.is_from_environment:
            return self.secret
        return settings.REPLICATE_API_TOKEN if self.kind == CredentialKind.REPLICATE else settings.HF_TOKEN
