"""What the table of routes is written in: one Route for each address and method, with what it asks of who comes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from accounts.roles import Right
from tests.matrix.world import THINGS, Side, Who, World

SAFE = {"GET", "HEAD"}
# An address like this one that nobody is let into without signing in. Other outcomes are the status of the answer.
SIGN_IN = "sign-in"
# Asked for the password again.
CONFIRM = "confirm"


class Door(Enum):
    """What a route asks for where it is no right in a team."""

    OPEN = "nothing"
    SIGNED_IN = "a person who is signed in, member of a team or not"
    CALLER = "a member of a team, or a token"
    PERSON = "a person, in a team or not, or a token"
    ACCOUNT = "a person, in a team or not, and no token: what it is about is their own"
    PROOF = "a signature or a secret, whoever it is: here nobody has it, and `answers` is the refusal"


class Staff(Enum):
    """What the platform's staff are to a route, signed in themselves and not by a token."""

    NOBODY = "no more than their role in the team"
    ANYWHERE = "let in, whatever team it is about"
    IN_A_TEAM = "let in where the call says a team: the one that they are in, or any that they name"


May = Callable[[Who], bool]
Needs = Right | Door | May
Outcome = int | str
# A value, or how it is found in the team whose things are asked for.
Given = Any | Callable[[Side], Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """The same request where more than the role decides: about another member's thing, in another state of the team.

    `at`, `form` and `json` replace those of the route where they are given; `prepare` changes the world first.
    """

    name: str
    may: May
    refused: Outcome = 403
    at: Mapping[str, Given] = field(default_factory=dict)
    form: Given = None
    json: Given = None
    prepare: Callable[[World], Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Route:
    """One address and method, a valid request, and who may make it.

    `address` is spelled as `walking` spells the pattern. `at` fills its gaps, beyond what `world.THINGS` knows. `answers`
    is what those get who may: a status, or a function of who comes. `changes` says whether, or for whom, a row differs then
    (writes: for all, unless said). `foreign` is what who may gets for a foreign team's things: 404 where the address or the body names
    one, else what `answers` says, since there it is the caller's own team that is meant. `staff` is whether the platform's
    staff come in beside those who are named by `needs`. The thing is the researcher's:
    where only its maker may and who has the right `others_need`, all others get `others_get`.
    """

    method: str
    address: str
    needs: Needs
    answers: Outcome | Callable[[Who], Outcome] = 200
    at: Mapping[str, Given] = field(default_factory=dict)
    query: str = ""
    form: Given = None
    json: Given = None
    headers: Mapping[str, str] = field(default_factory=dict)
    changes: bool | May | None = None
    staff: Staff = Staff.NOBODY
    others_need: Right | May | None = None
    others_get: Outcome = 403
    foreign: Outcome | None = None
    cases: Sequence[Case] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.address}"

    @property
    def is_api(self) -> bool:
        return self.address.startswith(("/api/", "/broadcast"))

    @property
    def is_safe(self) -> bool:
        return self.method in SAFE

    @property
    def is_of_a_team(self) -> bool:
        """Whether it is a page below a team's own address."""
        return self.address.startswith("/t/<team>/")

    @property
    def names_a_thing(self) -> bool:
        """Whether the address names something that a team has."""
        return any(callable(self.given(gap)) for gap in gaps_of(self.address.removeprefix("/t/<team>/")))

    def must_change(self, who: Who) -> bool:
        if self.changes is None:
            return not self.is_safe
        return self.changes(who) if callable(self.changes) else self.changes

    def given(self, gap: str) -> Given:
        return self.at[gap] if gap in self.at else THINGS[gap]

    def with_case(self, case: Case) -> "Route":
        more = {name: value for name in ("form", "json") if (value := getattr(case, name)) is not None}
        return replace(self, at={**self.at, **case.at}, **more)

    def path(self, side: Side, *, team: str) -> str:
        """The address with a team's things in its gaps."""
        path = self.address
        for gap in gaps_of(self.address):
            value = team if gap == "team" and "team" not in self.at and self.is_of_a_team else self.given(gap)
            path = path.replace(f"<{gap}>", str(found(value, side)))
        return path + (f"?{self.query}" if self.query else "")


def gaps_of(address: str) -> list[str]:
    return [part.partition(">")[0] for part in address.split("<")[1:]]


def found(given: Given, side: Side) -> Any:
    return given(side) if callable(given) else given


def get(address: str, needs: Needs, **more: Any) -> Route:
    return Route(method="GET", address=address, needs=needs, **more)


def post(address: str, needs: Needs, **more: Any) -> Route:
    return Route(method="POST", address=address, needs=needs, **more)


def put(address: str, needs: Needs, **more: Any) -> Route:
    return Route(method="PUT", address=address, needs=needs, **more)


def patch(address: str, needs: Needs, **more: Any) -> Route:
    return Route(method="PATCH", address=address, needs=needs, **more)


def delete(address: str, needs: Needs, **more: Any) -> Route:
    return Route(method="DELETE", address=address, needs=needs, **more)


def page(address: str, needs: Needs, *, form: Given, send: Mapping[str, Any] | None = None, **more: Any) -> list[Route]:
    """A page with a form: looking at it, and sending the form, which leads on to another page. `send` is for the sending alone."""
    looked = {name: value for name, value in more.items() if name not in ("answers", "changes", "foreign")}
    sent: dict[str, Any] = {"answers": 302, **more, **(send or {})}
    return [get(address, needs, **looked), post(address, needs, form=form, **sent)]


def also_at(addresses: Sequence[str], routes: Route | Sequence[Route]) -> list[Route]:
    """The same routes at each of several addresses: aliases of one view."""
    named = [routes] if isinstance(routes, Route) else routes
    return [replace(route, address=address) for address in addresses for route in named]


def has(right: Right) -> May:
    """Who has a right beyond the one that the route asks for."""
    return lambda who: right in who.rights


def nobody(_who: Who) -> bool:
    return False
