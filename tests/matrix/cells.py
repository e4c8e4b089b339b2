"""The cells of a route: who comes, for whose things, what must come of it, and what did.

What must come of it is worked out from the table of rights (accounts/roles.py) and design.md 4.8. By API: nobody is 401; who
lacks the right is 403 whatever they ask for; who has it is 404 for a foreign team's things. On pages: nobody is led to
sign in; a foreign team's address is 404 for everybody, staff as well; a member without the right is 403.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.http.response import HttpResponseBase
from django.utils import timezone

from accounts.roles import Right, Role
from tests.matrix import rows
from tests.matrix.rows import Rows
from tests.matrix.table import CONFIRM, SIGN_IN, Door, Outcome, Route, Staff, found
from tests.matrix.world import Side, Who, World, is_staff

SIGN_IN_PAGES = ("/accounts/login/", "/admin/login/")
CONFIRM_PAGE = "/accounts/reauthenticate/"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One request of one caller. `things` is whose ids stand in it, `team` whose slug; `unsaid` must not be in the answer."""

    column: str
    who: Who
    route: Route
    team: str
    things: Side
    outcome: Outcome
    is_let_in: bool
    headers: dict[str, str] = field(default_factory=dict)
    unsaid: str = ""
    prepare: Callable[[World], Any] | None = None


def of(route: Route, world: World) -> Iterator[Cell]:
    """All cells of a route."""
    yield from _own(route, world)
    if route.is_of_a_team:
        yield from _foreign_page(route, world)
    elif route.is_api and route.needs not in (Door.OPEN, Door.PROOF):
        yield from _foreign_caller(route, world)
    if isinstance(route.needs, Door) and route.needs not in (Door.CALLER, Door.PERSON):
        yield from _cases(route, world, [*world.outside, *world.own.whos])
        return
    yield from _suspended(route, world)
    yield from _cases(route, world, world.own.whos)


def _own(route: Route, world: World) -> Iterator[Cell]:
    for who in [*world.outside, *world.own.whos]:
        turned_away = _at_the_door(route, who) or (None if _is_theirs(route, who, world.own) else route.others_get)
        yield _cell("own team", who, route, world.own, turned_away=turned_away)


def _foreign_page(route: Route, world: World) -> Iterator[Cell]:
    """Members of another team at this team's address, and this team's members at their own with another team's ids."""
    for who in world.foreign.whos:
        turned_away: Outcome | None = None if route.needs in (Door.OPEN, Door.PROOF) else 404 if who.is_signed_in else SIGN_IN
        yield _cell("foreign team", who, route, world.own, turned_away=turned_away, unsaid=world.own.mark)
    if route.names_a_thing and isinstance(route.needs, Door) is False:
        for who in world.own.whos:
            turned_away = _at_the_door(route, who) or route.foreign or 404
            yield _cell(
                "own team, foreign id", who, route, world.foreign, team=world.own.team.slug, turned_away=turned_away,
                unsaid=world.foreign.mark,
            )  # fmt: skip


def _foreign_caller(route: Route, world: World) -> Iterator[Cell]:
    """Callers of another team ask for this team's things, and say that they are of this team."""
    default = 404 if route.names_a_thing else None
    for who in world.foreign.whos:
        is_overseer = is_staff(who) and route.staff is Staff.ANYWHERE
        turned_away = _at_the_door(route, who) or (None if is_overseer else route.foreign or default)
        # A refusal may repeat the name that was asked for, and staff see all teams.
        unsaid = "" if turned_away == 404 or is_overseer or is_staff(who) else world.own.mark
        yield _cell("foreign team", who, route, world.own, turned_away=turned_away, unsaid=unsaid)
    for who in [*world.foreign.whos, *world.outside]:
        if who.is_signed_in:
            is_welcome = is_staff(who) and (route.staff is not Staff.NOBODY or route.needs in (Door.PERSON, Door.ACCOUNT))
            headers = {"X-Team": world.own.team.slug}
            yield _cell("foreign team, named", who, route, world.own, turned_away=None if is_welcome else 404, headers=headers)


def _suspended(route: Route, world: World) -> Iterator[Cell]:
    """Whoever may is told that nothing changes in a suspended team, and its owner reads on. Staff who look after teams go on."""
    if not (route.is_api or route.is_of_a_team):
        return
    for who in world.own.whos:
        is_let_in = _at_the_door(route, who) is None and _is_theirs(route, who, world.own)
        is_overseer = is_staff(who) and (route.staff is not Staff.NOBODY or route.needs is Door.PERSON)
        if is_let_in and not is_overseer and (not route.is_safe or who.role == Role.OWNER):
            yield _cell("suspended team", who, route, world.own, turned_away=None if route.is_safe else 403, prepare=_suspend)


def _cases(route: Route, world: World, whos: list[Who]) -> Iterator[Cell]:
    for case in route.cases:
        for who in whos:
            if _at_the_door(route, who) is None:
                turned_away = None if case.may(who) else case.refused
                yield _cell(case.name, who, route.with_case(case), world.own, turned_away=turned_away, prepare=case.prepare)


def _suspend(world: World) -> None:
    type(world.own.team).objects.filter(pk=world.own.team.pk).update(suspended_at=timezone.now())


def _cell(column: str, who: Who, route: Route, things: Side, *, turned_away: Outcome | None, team: str = "", **more: Any) -> Cell:
    let_in = route.answers(who) if callable(route.answers) else route.answers
    return Cell(
        column=column, who=who, route=route, team=team or things.team.slug, things=things,
        outcome=let_in if turned_away is None else turned_away, is_let_in=turned_away is None, **more,
    )  # fmt: skip


def _at_the_door(route: Route, who: Who) -> Outcome | None:
    """The outcome for who is turned away whatever they ask for; None for who is let in."""
    if route.needs is Door.PROOF:
        return found(route.answers, who)
    if route.needs is Door.OPEN:
        return None
    return _at_the_api(route, who) if route.is_api else _at_the_page(route, who)


def _at_the_api(route: Route, who: Who) -> Outcome | None:
    if not who.is_known and not who.is_signed_in:
        return 401
    if route.needs is Door.ACCOUNT:
        return 403 if who.is_token else None
    if route.needs is Door.PERSON:
        return None
    if is_staff(who) and (route.staff is Staff.ANYWHERE or (route.staff is Staff.IN_A_TEAM and who.is_known)):
        return None
    # Staff are somebody, and say for no team that they are in it.
    return (None if _may(route, who) else 403) if who.is_known else 400


def _at_the_page(route: Route, who: Who) -> Outcome | None:
    if not who.is_signed_in:
        return SIGN_IN
    if route.needs is Door.SIGNED_IN:
        return None
    if route.is_of_a_team and not who.is_known:
        return 404
    return None if _may(route, who) else 403


def _is_theirs(route: Route, who: Who, side: Side) -> bool:
    """Whether the thing is theirs to change: the researcher made it."""
    need = route.others_need
    if need is None or who.user == side.members[Role.RESEARCHER].user:
        return True
    return need in who.rights if isinstance(need, Right) else need(who)


def _may(route: Route, who: Who) -> bool:
    if route.needs is Door.CALLER:
        return True
    return route.needs(who) if callable(route.needs) else route.needs in who.rights


# --- What came of it ----------------------------------------------------------------------------------------


def wrong_with(cell: Cell, world: World, untouched: Rows) -> str:
    """What is wrong with a cell, "" if nothing is. `untouched` is how the rows of the world stand."""
    # Who signs in or asks for a mail too often is slowed down, and the matrix comes often.
    cache.clear()
    with transaction.atomic():
        if cell.prepare:
            cell.prepare(world)
            untouched = rows.standing()
        with rows.watched() as watch:
            response = _ask(cell)
            said = _beginning(response)
        tables = rows.changed(untouched, rows.standing()) if watch.may_differ else []
        transaction.set_rollback(True)
    problems = []
    if (outcome := outcome_of(response)) != cell.outcome:
        problems.append(f"is {outcome} and not {cell.outcome}{_why(response)}")
    if not cell.is_let_in and tables:
        problems.append(f"changes {', '.join(tables)}")
    if cell.is_let_in and not cell.route.is_safe and bool(tables) != cell.route.must_change(cell.who):
        problems.append(f"changes {', '.join(tables)}" if tables else "changes nothing")
    if cell.unsaid and cell.unsaid.encode() in said:
        problems.append(f"tells of {cell.unsaid}")
    return f"{cell.column}: {cell.who} {'; '.join(problems)}" if problems else ""


def outcome_of(response: Any) -> Outcome:
    """The status, and for ways out to the pages of signing in their name."""
    target = response.headers.get("Location", "")
    if response.status_code == 302 and target.startswith(SIGN_IN_PAGES):
        return SIGN_IN
    if response.status_code == 302 and target.startswith(CONFIRM_PAGE):
        return CONFIRM
    return int(response.status_code)


def _ask(cell: Cell) -> Any:
    route = cell.route
    path = route.path(cell.things, team=cell.team)
    client, headers = cell.who.client(), {**route.headers, **cell.headers}
    form, body = found(route.form, cell.things), found(route.json, cell.things)
    if form is not None:
        return getattr(client, route.method.lower())(path, form, headers=headers)
    data = "" if body is None else json.dumps(body)
    return client.generic(route.method, path, data, "application/json", headers=headers)


def _beginning(response: Any) -> bytes:
    """The answer, and of a stream what comes first; then it is closed."""
    if not response.streaming:
        return bytes(response.content)
    first = next(iter(response.streaming_content), b"")
    # Not `response.close()`, which would close the connection, and with it the transaction that all of this is in.
    response._iterator.close()
    return bytes(first)


def _why(response: HttpResponseBase) -> str:
    """The exception behind a fault, or the words of a refusal."""
    if error := getattr(response, "exc_info", None):
        return f" ({error[1]!r})"
    content = getattr(response, "content", b"") if response.headers.get("Content-Type", "").startswith("application/json") else b""
    return f" ({json.loads(content).get('detail', '')})" if content.startswith(b'{"detail"') else ""
