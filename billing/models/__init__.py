"""Prices, spend limits, holds and the ledger. Knows teams, not jobs. Amounts are whole micro-dollars."""

from billing.models.holds import Hold, HoldQuerySet
from billing.models.invoices import Invoice, InvoiceLine
from billing.models.ledger import LedgerHead, LedgerLine, LineKind
from billing.models.limits import (
    LimitAction,
    LimitPeriod,
    LimitPeriodKind,
    LimitPeriodQuerySet,
    LimitScope,
    SpendAlert,
    SpendLimit,
    SpendLimitQuerySet,
    TopUp,
    TopUpQuerySet,
)
from billing.models.prices import BilledTime, PriceLine, PriceLineQuerySet

__all__ = [
    "BilledTime",
    "Hold",
    "HoldQuerySet",
    "Invoice",
    "InvoiceLine",
    "LedgerHead",
    "LedgerLine",
    "LimitAction",
    "LimitPeriod",
    "LimitPeriodKind",
    "LimitPeriodQuerySet",
    "LimitScope",
    "LineKind",
    "PriceLine",
    "PriceLineQuerySet",
    "SpendAlert",
    "SpendLimit",
    "SpendLimitQuerySet",
    "TopUp",
    "TopUpQuerySet",
]
