"""Reading a provider's invoice: a CSV whose columns may have many names, and whose figures must be exact.

Replicate has no API for what it charged; its usage can be downloaded, and what the columns are called differs. Known names
are in SYNONYMS, and a caller can add others. Dates and amounts are read strictly: a guess would be somebody's money.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from accounts.errors import InvalidInput
from billing.prices import MICROS_PER_USD

# What a column may be called, the best name first, in small letters without signs.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "provider_reference": ("prediction id", "prediction", "run id", "id"),
    "amount": ("amount usd", "amount", "cost usd", "cost", "charge usd", "charge", "total usd", "total", "price usd", "price", "usd"),
    "billed_on": ("date", "day", "billed at", "billed on", "completed at", "created at", "started at", "timestamp", "time"),
    "seconds": (
        *("billed seconds", "seconds", "predict time seconds", "predict time", "duration seconds", "duration", "usage seconds"),
        *("gpu seconds", "usage", "quantity"),
    ),
    "hardware": ("hardware", "hardware sku", "sku", "gpu", "instance type", "model", "model name"),
}
REQUIRED = ("provider_reference", "amount", "billed_on")
NAMES = {"provider_reference": "prediction id", "billed_on": "date"}
LONGEST = {"provider_reference": 64, "hardware": 100}
DELIMITERS = ",;\t"
# Of many wrong rows the first ones tell what is wrong.
MOST_PROBLEMS = 10
MOST_USD = Decimal(1_000_000_000)
MOST_SECONDS = Decimal(1_000_000_000)
NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,18})?")
MICRO = Decimal("0.000001")


class UnreadableInvoice(InvalidInput):
    """The file is no invoice that can be read, or a row of it is wrong; `details.problems` names each."""

    def __init__(self, problems: list[str]) -> None:
        more = " There are more such rows." if len(problems) > MOST_PROBLEMS else ""
        shown = problems[:MOST_PROBLEMS]
        super().__init__(" ".join(shown) + more, hint="Mend the file and import it again; nothing of it was taken.", field="file",
                         details={"problems": shown})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class InvoiceRow:
    """One row: its line in the file, and what it says. `amount` is micro-dollars."""

    row: int
    provider_reference: str
    billed_on: date
    amount: int
    seconds: Decimal | None
    hardware: str


def read(file: Iterable[str], *, columns: Mapping[str, str] | None = None) -> Iterator[InvoiceRow]:
    """The rows of a file (opened as text with newline=""), in its order.

    `columns` names columns that are called otherwise than anybody foresaw. Raises UnreadableInvoice, at the end and for all
    rows that are wrong, so that a file is mended at once; InvalidInput for a column that there is not.
    """
    lines = iter(file)
    try:
        head = next(lines, "").removeprefix("\ufeff")
        delimiter = _delimiter(head)
        places = _places(next(csv.reader([head], delimiter=delimiter, strict=True), []), columns or {})
        yield from _rows(csv.reader(lines, delimiter=delimiter, strict=True), places)
    except csv.Error as error:
        raise UnreadableInvoice([f"The file is not CSV: {error}."]) from error
    except UnicodeDecodeError as error:
        raise UnreadableInvoice(["The file is not text in UTF-8."]) from error


def _rows(body: Any, places: dict[str, int]) -> Iterator[InvoiceRow]:
    problems: list[str] = []
    is_empty = True
    for cells in body:
        if not any(cell.strip() for cell in cells):
            continue
        is_empty = False
        number = body.line_num + 1
        try:
            row = _row(number, {name: cells[place].strip() if place < len(cells) else "" for name, place in places.items()})
        except ValueError as error:
            problems.append(f"Line {number}: {error}")
            if len(problems) > MOST_PROBLEMS:
                break
        else:
            yield row
    if problems:
        raise UnreadableInvoice(problems)
    if is_empty:
        raise UnreadableInvoice(["The file has no rows below the names of its columns."])


def _delimiter(head: str) -> str:
    return max(DELIMITERS, key=head.count)


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))


def _places(head: list[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Where in a row each thing stands."""
    if unknown := sorted(columns.keys() - SYNONYMS.keys()):
        raise InvalidInput(f"There is no column {unknown[0]!r}; there are {', '.join(SYNONYMS)}.", field="columns")
    names = [_plain(name) for name in head]
    places = {}
    for thing, known in SYNONYMS.items():
        wanted = (_plain(columns[thing]),) if thing in columns else known
        found = [names.index(name) for name in wanted if name in names]
        if found and names.count(names[found[0]]) > 1:
            raise UnreadableInvoice([f"Two columns are called {head[found[0]]!r}."])
        if found:
            places[thing] = found[0]
        elif thing in REQUIRED or thing in columns:
            called = repr(columns[thing]) if thing in columns else NAMES.get(thing, thing)
            raise UnreadableInvoice(
                [f"The first line of the file names no column for the {called}. It names: {', '.join(head) or 'nothing'}."]
            )
    return places


def _row(number: int, cells: dict[str, str]) -> InvoiceRow:
    """Raises ValueError with a sentence for what cannot be read."""
    for name, most in LONGEST.items():
        if len(cells.get(name, "")) > most:
            raise ValueError(f"the {NAMES.get(name, name)} is longer than {most} characters.")
    if not cells["provider_reference"]:
        raise ValueError("it has no prediction id. Leave rows out that add others up.")
    if "\x00" in "".join(cells.values()):
        raise ValueError("it has a character that is none.")
    return InvoiceRow(
        row=number,
        provider_reference=cells["provider_reference"],
        billed_on=_day(cells["billed_on"]),
        amount=_micros(cells["amount"]),
        seconds=_seconds(cells.get("seconds", "")),
        hardware=cells.get("hardware", ""),
    )


def _day(text: str) -> date:
    """A day as ISO 8601 writes it, or the day (UTC) of a time. 11/12/2026 is two days, depending on who reads it."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text)
        if re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:", text):
            moment = datetime.fromisoformat(text.removesuffix(" UTC"))
            return (moment if moment.tzinfo is None else moment.astimezone(UTC)).date()
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"the date {text!r} is none like 2026-11-30 or 2026-11-30T12:00:00Z.")


def _micros(text: str) -> int:
    """US dollars, exactly or rounded half to even to a whole micro-dollar."""
    sign = -1 if text.startswith("-") else 1
    number = text.removeprefix("-").removeprefix("$")
    if not NUMBER.fullmatch(number) or Decimal(number) > MOST_USD:
        raise ValueError(f"the amount {text!r} is none like 12.345678, in US dollars with a point.")
    micros = (Decimal(number) * MICROS_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN)
    return sign * int(micros)


def _seconds(text: str) -> Decimal | None:
    number = text.removesuffix("s").strip()
    if not number:
        return None
    if not NUMBER.fullmatch(number) or Decimal(number) > MOST_SECONDS:
        raise ValueError(f"the seconds {text!r} are none like 1830.5.")
    return Decimal(number).quantize(MICRO, rounding=ROUND_HALF_EVEN)
