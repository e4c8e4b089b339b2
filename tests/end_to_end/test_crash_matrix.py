"""The launcher killed with SIGKILL before every statement around the call that costs money, whatever becomes of that call.

One installation runs a job for each cell: a statement, and what the provider makes of the call. The statements are read from
the source, so that the test follows the code. Afterwards the provider has one prediction for each job and none beside, and
the money is right.
"""

import ast
import inspect
import signal
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from jobs.replicate.gateway import Gateway
from jobs.services import dataflow, dispatch, ending, launching
from tests.config.processes import BASE_DIR, is_alive, wait_until
from tests.end_to_end.house import ENDED, House
from tests.thoroughness import FULL

# In CI a part of the cells, evenly chosen; `make test FULL=1` takes all.
SAMPLE = 12
PATIENCE_SECONDS = 480
# What stands right around the call is killed at whatever becomes of it, what is on the way there and back when all goes well.
AROUND_THE_CALL = (launching._send, launching._commit_intent, Gateway.create, launching._adopt, launching._search)
ON_THE_WAY = (launching.launch, dataflow.prepare)
BY_THE_WORKER = (dispatch.dispatch, ending._end)


@dataclass(frozen=True, eq=False)
class Fate:
    """What becomes of a call: its name, who submits the jobs that meet it, at which of the provider's accounts, and the rules there."""

    name: str
    team: str
    role: str
    account: int
    rules: dict[str, str]
    # Until all have met it; after that the provider behaves.
    is_passing: bool = False


ARRIVED = Fate("arrived", "atelier", "researcher", 1, {})
LOST = Fate("lost", "foundry", "researcher", 2, {"create_answer": "reset_after", "webhooks": "drop"})
NOT_CREATED = Fate("not created", "atelier", "lead", 3, {"create_answer": "reset_before"}, is_passing=True)
FATES = (ARRIVED, LOST, NOT_CREATED)


@dataclass(frozen=True)
class Point:
    """Right before a statement is run; the second time of a `with` is its end."""

    program: str
    file: str
    function: str
    line: int
    hit: int

    def __str__(self) -> str:
        return f"{self.function}:{self.line}{'' if self.hit == 1 else ' (end)'}"


@dataclass(frozen=True)
class Cell:
    point: Point
    fate: Fate

    @property
    def name(self) -> str:
        return f"{self.point.function.strip('_')}-{self.point.line}-{self.point.hit}-{self.fate.name.replace(' ', '-')}"


def points(function: Callable[..., object], *, program: str = "packer@") -> Iterator[Point]:
    """Every statement of a function, in the order of its source."""
    lines, first = inspect.getsourcelines(function)
    [definition] = ast.parse(textwrap.dedent("".join(lines))).body
    file = str(Path(inspect.getsourcefile(function) or "").relative_to(BASE_DIR))
    for node in ast.walk(definition):
        is_doc = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not isinstance(node, ast.stmt) or isinstance(node, ast.FunctionDef | ast.Try) or is_doc:
            continue
        for hit in (1, 2) if isinstance(node, ast.With) else (1,):
            yield Point(program, file, function.__name__, first + node.lineno - 1, hit)


def cells() -> list[Cell]:
    around = [Cell(point, fate) for function in AROUND_THE_CALL for point in points(function) for fate in FATES]
    on_the_way = [Cell(point, ARRIVED) for function in ON_THE_WAY for point in points(function)]
    by_the_worker = [Cell(point, ARRIVED) for function in BY_THE_WORKER for point in points(function, program="worker@")]
    return [*around, *on_the_way, *by_the_worker]


def sample(found: list[Cell]) -> list[Cell]:
    """A part that has every fate in it: those around the call come in threes, and the step is no multiple of three."""
    step = len(found) // SAMPLE
    return found[:: step if step % len(FATES) else step + 1]


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path, speed=20, TRAP_PROGRAMS="packer@,worker@", TUNEHOUSE_LEASE_SECONDS="2", TUNEHOUSE_NOT_FOUND_AFTER_SECONDS="2")
    try:
        house.start()
        yield house
        house.stop()
    finally:
        house.kill()


def make_room(house):
    """Let all jobs go at once, fast, and give the lead an account of their own at the provider."""
    wait_until(lambda: house.rows("SELECT 1 FROM jobs_queuesettings WHERE team_id IS NULL"))
    house.change(
        "UPDATE jobs_queuesettings SET max_concurrent = 500, team_max_concurrent = 500, user_max_concurrent = 500 WHERE team_id IS NULL"
    )
    lead = house.row("SELECT id FROM accounts_user WHERE username = 'atelier-lead'")["id"]
    token = "r8_Sandbox0Sandbox0Sandbox0Sandbox0Team3"
    with house.owner() as owner:
        given = {"provider": "replicate", "credential_name": "api_token", "value": token}
        saved = owner.post(f"/api/users/{lead}/credentials", json=given)
    assert saved.status_code == 200, saved.text
    for fate in FATES:
        quick = {"queue_seconds": 0, "boot_seconds": 0, "step_rate": 100, "rate_limits": "off"}
        house.rule(account=f"team{fate.account}", **quick, **fate.rules)


def submit(house, chosen):
    """Lay each cell's trap and submit its job; returns the cells by their jobs."""
    jobs = {}
    with ExitStack() as stack:
        doors = {fate: stack.enter_context(house.member(fate.team, fate.role)) for fate in FATES}
        for cell in chosen:
            point = cell.point
            where = {"file": point.file, "function": point.function, "line": point.line, "hit": point.hit, "inside": ""}
            house.set_trap(name=cell.name, program=point.program, how=signal.SIGKILL, run_name=cell.name, **where)
            jobs[house.submit(api=doors[cell.fate], tracker_run_name=cell.name, max_seconds=700)] = cell
    return jobs


def sprung(house):
    return {path.stem for path in house.traps.glob("*.sprung")}


def wait_for_all(house, holds, jobs):
    """Wait until each of these jobs is so, by its row and that of its intent."""

    def left():
        rows = house.rows(
            "SELECT j.job_id, j.state, j.waiting_reason, j.error, i.given_up_at, i.searches FROM jobs_job j "
            "LEFT JOIN jobs_launchintent i ON i.job_id = j.id WHERE j.job_id = ANY(%s)",
            list(jobs),
        )
        return [row for row in rows if not holds(row)]

    try:
        wait_until(lambda: not left(), seconds=PATIENCE_SECONDS)
    except AssertionError:
        waiting = [(jobs[row["job_id"]].name, row) for row in left()]
        raise AssertionError(f"Left of {len(jobs)}: {waiting}\n{house.tail()}") from None


def at_the_provider(house):
    """All predictions of the accounts, by the job that their webhook names."""
    found: dict[str, list[dict]] = {}
    for fate in FATES:
        with house.account_at_provider(fate.account) as api:
            path = "/v1/predictions"
            while path:
                page = api.get(path).raise_for_status().json()
                for item in page["results"]:
                    found.setdefault(item["webhook"].partition("job=")[2].partition("&")[0], []).append(item)
                path = page["next"]
    return found


def facts(house):
    """What our rows say of each job and of its money."""
    rows = house.rows(
        "SELECT j.job_id, j.state, j.prediction_id, j.cost, h.amount, h.charge, h.flag, p.usd_per_second FROM jobs_job j "
        "JOIN billing_hold h ON h.id = j.hold_id JOIN billing_priceline p ON p.id = j.price_line_id"
    )
    lines = house.rows("SELECT reference, kind, amount FROM billing_ledgerline ORDER BY id")
    for row in rows:
        row["lines"] = [(line["kind"], line["amount"]) for line in lines if line["reference"] == f"job:{row['job_id']}"]
    return {row["job_id"]: row for row in rows}


def test_wherever_the_launcher_is_killed_the_provider_is_paid_for_one_run(house):
    chosen = cells() if FULL else sample(cells())
    make_room(house)

    jobs = submit(house, chosen)
    passing = {job_id: cell for job_id, cell in jobs.items() if cell.fate.is_passing}
    wait_for_all(house, lambda row: row["given_up_at"] or row["searches"], passing)
    early = at_the_provider(house)
    for fate in FATES:
        if fate.is_passing:
            house.rule(account=f"team{fate.account}", **dict.fromkeys(fate.rules))
    wait_for_all(house, lambda row: row["state"] in ENDED, jobs)

    assert set(early) & set(passing) == set()
    predictions, rows = at_the_provider(house), facts(house)
    # One for each job, and none that belongs to no job.
    assert {job_id: len(made) for job_id, made in predictions.items()} == dict.fromkeys(jobs, 1)
    for job_id, cell in jobs.items():
        [prediction], row = predictions[job_id], rows[job_id]
        assert (cell.name, prediction["status"], row["state"]) == (cell.name, "succeeded", "completed")
        assert (cell.name, row["prediction_id"]) == (cell.name, prediction["id"])
        charge = round(row["usd_per_second"] * Decimal(str(prediction["metrics"]["predict_time"])) * 1_000_000)
        assert (row["cost"], row["charge"], row["flag"]) == (charge, charge, "")
        assert row["lines"] == [("hold", row["amount"]), ("charge", charge), ("release", row["amount"] - charge)]
    house.assert_books_are_right()
    assert_killed(house, chosen)


def assert_killed(house, chosen):
    """Processes have died at these statements, each once, and all of them are gone."""
    died = [cell for cell in chosen if cell.name in sprung(house)]
    pids = {int((house.traps / f"{cell.name}.sprung").read_text()) for cell in died}
    places = {fate.name: len({cell.point for cell in died if cell.fate is fate}) for fate in FATES}
    print(f"{len(died)} of {len(chosen)} cells were killed, at so many statements: {places}")
    print("Never reached:", *sorted({str(cell.point) for cell in chosen} - {str(cell.point) for cell in died}))
    assert len(pids) == len(died)
    assert not any(is_alive(pid) for pid in pids)
    # A statement that no fate leads to kills nobody: the branches of what does not happen here.
    assert all(count >= (SAMPLE if FULL else 1) for count in places.values())
