"""The audit trail: who changed what, in one hash chain for each team and one for the platform."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, dropwhile, takewhile
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Exists, F, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.callers import Caller
from accounts.chain import BEGINNING, START, Point, Verification, Walk, link
from accounts.errors import NotFound
from accounts.models import AuditAnchor, AuditHead, AuditLine, Team, User

SECRET_FIELDS = re.compile(r"secret|passw|passphrase|(token|key|cookie|authorization)s?$", re.IGNORECASE)
MASK = "***"


def record(
    *,
    team: Team | None,
    event_type: str,
    action: str,
    caller: Caller | None = None,
    by: User | None = None,
    target_type: str = "",
    target_id: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
    address: str = "",
) -> AuditLine:
    """Append a line to the team's chain (`team` None: the platform's), in the transaction of what it tells of.

    Call it last: it locks the end of the chain until that transaction is over, ahead of nothing but the ledger's.
    The actor is the caller's person, or `by` who came from `address`; with neither the system itself. In `before` and
    `after` what stands under a name like `token`, `secret`, `password` or `key` is masked, which is a second wall:
    callers pass no secrets.
    """
    actor = caller.user if caller else by
    with transaction.atomic():
        head = lock(team)
        line = AuditLine(
            team=team,
            sequence=head.sequence + 1,
            # Read under the lock, so that the times of a chain run in its order.
            at=timezone.now(),
            event_type=_cut(event_type, 50),
            actor_id=actor.pk if actor else None,
            actor=_cut(actor.username if actor else "", 150),
            token_prefix=caller.token.key_prefix if caller and caller.token else "",
            address=caller.address if caller else address,
            target_type=_cut(target_type, 50),
            target_id=_cut(target_id, 100),
            action=_cut(action, 300),
            before=_plain(before or {}),
            after=_plain(after or {}),
            reason=_cut(reason, 500),
            correlation_id=_cut(structlog.contextvars.get_contextvars().get("correlation_id", ""), 64),
            previous_hash=head.hash,
        )
        line.hash = link(head.hash, line.chained_fields())
        line.save(force_insert=True)
        AuditHead.objects.filter(pk=head.pk).update(sequence=line.sequence, hash=line.hash)
    return line


def lock(team: Team | None) -> AuditHead:
    """The end of the chain, locked until the caller's transaction is over; begun where there was none."""
    AuditHead.objects.get_or_create(team=team, defaults={"hash": BEGINNING})
    return AuditHead.objects.select_for_update(no_key=True).get(team=team)


@dataclass(frozen=True)
class Kept:
    """A chain as the database keeps it, as of one moment: where it begins and ends, and its lines one by one."""

    begins: Point
    # None for a part of the chain that does not reach its end.
    ends: Point | None
    is_cut: bool
    lines: Iterator[AuditLine]


def kept(team: Team | None) -> Kept:
    """The team's chain from the newest anchor to its end, in constant memory. Writers go on meanwhile."""
    anchor = AuditAnchor.objects.filter(team=team).order_by("-sequence")[:1]
    head = AuditHead.objects.filter(team=team)
    # Anchor and end are read by the same statement as the lines, hence as of the same moment.
    found = AuditLine.objects.filter(team=team).annotate(
        anchor_sequence=Coalesce(Subquery(anchor.values("sequence")), 0),
        anchor_hash=Coalesce(Subquery(anchor.values("hash")), Value(BEGINNING)),
        end_sequence=Coalesce(Subquery(head.values("sequence")), 0),
        end_hash=Coalesce(Subquery(head.values("hash")), Value(BEGINNING)),
    )
    lines = found.filter(sequence__gt=F("anchor_sequence")).order_by("sequence").iterator(chunk_size=2000)
    first = next(lines, None)
    if first is None:
        return _without_lines(team)
    begins = Point(first.anchor_sequence, first.anchor_hash)
    ends = Point(first.end_sequence, first.end_hash)
    return Kept(begins=begins, ends=ends, is_cut=begins != START, lines=chain([first], lines))


def _without_lines(team: Team | None) -> Kept:
    """A chain that has not begun, or that somebody emptied."""
    anchor = AuditAnchor.objects.filter(team=team).order_by("-sequence").first()
    begins = Point(anchor.sequence, anchor.hash) if anchor else START
    # Asked once more in one statement: a first line may have been written since.
    emptied = AuditHead.objects.filter(team=team).filter(~Exists(AuditLine.objects.filter(team=team, sequence__gt=begins.sequence)))
    head = emptied.first()
    return Kept(begins=begins, ends=Point(head.sequence, head.hash) if head else begins, is_cut=False, lines=iter(()))


def verify(team: Team | None, *, start_id: int | None = None, end_id: int | None = None) -> Verification:
    """Walk along a chain from its beginning to its end and name every place where it was tampered with. Writers go on meanwhile.

    From `start_id` on the hash before is taken as given; with `end_id` the walk ends there. Raises NotFound for a part
    that has no line.
    """
    part = _part(team, start_id, end_id) if start_id or end_id else kept(team)
    walk = Walk(part.begins, is_cut=part.is_cut)
    for line in part.lines:
        walk.step(line.as_link())
    return walk.end(part.ends)


def _part(team: Team | None, start_id: int | None, end_id: int | None) -> Kept:
    whole = kept(team)
    lines: Iterator[AuditLine] = dropwhile(lambda line: line.pk < (start_id or 0), whole.lines)
    if end_id is not None:
        lines = takewhile(lambda line: line.pk <= end_id, lines)
    first = next(lines, None)
    if first is None:
        raise NotFound("The audit trail has no line there.", field="start_id" if start_id else "end_id")
    return Kept(
        begins=Point(first.sequence - 1, first.previous_hash) if start_id else whole.begins,
        ends=whole.ends if end_id is None else None,
        is_cut=whole.is_cut and not start_id and end_id is None,
        lines=chain([first], lines),
    )


def _cut(text: object, length: int) -> str:
    """Text that fits its column: a line that is too long to say is better cut than lost."""
    return _clean(text)[:length]


def _plain(value: Any) -> Any:
    """The value as JSON that reads back exactly as written, without secrets. Numbers with a point become text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {_cut(name, 200): MASK if _is_secret(name, item) else _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return _clean(value)


def _clean(value: object) -> str:
    """Text that the database can keep: neither NUL nor half a character."""
    return str(value).replace("\x00", "").encode(errors="replace").decode()


def _is_secret(name: object, item: Any) -> bool:
    return bool(item) and not isinstance(item, bool) and bool(SECRET_FIELDS.search(str(name)))
