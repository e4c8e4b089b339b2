"""The teams' data, and whether it may be uploaded."""

from django.contrib import admin

from accounts.admin.base import ReadOnlyAdmin
from jobs.admin.rows import ReadOnlyInline, of_team
from jobs.models import Consent, Dataset, DatasetVersion


class DatasetVersionInline(ReadOnlyInline):
    model = DatasetVersion
    fields = ("number", "image_count", "size_bytes", "manifest_sha256", "created_by", "created_at")

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("created_by", "dataset")


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    list_display = ("name", "team", "created_by", "created_at", "removed_at")
    list_filter = (("removed_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("team", "created_by")
    search_fields = ("name", "description", "team__slug")
    date_hierarchy = "created_at"
    inlines = (DatasetVersionInline,)


@admin.register(DatasetVersion)
class DatasetVersionAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "team", "image_count", "size_bytes", "manifest_sha256", "created_by", "created_at")
    list_filter = ("dataset__team",)
    list_select_related = ("dataset__team", "created_by")
    search_fields = ("dataset__name", "manifest_sha256", "dataset__team__slug")
    date_hierarchy = "created_at"

    team = of_team("dataset")


@admin.register(Consent)
class ConsentAdmin(ReadOnlyAdmin):
    list_display = ("team", "user", "given_at", "withdrawn_at")
    list_filter = (("withdrawn_at", admin.EmptyFieldListFilter), "team")
    list_select_related = ("team", "user")
    search_fields = ("team__slug", "user__username", "user__email")
    date_hierarchy = "given_at"
