"""A team's ledger in a file, and checking it away from the database: the chain, the sums, and that each hold adds up.

Nothing here knows Django: `check(exports.read(file, "jsonl", LEDGER))` is all that a script needs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from accounts import exports
from accounts.chain import Verification
from accounts.exports import Layout, NotAnExport, Record

LEDGER = Layout(
    of="a ledger",
    format="tunehouse-ledger-1",
    fields=(
        *("team", "sequence", "at", "kind", "amount", "hold", "price_line", "reference", "is_rehearsal"),
        *("reason", "made_by_id", "correlation_id"),
    ),
    mark="record",
    numbers=frozenset({"team", "sequence", "amount", "hold", "price_line", "made_by_id"}),
    flags=frozenset({"is_rehearsal"}),
)

# What a line does to the running totals.
ON_HELD = {"hold": 1, "charge": -1, "release": -1}
ON_CHARGED = {"charge": 1, "adjust": 1}


@dataclass
class Sums:
    """What lines add up to, in micro-dollars without rehearsals, and the holds that do not (hold = charge + release)."""

    held: int = 0
    charged: int = 0
    _open: dict[int, dict[str, int]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Raises NotAnExport for a line without whole amount and kind."""
        kind, amount, hold = record.get("kind"), record.get("amount"), record.get("hold")
        if not isinstance(kind, str) or type(amount) is not int or not isinstance(hold, int | None):
            raise NotAnExport(f"Line {record.get('sequence')} of the ledger has no kind, amount and hold that a line has.")
        if record.get("is_rehearsal") is not True:
            self.held += ON_HELD.get(kind, 0) * amount
            self.charged += ON_CHARGED.get(kind, 0) * amount
        if hold is not None and kind in ON_HELD:
            self._balance(hold, kind, amount)

    def _balance(self, hold: int, kind: str, amount: int) -> None:
        """Keep what is not settled yet, so that a long ledger takes no more memory than its open holds."""
        lines = self._open.setdefault(hold, {})
        lines[kind] = lines.get(kind, 0) + amount
        if lines.keys() == ON_HELD.keys() and lines["hold"] == lines["charge"] + lines["release"]:
            del self._open[hold]

    def unbalanced(self) -> list[tuple[int, str]]:
        """The holds (by number) of which more than the hold is told, and that do not add up."""
        return [
            (hold, f"{lines.get('hold', 0)} held, {lines.get('charge', 0)} charged, {lines.get('release', 0)} released.")
            for hold, lines in self._open.items()
            if lines.keys() != {"hold"}
        ]


@dataclass(frozen=True)
class Proof:
    """What a file proves: the chain, and what its lines add up to (micro-dollars)."""

    verification: Verification
    held: int
    charged: int
    unbalanced: list[tuple[int, str]]

    @property
    def valid(self) -> bool:
        return self.verification.valid and not self.unbalanced


def check(records: Iterable[Record]) -> Proof:
    """Walk along the lines of a ledger's export, and add them up. Raises NotAnExport."""
    sums = Sums()
    found = exports.check(_adding(records, sums), LEDGER)
    return Proof(verification=found, held=sums.held, charged=sums.charged, unbalanced=sums.unbalanced())


def _adding(records: Iterable[Record], sums: Sums) -> Iterator[Record]:
    for record in records:
        if record.get(LEDGER.mark) == "line":
            sums.add(record)
        yield record
