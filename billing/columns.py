"""What the administration's pages of money share: a column of dollars, the row that is spoken of, and a page with one form."""

from collections.abc import Callable
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from accounts.models import User
from billing.prices import dollars


def money(field: str, label: Any) -> Callable[[Any, Any], str]:
    """A column that shows micro-dollars as dollars, and sorts by them."""

    @admin.display(description=label, ordering=field)
    def column(self: Any, row: Any) -> str:
        micros = getattr(row, field)
        return "" if micros is None else dollars(micros)

    return column


def staff_of(request: HttpRequest) -> User:
    """Who is there: the administration lets nobody else in."""
    return cast(User, request.user)


def row_or_404(options: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The row that an action's address names."""
    row = options.get_object(request, object_id)
    if row is None:
        raise Http404("There is no such row.")
    return row


def page_of(
    options: ModelAdmin, request: HttpRequest, *, title: Any, form: forms.Form, about: list[tuple[Any, Any]] | None = None
) -> HttpResponse:
    """A page of the administration with one form, below what it is `about`."""
    context = {**options.admin_site.each_context(request), "opts": options.opts, "title": title, "form": form, "about": about or []}
    return TemplateResponse(request, "billing/admin_form.html", context)
