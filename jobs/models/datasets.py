"""Datasets: files with captions. A version is an immutable manifest of hashes; the bytes are kept once a team."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User


class Dataset(models.Model):
    team = models.ForeignKey(Team, models.PROTECT, related_name="datasets")
    name = models.CharField(_("name"), max_length=100)
    description = models.CharField(_("description"), max_length=500, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    removed_at = models.DateTimeField(_("removed at"), null=True, blank=True)

    class Meta:
        verbose_name = _("dataset")
        verbose_name_plural = _("datasets")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["team", "name"], condition=Q(removed_at=None), name="one_dataset_per_team_and_name"),
        ]

    def __str__(self) -> str:
        return self.name


class DatasetVersion(models.Model):
    """An immutable manifest. `manifest_sha256` covers names, hashes and captions in order of name."""

    dataset = models.ForeignKey(Dataset, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField(_("number"))
    manifest_sha256 = models.CharField(_("manifest"), max_length=64)
    image_count = models.PositiveIntegerField(_("images"))
    size_bytes = models.PositiveBigIntegerField(_("size"))
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("dataset version")
        verbose_name_plural = _("dataset versions")
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["dataset", "number"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"{self.dataset.name}@{self.number}"


class Blob(models.Model):
    """Bytes that a team has uploaded, kept once whatever the number of files that have them."""

    team = models.ForeignKey(Team, models.PROTECT, related_name="blobs")
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    stored_as = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "sha256"], name="one_blob_per_team_and_hash")]

    def __str__(self) -> str:
        return self.sha256[:12]


class DatasetFile(models.Model):
    """One image of a version with its caption."""

    version = models.ForeignKey(DatasetVersion, models.CASCADE, related_name="files")
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    name = models.CharField(_("name"), max_length=255)
    caption = models.TextField(_("caption"), blank=True)
    content_type = models.CharField(_("type"), max_length=100)
    width = models.PositiveIntegerField(_("width"))
    height = models.PositiveIntegerField(_("height"))

    class Meta:
        verbose_name = _("dataset file")
        verbose_name_plural = _("dataset files")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["version", "name"], name="one_file_per_version_and_name")]

    def __str__(self) -> str:
        return self.name
