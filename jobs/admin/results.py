"""What jobs brought, where it went, and the keys that it comes in by."""

from django.contrib import admin

from accounts.admin.base import ReadOnlyAdmin
from jobs.admin.rows import BY_JOB, of_team
from jobs.models import Artifact, ResultDelivery, StorageKey


@admin.register(Artifact)
class ArtifactAdmin(ReadOnlyAdmin):
    list_display = ("key", "job", "team", "kind", "size_bytes", "sha256", "stored_at")
    list_filter = ("kind", "job__team")
    list_select_related = ("job__team",)
    search_fields = (*BY_JOB, "key", "sha256")
    date_hierarchy = "stored_at"
    fields = ("job", "key", "kind", "size_bytes", "sha256", "etag", "content_type", "stored_as", "stored_at")

    team = of_team("job")


@admin.register(ResultDelivery)
class ResultDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("job", "team", "destination", "state", "attempts", "error", "asked_at", "delivered_at")
    list_filter = ("state", "destination", "job__team")
    list_select_related = ("job__team",)
    search_fields = (*BY_JOB, "target")
    date_hierarchy = "created_at"
    readonly_fields = ("created_at",)

    team = of_team("job")


@admin.register(StorageKey)
class StorageKeyAdmin(ReadOnlyAdmin):
    """Key pairs of the storage endpoint; the secret half is shown to nobody."""

    list_display = ("access_key", "job", "team", "purpose", "created_at", "expires_at", "revoked_at")
    list_filter = ("purpose", ("revoked_at", admin.EmptyFieldListFilter), "job__team")
    list_select_related = ("job__team",)
    search_fields = (*BY_JOB, "access_key")
    date_hierarchy = "created_at"
    fields = ("job", "purpose", "access_key", "bucket", "prefix", "created_at", "expires_at", "revoked_at")

    team = of_team("job")
