"""The administration of money: prices and limits are edited here, everything else is written by services and only shown."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from accounts.admin import AuditedAdmin, ReadOnlyAdmin
from billing.models import Hold, LedgerLine, LimitPeriod, PriceLine, SpendAlert, SpendLimit, TopUp
from billing.prices import MICROS_PER_USD, as_number, dollars


def money(field: str, label: Any) -> Callable[[Any, Any], str]:
    """A column that shows micro-dollars as dollars, and sorts by them."""

    @admin.display(description=label, ordering=field)
    def column(self: Any, row: Any) -> str:
        micros = getattr(row, field)
        return "" if micros is None else dollars(micros)

    return column


@admin.register(PriceLine)
class PriceLineAdmin(AuditedAdmin):
    """A new price is a new line with a later date; a line that money was held by stays as it is."""

    audited_as = "price_line"
    list_display = ("hardware", "name", "gpu_count", "usd_per_second", "usd_per_hour", "billed_time", "effective_from")
    list_filter = ("billed_time", "gpu_count")
    search_fields = ("hardware", "name", "source")
    date_hierarchy = "effective_from"

    @admin.display(description=_("USD per hour"), ordering="usd_per_second")
    def usd_per_hour(self, line):
        return f"${line.usd_per_second * 3600:.2f}"

    def has_change_permission(self, request, obj=None):
        is_used = obj is not None and Hold.objects.filter(price_line=obj).exists()
        return super().has_change_permission(request, obj) and not is_used


class SpendLimitForm(forms.ModelForm):
    amount_usd = forms.DecimalField(
        label=_("Amount (USD)"),
        min_value=0,
        max_digits=15,
        decimal_places=6,
        widget=UnfoldAdminDecimalFieldWidget,
        help_text=_("For each period. 0 blocks everything."),
    )

    class Meta:
        model = SpendLimit
        fields = ("scope", "team", "user", "token", "name", "period", "action", "is_enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["amount_usd"] = as_number(self.instance.amount)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "amount_usd" in cleaned:
            self.instance.amount = int(cleaned["amount_usd"] * MICROS_PER_USD)
        return cleaned


@admin.register(SpendLimit)
class SpendLimitAdmin(AuditedAdmin):
    """Limits of all teams. What is changed here counts from the next hold on."""

    audited_as = "spend_limit"
    form = SpendLimitForm
    fields = ("scope", "team", "user", "token", "name", "amount_usd", "period", "action", "is_enabled")
    autocomplete_fields = ("team", "user", "token")
    list_display = ("scope", "team", "user", "token", "name", "amount_in_dollars", "period", "action", "is_enabled")
    list_filter = ("scope", "period", "action", "is_enabled", "team")
    list_select_related = ("team", "user", "token")
    search_fields = ("name", "team__name", "team__slug", "user__username", "user__email", "token__name")
    date_hierarchy = "created_at"

    amount_in_dollars = money("amount", _("amount"))

    def audited_team(self, obj):
        return obj.team

    def get_readonly_fields(self, request, obj=None):
        # Another scope or period is another limit: what was counted for this one would not fit it.
        return ("scope", "team", "user", "token", "period") if obj else ()


@admin.register(LimitPeriod)
class LimitPeriodAdmin(ReadOnlyAdmin):
    fields = ("limit", "starts_at", "ends_at", "is_blocking", "ceiling_shown", "settled_shown", "held_shown", "left_shown", "overrun_shown")
    list_display = ("limit", "team", "starts_at", "ends_at", "ceiling_shown", "settled_shown", "held_shown", "left_shown", "overrun_shown")
    list_filter = ("limit__scope", "limit__period", "is_blocking", "limit__team")
    list_select_related = ("limit__team",)
    search_fields = ("limit__name", "limit__team__name", "limit__team__slug")
    date_hierarchy = "starts_at"

    ceiling_shown = money("ceiling", _("ceiling"))
    settled_shown = money("settled", _("settled"))
    held_shown = money("held", _("held"))
    overrun_shown = money("overrun", _("overrun"))

    @admin.display(description=_("left"))
    def left_shown(self, period):
        return dollars(period.left)

    @admin.display(description=_("team"), ordering="limit__team")
    def team(self, period):
        return period.limit.team or _("Platform")


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    fields = (
        *("reference", "team", "user", "token", "what_for", "amount_shown", "charge_shown", "flag"),
        *("price_line", "is_rehearsal", "created_at", "settled_at", "periods"),
    )
    list_display = ("reference", "team", "what_for", "amount_shown", "charge_shown", "created_at", "settled_at", "flag", "is_rehearsal")
    list_filter = (("settled_at", admin.EmptyFieldListFilter), ("flag", admin.EmptyFieldListFilter), "is_rehearsal", "team")
    list_select_related = ("team",)
    search_fields = ("reference", "what_for", "flag", "team__name", "team__slug")
    date_hierarchy = "created_at"

    amount_shown = money("amount", _("amount"))
    charge_shown = money("charge", _("charge"))


@admin.register(LedgerLine)
class LedgerLineAdmin(ReadOnlyAdmin):
    fields = (
        *("team", "sequence", "at", "kind", "amount_shown", "hold", "price_line", "reference", "is_rehearsal"),
        *("reason", "made_by_id", "correlation_id", "previous_hash", "hash"),
    )
    list_display = ("at", "team", "sequence", "kind", "amount_shown", "reference", "reason", "is_rehearsal")
    list_filter = ("kind", "is_rehearsal", "team")
    list_select_related = ("team",)
    search_fields = ("reference", "reason", "correlation_id", "team__name", "team__slug")
    date_hierarchy = "at"

    @admin.display(description=_("amount (USD)"), ordering="amount")
    def amount_shown(self, line):
        return f"{as_number(line.amount):f}"


@admin.register(SpendAlert)
class SpendAlertAdmin(ReadOnlyAdmin):
    list_display = ("period", "threshold_percent", "reached_at")
    list_filter = ("threshold_percent", "period__limit__scope", "period__limit__team")
    list_select_related = ("period__limit",)
    search_fields = ("period__limit__name", "period__limit__team__name", "period__limit__team__slug")
    date_hierarchy = "reached_at"


@admin.register(TopUp)
class TopUpAdmin(ReadOnlyAdmin):
    fields = ("period", "amount_shown", "reason", "made_by", "created_at", "expires_at")
    list_display = ("period", "amount_shown", "reason", "made_by", "created_at", "expires_at")
    list_filter = ("period__limit__scope", "period__limit__team")
    list_select_related = ("period__limit", "made_by")
    search_fields = ("reason", "period__limit__team__name", "period__limit__team__slug")
    date_hierarchy = "created_at"

    amount_shown = money("amount", _("amount"))
