"""Stored totals against the sums over the ledger's lines: they are kept for speed, the lines are the truth."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from billing.models import LedgerHead, LimitPeriod, LineKind


@dataclass(frozen=True)
class Difference:
    """A stored total (micro-dollars) that is not the sum over its lines."""

    of: str
    field: str
    stored: int
    summed: int

    def __str__(self) -> str:
        return f"{self.of}: {self.field} is stored as {self.stored}, the lines sum to {self.summed} ({self.stored - self.summed:+})"


def differences() -> list[Difference]:
    """All stored totals that differ. Each row is read with its lines in one statement, so that writers may go on."""
    return [
        *(difference for head in _heads() for difference in _compare(head, f"Team {head.team.slug}", "held", "charged")),
        *(
            difference
            for period in _periods()
            for difference in _compare(period, f"Limit period {period.pk} ({period})", "held", "settled")
        ),
    ]


def rebuild() -> list[Difference]:
    """Put the sums in place of the stored totals that differ, and say what was wrong. Nobody settles or holds meanwhile."""
    with transaction.atomic():
        # All locks in everybody's order: periods by key, then heads.
        list(LimitPeriod.objects.locked().values_list("pk"))
        list(LedgerHead.objects.order_by("pk").select_for_update(of=("self",), no_key=True).values_list("pk"))
        found = differences()
        for period in _periods():
            period.held, period.settled = period.summed_held, period.summed_settled  # type: ignore[attr-defined]
            period.overrun = period.excess
            period.save(update_fields=["held", "settled", "overrun"])
        for head in _heads():
            head.held, head.charged = head.summed_held, head.summed_charged  # type: ignore[attr-defined]
            head.save(update_fields=["held", "charged"])
    return found


def _compare(row: LedgerHead | LimitPeriod, name: str, *fields: str) -> Iterator[Difference]:
    for field in fields:
        stored, summed = getattr(row, field), int(getattr(row, f"summed_{field}"))
        if stored != summed:
            yield Difference(of=name, field=field, stored=stored, summed=summed)


def _sum(lines: str, *kinds: LineKind) -> Coalesce:
    counted = Q(**{f"{lines}__kind__in": kinds, f"{lines}__is_rehearsal": False})
    return Coalesce(Sum(f"{lines}__amount", filter=counted), 0)


def _heads() -> QuerySet[LedgerHead]:
    lines = "team__ledger_lines"
    return (
        LedgerHead.objects.select_related("team")
        .annotate(
            summed_held=_sum(lines, LineKind.HOLD) - _sum(lines, LineKind.CHARGE, LineKind.RELEASE),
            summed_charged=_sum(lines, LineKind.CHARGE, LineKind.ADJUST),
        )
        .order_by("pk")
    )


def _periods() -> QuerySet[LimitPeriod]:
    lines = "holds__lines"
    return (
        LimitPeriod.objects.select_related("limit")
        .annotate(
            summed_held=_sum(lines, LineKind.HOLD) - _sum(lines, LineKind.CHARGE, LineKind.RELEASE),
            summed_settled=_sum(lines, LineKind.CHARGE, LineKind.ADJUST),
        )
        .order_by("pk")
    )
