"""What a team can train on: the trainer catalogue and the team's settings for the provider."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.encryption import EncryptedTextField
from accounts.models import Team


class Provider(models.TextChoices):
    REPLICATE = "replicate", "Replicate"
    SANDBOX = "sandbox", _("Sandbox")


class Trainer(models.Model):
    """A model on the provider with its hardware: data, so that a new one needs no release."""

    profile = models.SlugField(
        _("hardware profile"), max_length=30, unique=True, help_text=_("The word that clients send, for example l40s-x2.")
    )
    model = models.CharField(_("model"), max_length=200, help_text=_("owner/name on the provider."))
    label = models.CharField(_("label"), max_length=100)
    hardware = models.CharField(_("hardware"), max_length=50, help_text=_("The SKU in the price book."))
    hardware_type = models.CharField(_("hardware type"), max_length=50, help_text=_("What people call it, for example L40S (48GB)."))
    gpu_count = models.PositiveSmallIntegerField(_("GPUs"), default=1)
    is_default = models.BooleanField(_("default"), default=False)
    is_offered = models.BooleanField(_("offered"), default=True)

    class Meta:
        verbose_name = _("trainer")
        verbose_name_plural = _("trainers")
        ordering = ["hardware_type", "gpu_count"]
        constraints = [models.UniqueConstraint(fields=["is_default"], condition=Q(is_default=True), name="one_default_trainer")]

    def __str__(self) -> str:
        return self.label


class TrainerVersion(models.Model):
    """A version of a trainer's model as the provider published it, with what we found out about it."""

    trainer = models.ForeignKey(Trainer, models.CASCADE, related_name="versions")
    provider = models.CharField(max_length=10, choices=Provider.choices, default=Provider.REPLICATE)
    version = models.CharField(_("version"), max_length=64)
    input_schema = models.JSONField(_("input schema"), default=dict)
    published_at = models.DateTimeField(_("published at"), null=True, blank=True)
    fetched_at = models.DateTimeField(_("fetched at"), default=timezone.now)
    # At SimpleTuner's newest commit the unpacking of an archive always fails; a canary run finds out.
    unpacks_archives = models.BooleanField(_("unpacks archives"), null=True, blank=True, help_text=_("Unknown until a run has shown it."))

    class Meta:
        verbose_name = _("trainer version")
        verbose_name_plural = _("trainer versions")
        constraints = [models.UniqueConstraint(fields=["trainer", "provider", "version"], name="one_row_per_trainer_version")]

    def __str__(self) -> str:
        return f"{self.trainer.model}:{self.version[:12]}"


class DataConsent(models.TextChoices):
    ASK = "ask", _("ask before the first upload")
    ALLOW = "allow", _("allow")
    DENY = "deny", _("deny")


# After so many faults of the platform in a row, somebody should look.
MOST_RETRIES = 3


class AddressMode(models.TextChoices):
    """What becomes of a well signed webhook from an address outside the team's list."""

    BLOCK = "block", _("hold it until somebody releases it")
    OBSERVE = "observe", _("take it, and tell us")


class ProviderSettings(models.Model):
    """A team's settings for the provider, as SimpleTuner's provider settings name them. Made on first use."""

    team = models.OneToOneField(Team, models.CASCADE, related_name="provider_settings")
    webhook_url = models.CharField(
        _("webhook URL"), max_length=500, blank=True, help_text=_("Public address of this server without a path.")
    )
    webhook_require_signature = models.BooleanField(_("require signatures"), default=True)
    webhook_allowed_ips = models.JSONField(_("allowed addresses"), default=list, blank=True)
    webhook_address_mode = models.CharField(
        _("from other addresses"), max_length=10, choices=AddressMode.choices, default=AddressMode.BLOCK
    )
    webhook_rate_limit_max = models.PositiveIntegerField(default=100)
    webhook_rate_limit_window = models.PositiveIntegerField(default=60)
    # Beside start and completed, which are always asked for.
    webhook_sends_logs = models.BooleanField(_("logs by webhook"), default=False)
    webhook_sends_output = models.BooleanField(_("outputs by webhook"), default=False)
    s3_rate_limit_max = models.PositiveIntegerField(default=50)
    s3_rate_limit_window = models.PositiveIntegerField(default=60)
    version_override = models.CharField(_("pinned version"), max_length=300, blank=True, help_text="owner/model:hash")
    hardware_profile = models.CharField(_("default hardware"), max_length=30, blank=True)
    hardware_info = models.JSONField(default=dict, blank=True)
    ssl_verify = models.BooleanField(_("verify certificates"), default=True)
    ssl_ca_bundle = models.CharField(_("CA bundle"), max_length=500, blank=True)
    # May hold a password.
    proxy_url = EncryptedTextField(_("outbound proxy"), blank=True)
    http_timeout = models.DecimalField(_("time-out (seconds)"), max_digits=6, decimal_places=2, null=True, blank=True)
    s3_endpoint_enabled = models.BooleanField(_("own storage endpoint"), default=True)
    s3_public_url = models.CharField(_("storage URL"), max_length=500, blank=True)
    s3_output_path = models.CharField(_("output path"), max_length=500, blank=True)
    # bucket, region, endpoint_url, path_prefix, use_path_style, public_read; the keys are a credential.
    s3_delivery = models.JSONField(default=dict, blank=True)
    preferences = models.JSONField(default=dict, blank=True)
    max_runtime_minutes = models.PositiveIntegerField(_("longest run (minutes)"), null=True, blank=True)
    data_consent = models.CharField(_("uploading data"), max_length=5, choices=DataConsent.choices, default=DataConsent.ASK)
    retries_platform_faults = models.PositiveSmallIntegerField(
        _("retries after platform faults"), default=0, help_text=_("At most so many for one job; 0 for none.")
    )
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("provider settings")
        verbose_name_plural = _("provider settings")

    def __str__(self) -> str:
        return f"{self.team}"
