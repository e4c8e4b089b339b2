"""A chain in a file, JSONL or CSV: writing it, reading it, and checking it away from the database.

A file has a record that begins it, with the point where its lines begin (behind a retention cut that is the last line
removed), a record for each line with everything that its hash covers, and one that ends it, with the point where the chain
ended when it was written. Nothing here knows Django: `check(read(file, "jsonl"))` is all that a script needs.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from accounts.chain import START, Link, Point, Verification, Walk

Record = dict[str, Any]

CONTENT_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
# What spreadsheets would take for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
APOSTROPHE = "'"


class NotAnExport(ValueError):
    """The file is none of ours, or was damaged so that it cannot be read; says where."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the lines of one kind of chain stand in a file.

    `fields` is what the hash covers, in the order of the columns. `mark` names the column that says whether a record is
    the beginning, a line or the end. With `has_ids` a line has the database's handle for it, which no hash covers; without,
    its number in the chain stands for it.
    """

    of: str
    format: str
    fields: tuple[str, ...]
    mark: str = "kind"
    has_ids: bool = False
    numbers: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.mark, "chain", "format", *(("id",) if self.has_ids else ()), *self.fields, "previous_hash", "hash")

    @property
    def begin(self) -> tuple[str, ...]:
        return ("chain", "format", "sequence", "hash")

    @property
    def around(self) -> frozenset[str]:
        """What a line's record has beside the fields that its hash covers."""
        return frozenset({self.mark, "previous_hash", "hash", *({"id"} if self.has_ids else ())})


AUDIT = Layout(
    of="an audit trail",
    format="tunehouse-audit-1",
    fields=(
        *("team", "sequence", "at", "event_type", "actor_id", "actor", "token_prefix", "address", "target_type", "target_id"),
        *("action", "before", "after", "reason", "correlation_id"),
    ),
    has_ids=True,
    numbers=frozenset({"id", "team", "sequence", "actor_id"}),
    objects=frozenset({"before", "after"}),
)


def begin_record(chain: str, begins: Point, layout: Layout = AUDIT) -> Record:
    return {layout.mark: "begin", "chain": chain, "format": layout.format, "sequence": begins.sequence, "hash": begins.hash}


def line_record(line: Link, layout: Layout = AUDIT) -> Record:
    handle = {"id": line.id} if layout.has_ids else {}
    return {layout.mark: "line", **handle, **line.fields, "previous_hash": line.previous_hash, "hash": line.hash}


def end_record(ends: Point, layout: Layout = AUDIT) -> Record:
    return {layout.mark: "end", "sequence": ends.sequence, "hash": ends.hash}


def write(records: Iterable[Record], form: str, layout: Layout = AUDIT) -> Iterator[bytes]:
    """The records as a file, piece by piece; `form` is jsonl or csv."""
    if form == "csv":
        yield csv_row(layout.columns)
    for record in records:
        yield row_of(record, layout) if form == "csv" else json.dumps(record, ensure_ascii=False).encode() + b"\n"


def row_of(record: Record, layout: Layout = AUDIT) -> bytes:
    """A record as a row of CSV. An apostrophe before what a spreadsheet would take for a formula is taken away on reading."""
    return csv_row(_cell(name, record.get(name), layout) for name in layout.columns)


def read(file: Iterable[str], form: str, layout: Layout = AUDIT) -> Iterator[Record]:
    """The records of a file (opened as text with newline=""), one by one. Raises NotAnExport."""
    return _read_csv(file, layout) if form == "csv" else _read_jsonl(file)


def check(records: Iterable[Record], layout: Layout = AUDIT) -> Verification:
    """Walk along the lines of an export and name every place where it was tampered with. Raises NotAnExport."""
    walk, ends, is_begun = Walk(), None, False
    for number, record in enumerate(records, start=1):
        kind = record.get(layout.mark)
        if ends is not None:
            raise NotAnExport(f"Record {number} stands behind the end.")
        if not is_begun and kind != "begin":
            raise NotAnExport(f"The file does not begin as an export of {layout.of} does.")
        if kind == "begin" and not is_begun:
            begins = _beginning(record, number, layout)
            walk, is_begun = Walk(begins, is_cut=begins != START), True
        elif kind == "line":
            walk.step(_link(record, number, layout))
        elif kind == "end":
            ends = _point(record, number)
            if record.keys() != {layout.mark, "sequence", "hash"}:
                raise NotAnExport(f"Record {number} has another name for something than an export has.")
        else:
            raise NotAnExport(f"Record {number} is of no kind that an export has.")
    if not is_begun:
        raise NotAnExport("The file is empty.")
    found = walk.end(ends)
    if ends is not None:
        return found
    missing = (found.last_id or 0, "The file ends here, without the record that says where the chain ended.")
    return Verification(
        valid=False, checked=found.checked, broken=[*found.broken, missing], first_id=found.first_id, last_id=found.last_id, ends=found.ends
    )


def _beginning(record: Record, number: int, layout: Layout) -> Point:
    if record.get("format") != layout.format:
        raise NotAnExport("The file was written in another form than this version reads.")
    begins = _point(record, number)
    if record.keys() != {layout.mark, *layout.begin}:
        raise NotAnExport(f"Record {number} has another name for something than an export has.")
    return begins


def _read_jsonl(file: Iterable[str]) -> Iterator[Record]:
    for number, text in enumerate(file, start=1):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NotAnExport(f"Line {number} of the file is not JSON.") from error
        if not isinstance(record, dict):
            raise NotAnExport(f"Line {number} of the file is no JSON object.")
        yield record


def _read_csv(file: Iterable[str], layout: Layout) -> Iterator[Record]:
    # A line may say more in one field than the reader expects of anybody.
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(file, strict=True)
    try:
        if tuple(next(rows, ())) != layout.columns:
            raise NotAnExport("The first row does not name the columns of an export.")
        for cells in rows:
            yield _record(cells, rows.line_num, layout)
    except csv.Error as error:
        raise NotAnExport(f"Line {rows.line_num} of the file is not CSV.") from error


def _record(cells: list[str], number: int, layout: Layout) -> Record:
    columns = layout.columns
    if len(cells) != len(columns):
        raise NotAnExport(f"Line {number} of the file has {len(cells)} columns instead of {len(columns)}.")
    kind = cells[0]
    names = {"begin": layout.begin, "end": ("sequence", "hash")}.get(kind, columns[3:])
    given = dict(zip(columns, cells, strict=True))
    if unasked := [name for name in columns[1:] if name not in names and given[name]]:
        raise NotAnExport(f"Line {number} of the file says something under {unasked[0]} that is never said there.")
    try:
        return {layout.mark: kind, **{name: _value(name, given[name], layout) for name in names}}
    except (ValueError, RecursionError) as error:
        raise NotAnExport(f"Line {number} of the file has a field that cannot be read.") from error


def _cell(name: str, value: Any, layout: Layout) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False) if name in layout.objects | layout.flags else str(value)
    return APOSTROPHE + text if name not in layout.numbers and text.startswith((*FORMULA, APOSTROPHE)) else text


def _value(name: str, text: str, layout: Layout) -> Any:
    if name in layout.numbers:
        return int(text) if text else None
    if name in layout.flags:
        return {"true": True, "false": False}.get(text)
    text = text.removeprefix(APOSTROPHE)
    return json.loads(text) if name in layout.objects else text


def harmless(text: str) -> str:
    """Text as a cell that no spreadsheet takes for a formula, with an apostrophe before it where it must be."""
    return APOSTROPHE + text if text.startswith(FORMULA) else text


def csv_row(cells: Iterable[object]) -> bytes:
    """One row of CSV, as it stands in a file."""
    row = io.StringIO()
    csv.writer(row).writerow(cells)
    return row.getvalue().encode()


def _point(record: Record, number: int) -> Point:
    return Point(sequence=_typed(record, "sequence", int, number), hash=_typed(record, "hash", str, number))


def _link(record: Record, number: int, layout: Layout) -> Link:
    sequence = _typed(record, "sequence", int, number)
    return Link(
        id=_typed(record, "id", int, number) if layout.has_ids else sequence,
        sequence=sequence,
        previous_hash=_typed(record, "previous_hash", str, number),
        hash=_typed(record, "hash", str, number),
        # All of them: a field too many is a change like any other.
        fields={name: value for name, value in record.items() if name not in layout.around},
    )


def _typed(record: Record, name: str, kind: Callable[..., Any], number: int) -> Any:
    value = record.get(name)
    if type(value) is not kind:
        raise NotAnExport(f"Record {number} has no {name} that an export has.")
    return value
