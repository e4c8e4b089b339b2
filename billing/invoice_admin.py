"""The administration of the provider's invoices: taking one in, and what differs between it and the ledger."""

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action

from accounts import exports, streaming
from accounts.admin.base import ReadOnlyAdmin
from accounts.callers import address_of
from accounts.errors import Refusal
from accounts.forms import refuse
from billing import invoices, reconciling
from billing.columns import money, page_of, row_or_404, staff_of
from billing.models import Hold, Invoice, InvoiceLine
from billing.staff_forms import ImportForm


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyAdmin):
    """Invoices as they were imported, each beside the ledger."""

    fields = ("name", "account", "first_on", "last_on", "total_shown", "sha256", "imported_at", "imported_by")
    list_display = ("name", "account", "first_on", "last_on", "total_shown", "imported_at", "imported_by")
    list_filter = ("account",)
    list_select_related = ("imported_by",)
    search_fields = ("name", "account", "sha256")
    date_hierarchy = "imported_at"
    actions_list = ("import_invoice",)
    actions_detail = ("report", "report_csv")

    total_shown = money("total", _("total"))

    @action(description=_("Import an invoice…"), url_path="import", permissions=["act"])
    def import_invoice(self, request: HttpRequest) -> HttpResponse:
        """Take a file in, whole or not at all, and show what differs."""
        form = ImportForm(request.POST or None, request.FILES or None)
        if form.is_valid():
            try:
                invoice = invoices.import_invoice(**form.asked(), by=staff_of(request), address=address_of(request))
            except Refusal as refusal:
                refuse(form, refusal)
            else:
                self.message_user(request, _("The invoice was imported."))
                return redirect("admin:billing_invoice_report", invoice.pk)
        return page_of(self, request, title=_("Import an invoice"), form=form)

    @action(description=_("Compare with the ledger"), url_path="report")
    def report(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What is the same and what differs. Sent with a `hold`, it makes that one cost what the invoice says."""
        invoice = row_or_404(self, request, object_id)
        if request.method == "POST":
            if not self.has_act_permission(request):
                raise PermissionDenied
            self._adjust(request, invoice)
            return redirect("admin:billing_invoice_report", invoice.pk)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Invoice %(invoice)s and the ledger") % {"invoice": invoice},
            "report": reconciling.report(invoice),
            "may_adjust": self.has_act_permission(request),
        }
        return TemplateResponse(request, "billing/admin_report.html", context)

    @action(description=_("Download the comparison as CSV"), url_path="report-csv")
    def report_csv(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Every run of the invoice and of the ledger in its time, piece by piece."""
        invoice = row_or_404(self, request, object_id)
        name = f"invoice-{invoice.name}-report.csv"
        return streaming.download(request, reconciling.as_csv(invoice), name=name, content_type=exports.CONTENT_TYPES["csv"])

    def _adjust(self, request: HttpRequest, invoice: Invoice) -> None:
        asked = request.POST.get("hold", "")
        hold = get_object_or_404(Hold, pk=int(asked) if asked.isdecimal() else 0)
        try:
            reconciling.adjust(invoice, hold, by=staff_of(request), address=address_of(request), now=timezone.now())
        except Refusal as refusal:
            self.message_user(request, refusal.detail, messages.ERROR)
        else:
            self.message_user(request, _("%(hold)s was adjusted.") % {"hold": hold.reference})


@admin.register(InvoiceLine)
class InvoiceLineAdmin(ReadOnlyAdmin):
    """The rows of invoices, to find one run by."""

    fields = ("invoice", "row", "provider_reference", "billed_on", "hardware", "seconds", "amount_shown", "repeats")
    list_display = ("provider_reference", "invoice", "row", "billed_on", "hardware", "seconds", "amount_shown", "repeats")
    list_filter = ("invoice",)
    list_select_related = ("invoice", "repeats")
    search_fields = ("provider_reference", "hardware", "invoice__name", "invoice__account")
    date_hierarchy = "billed_on"

    amount_shown = money("amount", _("amount"))
