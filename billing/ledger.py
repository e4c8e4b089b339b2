"""The ledger: adding lines to a team's chain, verifying the chain, and the sums over it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from structlog.contextvars import get_contextvars

from accounts import exports
from accounts.chain import BEGINNING, START, Point, Verification, Walk, link
from accounts.models import Team
from billing.exports import LEDGER, ON_CHARGED, ON_HELD
from billing.models import Hold, LedgerHead, LedgerLine, LineKind, PriceLine


@dataclass(frozen=True)
class Totals:
    """Micro-dollars, without rehearsals."""

    held: int
    charged: int


def append(
    *,
    team: Team,
    kind: LineKind,
    amount: int,
    at: datetime,
    hold: Hold | None = None,
    price_line: PriceLine | None = None,
    reference: str = "",
    is_rehearsal: bool = False,
    reason: str = "",
    made_by_id: int | None = None,
) -> LedgerLine:
    """Add a line (micro-dollars) to the team's chain and running totals, in the caller's transaction.

    The team's head stays locked until that transaction ends, so this is the last lock that it takes.
    """
    with transaction.atomic():
        head = _locked_head(team)
        line = LedgerLine(
            team=team,
            sequence=head.sequence + 1,
            # As the database returns it: the hash covers the text.
            at=at.astimezone(UTC),
            kind=kind,
            amount=amount,
            hold=hold,
            price_line=price_line,
            reference=reference,
            is_rehearsal=is_rehearsal,
            reason=reason,
            made_by_id=made_by_id,
            correlation_id=str(get_contextvars().get("correlation_id", ""))[:64],
            previous_hash=head.hash,
        )
        line.hash = link(line.previous_hash, line.chained_fields())
        line.save(force_insert=True)
        counted = 0 if is_rehearsal else amount
        LedgerHead.objects.filter(pk=head.pk).update(
            sequence=line.sequence,
            hash=line.hash,
            held=F("held") + ON_HELD.get(kind, 0) * counted,
            charged=F("charged") + ON_CHARGED.get(kind, 0) * counted,
        )
    return line


def _locked_head(team: Team) -> LedgerHead:
    heads = LedgerHead.objects.select_for_update(of=("self",), no_key=True).filter(team=team)
    head = heads.first()
    if head is None:
        # By key, or the team would remember the head as it is before its first line.
        LedgerHead.objects.bulk_create([LedgerHead(team_id=team.pk, hash=BEGINNING)], ignore_conflicts=True)
        head = heads.get()
    return head


def totals(team: Team) -> Totals:
    """The sums over the team's lines, to compare the stored ones with."""
    return totals_of(LedgerLine.objects.filter(team=team))


def totals_of(lines: QuerySet[LedgerLine]) -> Totals:
    """What some lines do to the totals."""
    kinds = {kind: Coalesce(Sum("amount", filter=Q(kind=kind)), 0) for kind in LineKind.values}
    sums = lines.filter(is_rehearsal=False).order_by().aggregate(**kinds)
    return Totals(
        held=sum(sign * int(sums[kind]) for kind, sign in ON_HELD.items()),
        charged=sum(sign * int(sums[kind]) for kind, sign in ON_CHARGED.items()),
    )


@dataclass(frozen=True)
class Kept:
    """A team's chain as the database keeps it, as of one moment: where it ends, and its lines one by one."""

    ends: Point
    lines: Iterator[LedgerLine]


def kept(team: Team) -> Kept:
    """The team's whole chain in its order, in constant memory. Writers go on meanwhile."""
    # The end of the chain is read by the same statement as the lines, hence as of the same moment.
    end = {"end": F("team__ledger_head__sequence"), "end_hash": F("team__ledger_head__hash")}
    lines = LedgerLine.objects.filter(team=team).annotate(**end).order_by("sequence").iterator(chunk_size=2000)
    first = next(lines, None)
    if first is not None:
        ends = Point(first.end or 0, first.end_hash or BEGINNING)  # type: ignore[attr-defined]  # annotated
        return Kept(ends=ends, lines=chain([first], lines))
    # Not begun, or emptied; asked once more in one statement, since a first line may have been written meanwhile.
    head = LedgerHead.objects.filter(team=team, team__ledger_lines=None).first()
    return Kept(ends=Point(head.sequence, head.hash) if head else START, lines=iter(()))


def verify(team: Team) -> Verification:
    """Walk the team's chain and name (by its number) every line that was changed, removed, moved or put in. Writers go on meanwhile."""
    whole = kept(team)
    walk = Walk()
    for line in whole.lines:
        walk.step(line.as_link())
    return walk.end(whole.ends)


def records(team: Team) -> Iterator[exports.Record]:
    """The whole ledger as an export tells it, in constant memory."""
    whole = kept(team)
    yield exports.begin_record(team.slug, START, LEDGER)
    for line in whole.lines:
        yield exports.line_record(line.as_link(), LEDGER)
    yield exports.end_record(whole.ends, LEDGER)


def unbalanced_holds(team: Team) -> list[tuple[int, str]]:
    """The holds whose lines do not add up: amount = hold line, and once settled amount = charge + release."""
    kinds = {f"{kind}_lines": Coalesce(Sum("lines__amount", filter=Q(lines__kind=kind)), 0) for kind in LineKind.values}
    problems = []
    for hold in Hold.objects.filter(team=team).annotate(**kinds).order_by("pk").iterator(chunk_size=2000):
        held, charged, released, adjusted = (
            getattr(hold, f"{kind}_lines") for kind in (LineKind.HOLD, LineKind.CHARGE, LineKind.RELEASE, LineKind.ADJUST)
        )
        if held != hold.amount:
            problems.append((hold.pk, f"{hold.reference}: {hold.amount} are held, its line says {held}."))
        elif hold.settled_at is None and (charged, released) != (0, 0):
            problems.append((hold.pk, f"{hold.reference}: it is open, but {charged} were charged and {released} released."))
        elif hold.settled_at is not None and (charged + released, charged + adjusted) != (hold.amount, hold.charge):
            lines = f"lines charge {charged}, release {released}, adjust {adjusted}"
            problems.append((hold.pk, f"{hold.reference}: {hold.amount} held, {hold.charge} charged, but its {lines}."))
    return problems
