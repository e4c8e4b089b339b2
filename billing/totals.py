"""Stored totals against the sums over the ledger's lines and the top-ups: they are kept for speed, the lines are the truth."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from accounts import audit
from accounts.models import Team
from billing.models import LedgerHead, LimitPeriod, LineKind, TopUp


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
    return [*(difference for head in _heads() for difference in _compare_head(head)), *differences_of_limits()]


def differences_of_limits() -> list[Difference]:
    """The same of the limits' periods only."""
    return [
        difference
        for period in _periods()
        for difference in _compare(period, f"Limit period {period.pk} ({period})", "held", "settled", "topped_up")
    ]


def differences_of(team: Team) -> list[Difference]:
    """The same of one team's totals, without those of limits."""
    return [difference for head in _heads().filter(team=team) for difference in _compare_head(head)]


def rebuild() -> list[Difference]:
    """Put the sums in place of the stored totals that differ, and say what was wrong. Nobody settles or holds meanwhile."""
    with transaction.atomic():
        # All locks in everybody's order: periods by key, then heads.
        list(LimitPeriod.objects.locked().values_list("pk"))
        list(LedgerHead.objects.order_by("pk").select_for_update(of=("self",), no_key=True).values_list("pk"))
        found = differences()
        for period in _periods():
            period.held, period.settled = period.summed_held, period.summed_settled  # type: ignore[attr-defined]
            period.topped_up = period.summed_topped_up  # type: ignore[attr-defined]
            period.overrun = period.excess
            period.save(update_fields=["held", "settled", "topped_up", "overrun"])
        for head in _heads():
            head.held, head.charged = head.summed_held, head.summed_charged  # type: ignore[attr-defined]
            head.save(update_fields=["held", "charged"])
        if found:
            audit.record(
                team=None, event_type="totals.rebuilt", action=f"Put the sums over the ledger in place of {len(found)} stored totals",
                target_type="totals", before={f"{each.of}: {each.field}": each.stored for each in found},
                after={f"{each.of}: {each.field}": each.summed for each in found},
            )  # fmt: skip
    return found


def _compare_head(head: LedgerHead) -> Iterator[Difference]:
    return _compare(head, f"Team {head.team.slug}", "held", "charged")


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
    """With the sums over their lines, and over the top-ups that were not taken out."""
    lines = "holds__lines"
    top_ups = TopUp.objects.counted().filter(period=OuterRef("pk")).order_by().values("period").annotate(sum=Sum("amount")).values("sum")
    return (
        LimitPeriod.objects.select_related("limit")
        .annotate(
            summed_held=_sum(lines, LineKind.HOLD) - _sum(lines, LineKind.CHARGE, LineKind.RELEASE),
            summed_settled=_sum(lines, LineKind.CHARGE, LineKind.ADJUST),
            summed_topped_up=Coalesce(Subquery(top_ups), 0),
        )
        .order_by("pk")
    )
