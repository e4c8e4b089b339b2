"""What the provider says that it charged: invoices as they were imported. Amounts are whole micro-dollars."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User


class Invoice(models.Model):
    """One file of the provider's, imported whole and never changed."""

    account = models.CharField(_("account"), max_length=200, help_text=_("The account at the provider, as its tokens name it."))
    name = models.CharField(_("name"), max_length=100, help_text=_("How adjustments refer to it, for example 2026-11."))
    sha256 = models.CharField("SHA-256", max_length=64, unique=True)
    first_on = models.DateField(_("from"))
    last_on = models.DateField(_("to"), help_text=_("The last day, included."))
    total = models.BigIntegerField(_("total"))
    imported_at = models.DateTimeField(_("imported at"), default=timezone.now, editable=False)
    imported_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+", verbose_name=_("imported by"))

    class Meta:
        verbose_name = _("invoice")
        verbose_name_plural = _("invoices")
        ordering = ["-imported_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["account", "name"], name="one_invoice_per_account_and_name")]

    def __str__(self) -> str:
        return f"{self.name} ({self.account})"


class InvoiceLineQuerySet(models.QuerySet["InvoiceLine"]):
    def counted(self) -> "InvoiceLineQuerySet":
        """Without those that an invoice before has as well."""
        return self.filter(repeats=None)


class InvoiceLine(models.Model):
    """One row of an invoice. A credit is negative.

    A row that is the same in everything as one before it in its file is `nth` 2, 3 … of it and counts again: the provider
    asks for it again. One that an earlier invoice of the account has already `repeats` that one, and counts no more.
    """

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="lines")
    row = models.PositiveIntegerField(_("line"), help_text=_("Its number in the file."))
    provider_reference = models.CharField(_("provider's name"), max_length=64)
    billed_on = models.DateField(_("day"))
    hardware = models.CharField(_("hardware"), max_length=100, blank=True)
    seconds = models.DecimalField(_("seconds"), max_digits=16, decimal_places=6, null=True)
    amount = models.BigIntegerField(_("amount"))
    digest = models.CharField(max_length=64, editable=False)
    nth = models.PositiveIntegerField(default=1, editable=False)
    repeats = models.ForeignKey("self", models.PROTECT, null=True, related_name="+", verbose_name=_("stands on an invoice before"))

    objects = InvoiceLineQuerySet.as_manager()

    class Meta:
        verbose_name = _("invoice line")
        verbose_name_plural = _("invoice lines")
        ordering = ["invoice", "row"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "row"], name="one_invoice_line_per_row"),
            models.UniqueConstraint(fields=["digest", "nth"], condition=Q(repeats=None), name="an_invoice_line_counts_once"),
        ]
        indexes = [models.Index(fields=["provider_reference"], name="invoice_lines_by_reference")]

    def __str__(self) -> str:
        return f"{self.provider_reference}: {self.amount / 1_000_000:.6f} USD"
