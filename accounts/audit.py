"""The audit trail: who changed what, in one hash chain for each team and one for the platform."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from accounts.callers import Caller
from accounts.chain import BEGINNING, link
from accounts.models import AuditHead, AuditLine, Team, User

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
        AuditHead.objects.get_or_create(team=team, defaults={"hash": BEGINNING})
        head = AuditHead.objects.select_for_update(no_key=True).get(team=team)
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


@dataclass(frozen=True)
class Verification:
    """What a walk along a chain found; `broken` names a line (its id, 0 if there is none left) and what is wrong there."""

    valid: bool
    checked: int
    broken: list[tuple[int, str]]


def verify(team: Team | None) -> Verification:
    """Walk along a chain from its beginning to its end and name every place where it was tampered with. Writers go on meanwhile."""
    walk = _Walk()
    lines = AuditLine.objects.filter(team=team).order_by("sequence")
    for line in lines.iterator():
        walk.step(line)
    head = AuditHead.objects.filter(team=team).first() or AuditHead(team=team, hash=BEGINNING)
    # Lines that were written while we walked; the head was read after them and knows them.
    for line in lines.filter(sequence__gt=walk.sequence, sequence__lte=head.sequence).iterator():
        walk.step(line)
    if walk.sequence < head.sequence:
        walk.broken.append((walk.id, f"The chain ends here, and {head.sequence - walk.sequence} lines after it are missing."))
    elif walk.sequence > head.sequence:
        walk.broken.append((walk.id, "The line stands behind the end of the chain."))
    elif walk.hash != head.hash:
        walk.broken.append((walk.id, "The line is not the one that the end of the chain was made of."))
    return Verification(valid=not walk.broken, checked=walk.checked, broken=walk.broken)


@dataclass
class _Walk:
    """Where a walk along a chain stands."""

    id: int = 0
    sequence: int = 0
    hash: str = BEGINNING
    checked: int = 0
    broken: list[tuple[int, str]] = field(default_factory=list)

    def step(self, line: AuditLine) -> None:
        """Check one line against itself and the one before; a line that is wrong is believed for the next, so that only breaks show."""
        if line.sequence != self.sequence + 1:
            self.broken.append((line.pk, f"Lines {self.sequence + 1} to {line.sequence - 1} are missing before this one."))
        elif line.previous_hash != self.hash:
            self.broken.append((line.pk, "The line does not follow from the one before it."))
        elif line.pk < self.id:
            self.broken.append((line.pk, "The line stands in another's place."))
        if line.hash != link(line.previous_hash, line.chained_fields()):
            self.broken.append((line.pk, "The line was changed: its hash does not fit what it says."))
        self.id, self.sequence, self.hash = line.pk, line.sequence, line.hash
        self.checked += 1


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
