"""The administration of money: prices and limits are edited here, everything else is written by services and only shown."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.decorators import action
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminSelectWidget

from accounts.admin.base import AuditedAdmin, ReadOnlyAdmin
from accounts.callers import Staff, address_of
from accounts.errors import Refusal
from accounts.forms import in_words, refuse
from accounts.pages import site_of
from billing import alerts, pricebook, reviews, services, top_ups
from billing import invoice_admin as invoice_admin  # registers its pages
from billing.columns import money, page_of, row_or_404, staff_of
from billing.models import Hold, LedgerLine, LimitPeriod, LimitScope, PriceLine, SpendAlert, SpendLimit, TopUp
from billing.prices import MICROS_PER_USD, as_number, dollars
from billing.staff_forms import AdjustForm, AdjustTeamForm, SettleAsForm


class PriceLineForm(forms.ModelForm):
    class Meta:
        model = PriceLine
        fields = ("hardware", "name", "gpu_count", "usd_per_second", "billed_time", "effective_from", "source")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "effective_from" in self.fields:  # a line that is only shown has none
            self.fields["effective_from"].required = False
            self.fields["effective_from"].help_text = _("Empty: from now on. A price for the past is refused.")

    def clean_effective_from(self) -> datetime:
        return self.cleaned_data["effective_from"] or timezone.now()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        now = timezone.now()
        try:
            if self.instance.pk:
                pricebook.require_changeable(PriceLine.objects.get(pk=self.instance.pk), now=now)
            if self.data.get("effective_from_0") and {"hardware", "effective_from"} <= cleaned.keys():
                pricebook.require_beginning(hardware=cleaned["hardware"], effective_from=cleaned["effective_from"], now=now)
        except pricebook.PriceIsFrozen as refusal:
            self.add_error(refusal.field, f"{refusal.detail} {refusal.hint}")
        return cleaned


@admin.register(PriceLine)
class PriceLineAdmin(AuditedAdmin):
    """A new price is a new line with a later date; a line that is in force, or that money was held by, stays as it is."""

    audited_as = "price_line"
    form = PriceLineForm
    list_display = ("hardware", "name", "gpu_count", "usd_per_second", "usd_per_hour", "billed_time", "effective_from")
    list_filter = ("billed_time", "gpu_count")
    search_fields = ("hardware", "name", "source")
    date_hierarchy = "effective_from"

    @admin.display(description=_("USD per hour"), ordering="usd_per_second")
    def usd_per_hour(self, line):
        return f"${line.usd_per_hour:.2f}"

    def has_change_permission(self, request, obj=None):
        is_frozen = obj is not None and pricebook.is_frozen(obj, now=timezone.now())
        return super().has_change_permission(request, obj) and not is_frozen


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

    actions = ("try_alert",)

    amount_in_dollars = money("amount", _("amount"))

    @admin.action(description=_("Send a trial alert of the chosen limits"), permissions=["act"])
    def try_alert(self, request, queryset):
        staff, count = Staff(user=request.user, address=address_of(request)), 0
        try:
            for limit in queryset.select_related("team", "user", "token"):
                count += alerts.send_trial(staff, limit, site=site_of(request), now=timezone.now())
        except Refusal as refusal:
            self.message_user(request, in_words(refusal), messages.ERROR)
        else:
            told = ngettext("A trial alert is on its way to %d person.", "A trial alert is on its way to %d people.", count)
            self.message_user(request, told % count, messages.SUCCESS)

    def audited_team(self, obj):
        return obj.team

    def get_readonly_fields(self, request, obj=None):
        # Another scope or period is another limit: what was counted for this one would not fit it.
        return ("scope", "team", "user", "token", "period") if obj else ()


FIGURES = ("ceiling_shown", "topped_up_shown", "settled_shown", "held_shown", "left_shown", "overrun_shown")


@admin.register(LimitPeriod)
class LimitPeriodAdmin(ReadOnlyAdmin):
    fields = ("limit", "starts_at", "ends_at", "is_blocking", *FIGURES)
    list_display = ("limit", "team", "starts_at", "ends_at", *FIGURES)
    list_filter = ("limit__scope", "limit__period", "is_blocking", "limit__team")
    list_select_related = ("limit__team",)
    search_fields = ("limit__name", "limit__team__name", "limit__team__slug")
    date_hierarchy = "starts_at"

    ceiling_shown = money("ceiling", _("ceiling"))
    topped_up_shown = money("topped_up", _("topped up"))
    settled_shown = money("settled", _("settled"))
    held_shown = money("held", _("held"))
    overrun_shown = money("overrun", _("overrun"))

    @admin.display(description=_("left"))
    def left_shown(self, period):
        return dollars(period.left)

    @admin.display(description=_("team"), ordering="limit__team")
    def team(self, period):
        return period.limit.team or _("Platform")


class NeedsALook(admin.SimpleListFilter):
    """The charges that were flagged and that nobody has looked at yet."""

    title = _("needs a look")
    parameter_name = "needs_a_look"

    def lookups(self, request, model_admin):
        return [("yes", _("Yes"))]

    def queryset(self, request, queryset):
        return queryset.needing_a_look() if self.value() == "yes" else queryset


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    fields = (
        *("reference", "team", "user", "token", "what_for", "amount_shown", "charge_shown", "billed_seconds", "price_line"),
        *("provider_reference", "provider_account", "is_rehearsal", "created_at", "settled_at", "periods"),
        *("flag", "reviewed_at", "reviewed_by", "review"),
    )
    list_display = ("reference", "team", "what_for", "amount_shown", "charge_shown", "created_at", "settled_at", "flag", "is_rehearsal")
    list_filter = (
        NeedsALook,
        *(("settled_at", admin.EmptyFieldListFilter), ("flag", admin.EmptyFieldListFilter), "is_rehearsal", "team"),
    )
    list_select_related = ("team",)
    search_fields = ("reference", "provider_reference", "what_for", "flag", "team__name", "team__slug")
    date_hierarchy = "created_at"
    actions_detail = ("settle_as", "adjust")

    amount_shown = money("amount", _("amount"))
    charge_shown = money("charge", _("charge"))

    @action(description=_("Settle as…"), url_path="settle-as", permissions=["act"])
    def settle_as(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Close the review of a flagged charge with what is true."""
        hold = row_or_404(self, request, object_id)
        form = SettleAsForm(request.POST or None)
        if form.is_valid():
            try:
                reviews.settle_as(hold, **form.asked(), by=staff_of(request), address=address_of(request), now=timezone.now())
            except Refusal as refusal:
                refuse(form, refusal)
            else:
                self.message_user(request, _("It was settled."))
                return redirect("admin:billing_hold_change", hold.pk)
        return page_of(self, request, title=_("Settle %(hold)s as") % {"hold": hold.reference}, form=form, about=_about(hold))

    @action(description=_("Adjust…"), url_path="adjust", permissions=["act"])
    def adjust(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Correct what a settled hold cost."""
        hold = row_or_404(self, request, object_id)
        form = AdjustForm(request.POST or None)
        if form.is_valid():
            try:
                services.adjust(hold=hold, **form.asked(), by=staff_of(request), address=address_of(request), now=timezone.now())
            except Refusal as refusal:
                refuse(form, refusal)
            else:
                self.message_user(request, _("It was adjusted."))
                return redirect("admin:billing_hold_change", hold.pk)
        return page_of(self, request, title=_("Adjust %(hold)s") % {"hold": hold.reference}, form=form, about=_about(hold))


def _about(hold: Hold) -> list[tuple[Any, Any]]:
    charge = "—" if hold.charge is None else dollars(hold.charge)
    return [
        (_("hold"), f"{hold.what_for} · {hold.team}"),
        (_("amount"), dollars(hold.amount)),
        (_("charge"), charge),
        (_("price line"), hold.price_line),
        (_("flagged for review"), hold.flag or "—"),
    ]


@admin.register(LedgerLine)
class LedgerLineAdmin(ReadOnlyAdmin):
    actions_list = ("adjust_team",)
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

    @action(description=_("Adjust a team…"), url_path="adjust-team", permissions=["act"])
    def adjust_team(self, request: HttpRequest) -> HttpResponse:
        """Charge a team beside its holds, or give it something back. It counts against no limit."""
        form = AdjustTeamForm(request.POST or None)
        if form.is_valid():
            try:
                line = services.adjust(**form.asked(), by=staff_of(request), address=address_of(request), now=timezone.now())
            except Refusal as refusal:
                refuse(form, refusal)
            else:
                self.message_user(request, _("It was adjusted."))
                return redirect("admin:billing_ledgerline_change", line.pk)
        return page_of(self, request, title=_("Adjust what a team was charged"), form=form)


@admin.register(SpendAlert)
class SpendAlertAdmin(ReadOnlyAdmin):
    """The thresholds that were reached, with the proof of their mails."""

    fields = ("period", "threshold_percent", "total_shown", "room_shown", "reached_at", "told_at", "recipients", "sent", "letters")
    list_display = ("period", "threshold_percent", "total_shown", "room_shown", "reached_at", "told_at", "recipients", "sent")
    list_filter = ("threshold_percent", ("told_at", admin.EmptyFieldListFilter), "period__limit__scope", "period__limit__team")
    list_select_related = ("period__limit",)
    search_fields = ("period__limit__name", "period__limit__team__name", "period__limit__team__slug")
    date_hierarchy = "reached_at"

    total_shown = money("total", _("used and held then"))
    room_shown = money("room", _("limit then"))

    def get_queryset(self, request):
        return super().get_queryset(request).annotate(sent_count=Count("letters__sent_at"))

    @admin.display(description=_("mails sent"))
    def sent(self, alert):
        return alert.sent_count


class TopUpForm(forms.ModelForm):
    """A top-up of one of the platform's limits."""

    limit = forms.ModelChoiceField(
        label=_("limit of the platform"), queryset=SpendLimit.objects.filter(scope=LimitScope.PLATFORM), widget=UnfoldAdminSelectWidget
    )
    amount_usd = forms.DecimalField(
        label=_("Amount (USD)"),
        min_value=as_number(1),
        max_value=as_number(top_ups.MOST),
        decimal_places=6,
        widget=UnfoldAdminDecimalFieldWidget,
        help_text=_("For the present period alone. The limit itself stays as it is."),
    )

    class Meta:
        model = TopUp
        fields = ("reason", "expires_at")

    def save(self, commit: bool = True) -> TopUp:
        """Only the form's part: the service makes the row."""
        return self.instance

    def save_m2m(self) -> None:
        """There is nothing else to save."""


@admin.register(TopUp)
class TopUpAdmin(ReadOnlyAdmin):
    """All top-ups. Superusers make those of the platform's limits; a team's own are made by its owners."""

    fields = ("period", "amount_shown", "reason", "made_by", "created_at", "expires_at", "taken_out_at")
    list_display = ("period", "amount_shown", "reason", "made_by", "created_at", "expires_at", "taken_out_at")
    list_filter = ("period__limit__scope", "period__limit__team")
    list_select_related = ("period__limit", "made_by")
    search_fields = ("reason", "period__limit__team__name", "period__limit__team__slug")
    date_hierarchy = "created_at"

    amount_shown = money("amount", _("amount"))

    def has_add_permission(self, request):
        return self.has_act_permission(request)

    def get_form(self, request, obj=None, change=False, **kwargs):
        if obj is None:
            kwargs |= {"form": TopUpForm, "fields": ("limit", "amount_usd", "reason", "expires_at")}
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request, obj=None):
        return self.fields if obj else ("limit", "amount_usd", "reason", "expires_at")

    def add_view(self, request, form_url="", extra_context=None):
        try:
            return super().add_view(request, form_url, extra_context)
        except Refusal as refusal:
            self.message_user(request, in_words(refusal), messages.ERROR)
            return redirect(request.path)

    def save_model(self, request, obj, form, change):
        asked = form.cleaned_data
        made = top_ups.add(
            Staff(user=request.user, address=address_of(request)),
            asked["limit"],
            amount=int(asked["amount_usd"] * MICROS_PER_USD),
            reason=asked["reason"],
            expires_at=asked["expires_at"],
            now=timezone.now(),
        )
        obj.pk = made.pk
        obj.refresh_from_db()
