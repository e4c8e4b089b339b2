"""The matrix finds what it is there to find: each kind of hole, made here by an entry that asks for something else than the view."""

import pytest

from accounts.roles import Right, Role
from jobs.models import Job
from tests.matrix import cells, rows
from tests.matrix.routes import ROUTES
from tests.matrix.routes.api_jobs import another
from tests.matrix.table import Case, Door, Route, delete, get, post

pytestmark = pytest.mark.django_db
JOBS = "/api/cloud/jobs"
CANCEL = "/api/cloud/jobs/<job_id>/cancel"


@pytest.fixture
def wrong(world):
    """The wrong cells of an entry, in one column."""
    untouched = rows.standing()

    def found(route: Route, column: str) -> list[str]:
        told = [cells.wrong_with(cell, world, untouched) for cell in cells.of(route, world) if cell.column == column]
        return [problem.removeprefix(f"{column}: ") for problem in told if problem]

    return found


def test_who_gets_in_and_may_not_is_found(wrong):
    assert wrong(get(JOBS, Right.APPROVE), "own team") == [
        "viewer is 200 and not 403",
        "researcher is 200 and not 403",
        "staff (staff of the platform, viewer here) is 200 and not 403",
        "token of read, made by owner is 200 and not 403",
        "token of submit, made by owner is 200 and not 403",
        "token of cancel, made by owner is 200 and not 403",
        "token of datasets, made by owner is 200 and not 403",
        "token of billing, made by owner is 200 and not 403",
        "token of every scope, made by researcher is 200 and not 403",
        "token of every scope, made by viewer is 200 and not 403",
    ]


def test_who_is_turned_away_and_may_come_is_found(wrong):
    found = wrong(get("/t/<team>/spend/limits/", Right.READ), "own team")

    assert found == [
        "viewer is 403 and not 200",
        "researcher is 403 and not 200",
        "staff (staff of the platform, viewer here) is 403 and not 200",
    ]


def test_a_page_that_strangers_see_is_found(wrong):
    found = wrong(get("/accounts/password/reset/", Door.SIGNED_IN), "own team")

    assert "anonymous is 200 and not sign-in" in found


def test_a_write_by_who_may_not_is_found_by_its_rows(wrong):
    found = wrong(post(CANCEL, Right.MANAGE), "own team")

    assert found[0].startswith("researcher is 200 and not 403; changes jobs_job")


def test_a_request_that_is_no_valid_one_is_found(wrong):
    found = wrong(delete(f"{JOBS}/<job_id>", Right.CANCEL_ALL, at={"job_id": lambda side: side.running.job_id}), "own team")

    assert [problem.partition(" (")[0] for problem in found if problem.startswith("owner")] == ["owner is 409 and not 200"]


def test_a_write_that_changes_nothing_is_found(wrong):
    assert "owner changes nothing" in wrong(post("/api/configs/validate", Right.READ, json={"config": {}}), "own team")


def test_a_foreign_teams_thing_that_is_not_hidden_is_found(wrong):
    # The other team's members ask for a job of this one, and such an entry wants it to be shown.
    found = wrong(get(f"{JOBS}/<job_id>", Right.READ, foreign=200), "foreign team")

    assert found[0].startswith("viewer is 404 and not 200")


def test_what_is_told_of_another_team_is_found(world):
    cell = next(cell for cell in cells.of(get(JOBS, Right.READ), world) if cell.column == "own team" and cell.is_let_in)
    leaking = cells.Cell(**{**vars(cell), "unsaid": world.own.mark})

    assert cells.wrong_with(leaking, world, rows.standing()) == f"own team: viewer tells of {world.own.mark}"


def test_a_row_that_decides_otherwise_is_found(wrong):
    everybody = Case(name="another's job", at=another("running").at, may=lambda who: True)

    found = wrong(post(CANCEL, Right.CANCEL_OWN, cases=[everybody]), "another's job")

    assert [problem.partition(" (")[0] for problem in found] == [
        "researcher is 403 and not 200",
        "token of every scope, made by researcher is 403 and not 200",
    ]


def test_the_world_is_the_same_after_a_cell(world):
    before = rows.standing()
    [cell] = [cell for cell in cells.of(post(CANCEL, Right.CANCEL_OWN), world) if cell.column == "own team" and cell.who.name == "owner"]

    assert cells.wrong_with(cell, world, before) == ""
    assert rows.changed(before, rows.standing()) == []
    assert Job.objects.get(pk=world.own.running.pk).cancel_requested_at is None


def test_every_role_and_every_right_has_its_cells(world):
    whos = {who.name for who in world.own.whos}
    rights = {route.needs for route in ROUTES if isinstance(route.needs, Right)}

    assert {role.value for role in Role} <= whos
    assert len([name for name in whos if name.startswith("token of")]) == 8
    # No route asks for these yet.
    assert set(Right) - rights == {Right.CANCEL_ALL, Right.CONFIGS_ALL}
