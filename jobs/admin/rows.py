"""What the pages share that show rows of something else: inlines, the column of the team, the search by a job."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from unfold.admin import TabularInline

BY_JOB = ("job__job_id", "job__prediction_id", "job__team__slug")


class ReadOnlyInline(TabularInline):
    """Rows that belong to another's page, to read."""

    extra = 0
    can_delete = False
    show_change_link = False
    tab = True

    def has_view_permission(self, request, obj=None):
        return request.user.is_staff

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def get_readonly_fields(self, request, obj=None):
        return self.fields


def of_team(path: str) -> Callable[[Any, Any], Any]:
    """A column with the team of the row that `path` leads to."""

    @admin.display(description=_("team"), ordering=f"{path}__team")
    def column(self: Any, row: Any) -> Any:
        for name in path.split("__"):
            row = getattr(row, name)
        return row.team

    return column
