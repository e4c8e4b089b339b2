"""What was spent, by day, person, config, hardware or token. The ledger's lines say it; jobs say whose and what for.

A charge or adjustment belongs to the day of its line in the team's zone, and what is still held to the day on which it was
set aside. So the sums by any of these are the same, and they are the ledger's. Limits go by the hold's period instead.
Amounts are micro-dollars; rehearsals stand in figures of their own.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Max, Q, QuerySet, Sum, TextChoices, Value
from django.db.models.functions import Coalesce, TruncDate
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User
from billing.models import LedgerLine, LineKind
from jobs import spans
from jobs.models import Job, Trainer
from jobs.questions import Question
from jobs.spans import Span
from jobs.states import State

SPENT = [LineKind.CHARGE, LineKind.ADJUST]


class By(TextChoices):
    """What a report sorts by."""

    DAY = "day", _("By day")
    PERSON = "person", _("By person")
    PRESET = "preset", _("By config or preset")
    HARDWARE = "hardware", _("By hardware")
    TOKEN = "token", _("By API token")


# The amounts that sum to the ledger.
MONEY = ("charged", "adjusted", "held", "would_have_cost")
# How many jobs of an export are looked at in one go.
CHUNK = 2000


@dataclass(frozen=True)
class Figures:
    """Sums over a part of the ledger. A job counts where it was charged; its estimate and its hold are given beside the charge."""

    jobs: int = 0
    billed_seconds: Decimal = Decimal(0)
    estimate_low: int = 0
    estimate_high: int = 0
    held_for_them: int = 0
    charged: int = 0
    adjusted: int = 0
    paid_for_failed: int = 0
    jobs_held: int = 0
    held: int = 0
    rehearsals: int = 0
    would_have_cost: int = 0

    @property
    def settled(self) -> int:
        return self.charged + self.adjusted

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})


@dataclass(frozen=True)
class Row:
    """One line of a report. `key` is what filters go by; None is what no job stands behind."""

    key: Any
    label: str
    figures: Figures


@dataclass(frozen=True)
class Report:
    rows: list[Row]

    @property
    def total(self) -> Figures:
        return sum((row.figures for row in self.rows), Figures())


def _line(*kinds: str, is_rehearsal: bool = False) -> Q:
    return Q(hold__lines__kind__in=kinds, hold__lines__is_rehearsal=is_rehearsal)


CHARGED = _line(LineKind.CHARGE)
STILL_HELD = _line(LineKind.HOLD) & Q(hold__settled_at=None)
# A hold has one charge line at most, so what is summed beside it is summed once a job.
SUMS = {
    "jobs": Count("pk", filter=CHARGED),
    "billed_seconds": Sum("billed_seconds", filter=CHARGED),
    "estimate_low": Sum("estimate_low", filter=CHARGED),
    "estimate_high": Sum("estimate_high", filter=CHARGED),
    "held_for_them": Sum("hold__amount", filter=CHARGED),
    "charged": Sum("hold__lines__amount", filter=CHARGED),
    "adjusted": Sum("hold__lines__amount", filter=_line(LineKind.ADJUST)),
    "paid_for_failed": Sum("hold__lines__amount", filter=_line(*SPENT) & Q(state=State.FAILED)),
    "jobs_held": Count("pk", filter=STILL_HELD),
    "held": Sum("hold__amount", filter=STILL_HELD),
    "rehearsals": Count("pk", filter=_line(LineKind.CHARGE, is_rehearsal=True)),
    "would_have_cost": Sum("hold__lines__amount", filter=_line(*SPENT, is_rehearsal=True)),
}


def _figures(sums: Any) -> Figures:
    known: dict[str, Any] = {name: sums[name] or 0 for name in SUMS}
    return Figures(**known)


class Spend:
    """The reports of one question. Each is one query, and one for the names in it, whatever the number of lines."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.strays = list(_strays(question))

    def total(self) -> Figures:
        return sum((stray.figures for stray in self.strays), _figures(self.question.with_lines().aggregate(**SUMS)))

    def by(self, by: By) -> Report:
        reports = {
            By.DAY: self.by_day,
            By.PERSON: self.by_person,
            By.PRESET: self.by_preset,
            By.HARDWARE: self.by_hardware,
            By.TOKEN: self.by_token,
        }
        return reports[by]()

    def by_day(self) -> Report:
        """Every day of the span, oldest first, also those without spending."""
        span = self.question.span
        day = TruncDate("hold__lines__at", tzinfo=span.zone)
        found: defaultdict[date, Figures] = defaultdict(Figures)
        for sums in self.question.with_lines().order_by().values(day=day).annotate(**SUMS):
            found[span.nearest(sums["day"])] += _figures(sums)
        for stray in self.strays:
            found[span.nearest(stray.day)] += stray.figures
        return Report([Row(day, day.isoformat(), found[day]) for day in span.days()])

    def by_person(self) -> Report:
        found = self._by("submitted_by")
        return _ranked(found, User.objects.in_bulk([key for key in found if key]))

    def by_preset(self) -> Report:
        found = self._by("config_name")
        return _ranked(found, {key: key for key in found})

    def by_hardware(self) -> Report:
        found = self._by("trainer__profile")
        return _ranked(found, Trainer.objects.in_bulk([key for key in found if key], field_name="profile"))

    def by_token(self) -> Report:
        """Key 0 is what people submitted themselves."""
        found = self._by("token")
        return _ranked(found, self.question.team.api_tokens.in_bulk([key for key in found if key]))

    def _by(self, name: str) -> dict[Any, Figures]:
        """Figures by the value of a field of the job; by None what no job stands behind."""
        found: defaultdict[Any, Figures] = defaultdict(Figures)
        # A job without a token has the key 0, since None is no job.
        key = Coalesce(name, Value(0)) if name == "token" else F(name)
        for sums in self.question.with_lines().order_by().values(key=key).annotate(**SUMS):
            found[sums["key"]] += _figures(sums)
        for stray in self.strays:
            found[stray.job[name] if stray.job else None] += stray.figures
        return dict(found)


def _ranked(found: dict[Any, Figures], labels: Mapping[Any, Any]) -> Report:
    """The most expensive first."""
    rows = [Row(key, str(labels.get(key, "")), figures) for key, figures in found.items()]
    return Report(sorted(rows, key=lambda row: (-row.figures.settled, -row.figures.held, row.label)))


# --- Money that no hold of a job stands behind ------------------------------------------------------------------

# Of the job that a line names by its reference.
OF_A_JOB = (
    *("job_id", "state", "submitted_by", "submitted_by__username", "submitted_by__display_name", "config_name", "run_name"),
    *("deleted_at", "trainer__profile", "trainer__label", "token", "token__name"),
)


@dataclass(frozen=True)
class Stray:
    """Lines of one day that belong to no job's hold, such as a correction by hand; `job` is the one that they name, if they do."""

    reference: str
    day: date
    at: datetime
    figures: Figures
    job: dict[str, Any] = field(default_factory=dict)


_REAL = Q(is_rehearsal=False)
_STRAY_SUMS = {
    "charged": Sum("amount", filter=_REAL & Q(kind=LineKind.CHARGE)),
    "adjusted": Sum("amount", filter=_REAL & Q(kind=LineKind.ADJUST)),
    "held": Sum("hold__amount", filter=_REAL & Q(kind=LineKind.HOLD, hold__settled_at=None)),
    "would_have_cost": Sum("amount", filter=Q(is_rehearsal=True, kind__in=SPENT)),
}


def _stray_lines(lines: QuerySet[LedgerLine], jobs: QuerySet[Job], span: Span) -> QuerySet[LedgerLine]:
    """Those of the span that move money and belong to the hold of none of the jobs."""
    moving = lines.filter(at__gte=span.starts_at, at__lt=span.ends_at, kind__in=[*SPENT, LineKind.HOLD])
    return moving.exclude(hold__in=jobs.filter(hold__isnull=False).values("hold")).order_by()


def _strays(question: Question) -> Iterator[Stray]:
    span, team = question.span, question.team
    found: list[Any] = list(
        _stray_lines(team.ledger_lines.all(), team.jobs.all(), span)
        .values("reference", day=TruncDate("at", tzinfo=span.zone))
        .annotate(latest=Max("at"), **_STRAY_SUMS)
        .order_by("latest", "reference")
    )
    ids = {row["reference"].removeprefix("job:") for row in found}
    jobs = question.jobs().filter(job_id__in=ids).values(*OF_A_JOB) if ids else ()
    named = {job["job_id"]: {**job, "token": job["token"] or 0} for job in jobs}
    for row in found:
        job = named.get(row["reference"].removeprefix("job:"), {})
        if not job and not question.is_whole:
            continue
        sums: dict[str, Any] = {name: row[name] or 0 for name in MONEY}
        failed = sums["charged"] + sums["adjusted"] if job.get("state") == State.FAILED else 0
        yield Stray(row["reference"], row["day"], row["latest"], Figures(**sums, paid_for_failed=failed), job)


# --- Of all teams ------------------------------------------------------------------------------------------------


def by_team(month: date) -> list[tuple[Team, Figures]]:
    """What a calendar month has seen of every team that moved money in it, the most expensive first.

    Each team's month is that of its own zone, so that the figures are those of its own page.
    """
    found: defaultdict[int, Figures] = defaultdict(Figures)
    for time_zone in Team.objects.order_by().values_list("time_zone", flat=True).distinct():
        span = spans.month_of(month, time_zone)
        within = {"hold__lines__at__gte": span.starts_at, "hold__lines__at__lt": span.ends_at}
        for sums in Job.objects.filter(hold__lines__team__time_zone=time_zone, **within).order_by().values("team").annotate(**SUMS):
            found[sums["team"]] += _figures(sums)
        lines = LedgerLine.objects.filter(team__time_zone=time_zone)
        strays: Any = _stray_lines(lines, Job.objects.filter(team__time_zone=time_zone), span)
        for sums in strays.values("team").annotate(**_STRAY_SUMS):
            strayed: dict[str, Any] = {name: sums[name] or 0 for name in MONEY}
            found[sums["team"]] += Figures(**strayed)
    teams = Team.objects.in_bulk([team for team, figures in found.items() if figures != Figures()])
    rows = [(team, found[pk]) for pk, team in teams.items()]
    return sorted(rows, key=lambda row: (-row[1].settled, -row[1].held, row[0].name))


# --- Job by job --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What one job has to do with the money of a span; `job_id` is "" where a correction names no job.

    `at` is when it was charged, else when the newest of its lines was written. What a rehearsal would have cost stands apart.
    """

    at: datetime
    reference: str
    job_id: str = ""
    run_name: str = ""
    state: str = ""
    is_hidden: bool = False
    person: str = ""
    token: str = ""
    preset: str = ""
    hardware: str = ""
    # The same two as pages call them.
    person_name: str = ""
    hardware_name: str = ""
    billed_seconds: Decimal | None = None
    usd_per_second: Decimal | None = None
    estimate_low: int | None = None
    estimate_high: int | None = None
    held_for_it: int = 0
    held: int = 0
    charged: int = 0
    adjusted: int = 0
    is_rehearsal: bool = False
    would_have_cost: int = 0

    @property
    def settled(self) -> int:
        return self.charged + self.adjusted


SHOWN = (
    *("job_id", "run_name", "state", "deleted_at", "submitted_by__username", "submitted_by__display_name", "token__name"),
    *("config_name", "trainer__profile", "trainer__label"),
    *("billed_seconds", "price_line__usd_per_second", "estimate_low", "estimate_high", "hold__amount", "hold__is_rehearsal"),
)


def charges(question: Question) -> QuerySet[Job, dict[str, Any]]:
    """The jobs that were charged, adjusted or are still held in the span, oldest first, each as a dict for `charge_of`."""
    charged = Q(hold__lines__kind=LineKind.CHARGE)
    still_held = Q(hold__lines__kind=LineKind.HOLD, hold__settled_at=None)
    rows = question.with_lines().order_by().values(*SHOWN)
    # What was only set aside in the span, and settled after it, is no charge of it.
    return (
        rows.annotate(told=Count("pk", filter=Q(hold__lines__kind__in=SPENT) | still_held))
        .filter(told__gt=0)
        .annotate(
            at=Coalesce(Max("hold__lines__at", filter=charged), Max("hold__lines__at")),
            charged=Sum("hold__lines__amount", filter=charged),
            adjusted=Sum("hold__lines__amount", filter=Q(hold__lines__kind=LineKind.ADJUST)),
            held=Sum("hold__amount", filter=still_held),
        )
        .order_by("at", "job_id")
    )


def newest_charges(question: Question, count: int) -> list[Charge]:
    """Those of the jobs that were paid last, rehearsals left out."""
    paid = charges(question).filter(hold__is_rehearsal=False, hold__settled_at__isnull=False)
    return [charge_of(row) for row in paid.reverse()[:count]]


def charge_of(row: Mapping[str, Any]) -> Charge:
    is_rehearsal = row["hold__is_rehearsal"]
    money: dict[str, Any] = {name: row[name] or 0 for name in ("charged", "adjusted", "held")}
    if is_rehearsal:
        money = {"would_have_cost": money["charged"] + money["adjusted"]}
    return Charge(
        at=row["at"],
        reference=f"job:{row['job_id']}",
        **_of_the_job(row),
        billed_seconds=row["billed_seconds"],
        usd_per_second=row["price_line__usd_per_second"],
        estimate_low=row["estimate_low"],
        estimate_high=row["estimate_high"],
        held_for_it=0 if is_rehearsal else row["hold__amount"],
        is_rehearsal=is_rehearsal,
        **money,
    )


def charge_of_stray(stray: Stray) -> Charge:
    figures = stray.figures
    money = {name: getattr(figures, name) for name in MONEY}
    return Charge(at=stray.at, reference=stray.reference, **(_of_the_job(stray.job) if stray.job else {}), **money)


def _of_the_job(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "job_id": row["job_id"],
        "run_name": row["run_name"],
        "state": row["state"],
        "is_hidden": row["deleted_at"] is not None,
        "person": row["submitted_by__username"],
        "token": row["token__name"] or "",
        "preset": row["config_name"],
        "hardware": row["trainer__profile"],
        "person_name": row["submitted_by__display_name"] or row["submitted_by__username"],
        "hardware_name": row["trainer__label"],
    }


def charge_rows(question: Question) -> Iterator[Charge]:
    """All of them, one for each job, in constant memory: corrections by hand are added to the job that they name."""
    corrections: dict[str, Charge] = {}
    for stray in _strays(question):
        charge = charge_of_stray(stray)
        before = corrections.get(charge.reference)
        corrections[charge.reference] = _together(before, charge) if before else charge
    for row in charges(question).iterator(chunk_size=CHUNK):
        charge = charge_of(row)
        correction = corrections.pop(charge.reference, None)
        yield _together(charge, correction) if correction else charge
    yield from corrections.values()


def _together(charge: Charge, more: Charge) -> Charge:
    return replace(charge, **{name: getattr(charge, name) + getattr(more, name) for name in MONEY})
