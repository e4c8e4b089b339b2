"""Levels: SimpleTuner's word for roles. There are four, they are the system's, and nobody changes them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from accounts.errors import InvalidInput, NotFound, NotOffered
from accounts.roles import PERMISSION_TABLE, Beyond, Role, names_of, rights_of

ONE_TABLE = "Levels are this platform's four roles, viewer, researcher, lead and admin, and what they allow is fixed."
EVERYTHING = [*sorted(known.name for known in PERMISSION_TABLE if known.given_by != Beyond.NOT_OFFERED), "*"]


@dataclass(frozen=True)
class Level:
    """A role as SimpleTuner's clients know it. `priority` says which of two is higher, and nothing else."""

    id: int
    name: str
    description: str
    priority: int
    role: Role

    @property
    def permissions(self) -> list[str]:
        return names_of(rights_of(self.role))


LEVELS = (
    Level(1, "viewer", "Sees the team's work", 0, Role.VIEWER),
    Level(2, "researcher", "Submits and manages their own jobs", 10, Role.RESEARCHER),
    Level(3, "lead", "Approves jobs, sees and manages the team's work", 50, Role.LEAD),
    Level(4, "admin", "Manages the team: people, credentials, limits and settings", 100, Role.OWNER),
)
ADMIN = LEVELS[-1]
# SimpleTuner's teams call their members by other words than its levels do.
SYNONYMS = {"member": "researcher", "owner": "admin"}


def of_role(role: str) -> Level:
    """The level that a role is."""
    return next(level for level in LEVELS if level.role == role)


def named(name: object, *, field: str = "level_name") -> Level:
    """The level of this name; `owner` and `member` are understood, too. Raises NotFound, and InvalidInput for what is no text."""
    if not isinstance(name, str):
        raise InvalidInput(f"{field} must be text: one of {_names()}.", field=field)
    word = name.strip().lower()
    found = [level for level in LEVELS if level.name == SYNONYMS.get(word, word)]
    if not found:
        raise NotFound(f"There is no level {name[:60]!r}. Levels are {_names()}.", field=field)
    return found[0]


def numbered(level_id: int) -> Level:
    """The level with this id. Raises NotFound."""
    found = [level for level in LEVELS if level.id == level_id]
    if not found:
        raise NotFound(f"There is no level {level_id}. Levels are {_names()}, numbered 1 to {len(LEVELS)}.")
    return found[0]


def highest(names: object, *, field: str = "level_names") -> Level:
    """The highest of several levels, since a person has one role in a team. Raises InvalidInput."""
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise InvalidInput(f"{field} must be a list with at least one of {_names()}.", field=field)
    try:
        return max((named(name, field=field) for name in names), key=lambda level: level.priority)
    except NotFound as unknown:
        raise InvalidInput(unknown.detail, field=field) from None


def in_order(levels: Iterable[Level]) -> list[Level]:
    """Each level once, the highest first."""
    return sorted(set(levels), key=lambda level: -level.priority)


def refuse_custom() -> NotOffered:
    """What whoever wants another level is told."""
    return NotOffered(ONE_TABLE, hint="Give people one of the four in each team, and narrow what they may use by resource rules.")


def refuse_overrides() -> NotOffered:
    """What whoever wants to give one person a single permission is told."""
    return NotOffered(
        "Permissions come from a person's role in a team and cannot be given or denied one by one.",
        hint="Give the person another level, or narrow what a level may use by resource rules.",
    )


def _names() -> str:
    return ", ".join(level.name for level in LEVELS)
