"""How the queue may run now: the numbers and modes of the platform, of each provider and of each team."""

from dataclasses import dataclass, field

from accounts.models import Team
from jobs.models import QueueSettings
from jobs.models.admission import QueueMode

PLATFORM_CONCURRENCY = 50
TEAM_CONCURRENCY = 10
PERSON_CONCURRENCY = 5


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """How many jobs may run at the same time where a team is concerned."""

    platform: int
    team: int
    person: int


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All rows as of one moment. A row that nobody has written counts as one that says nothing."""

    platform: QueueSettings
    by_provider: dict[str, QueueSettings] = field(default_factory=dict)
    by_team: dict[int, QueueSettings] = field(default_factory=dict)

    @property
    def max_concurrent(self) -> int:
        return self.platform.max_concurrent or PLATFORM_CONCURRENCY

    @property
    def is_fair(self) -> bool:
        return self.platform.enable_fair_share

    def numbers_of(self, team_id: int | None) -> Numbers:
        """A team's numbers, or without one those that every team begins with."""
        return Numbers(platform=self.max_concurrent, team=self.team_limit(team_id), person=self.person_limit(team_id))

    def team_limit(self, team_id: int | None) -> int:
        own = self.by_team.get(team_id or 0)
        return _least(own.own_team_max if own else None, given_team(own, self.platform))

    def person_limit(self, team_id: int | None) -> int:
        own = self.by_team.get(team_id or 0)
        return _least(own.own_user_max if own else None, given_person(own, self.platform))

    def pauses(self, team_id: int, provider: str) -> list[QueueSettings]:
        """The rows that hold a job of this team at this provider back, the widest first."""
        return [row for row in self.over(team_id, provider) if row.mode == QueueMode.PAUSED]

    def over(self, team_id: int | None, provider: str) -> list[QueueSettings]:
        """The rows that concern a job of this team at this provider, the widest first."""
        rows = [self.platform, self.by_provider.get(provider), self.by_team.get(team_id or 0)]
        return [row for row in rows if row is not None]


def read() -> Rules:
    """The rules as they are now, in one question."""
    platform, by_provider, by_team = QueueSettings(), {}, {}
    for row in QueueSettings.objects.all():
        if row.team_id is not None:
            by_team[row.team_id] = row
        elif row.provider:
            by_provider[row.provider] = row
        else:
            platform = row
    return Rules(platform=platform, by_provider=by_provider, by_team=by_team)


def row_of(team: Team | None, provider: str = "") -> QueueSettings:
    """The row of a team, of a provider, or of the platform, made where there was none, and locked until the transaction ends."""
    QueueSettings.objects.get_or_create(team=team, provider=provider)
    return QueueSettings.objects.select_for_update(no_key=True, of=("self",)).select_related("team").get(team=team, provider=provider)


def given_team(own: QueueSettings | None, platform: QueueSettings) -> int:
    """What the platform's staff allow a team: its own number, else the platform's, else the shipped one."""
    return (own.team_max_concurrent if own else None) or platform.team_max_concurrent or TEAM_CONCURRENCY


def given_person(own: QueueSettings | None, platform: QueueSettings) -> int:
    """The same for a person in the team."""
    return (own.user_max_concurrent if own else None) or platform.user_max_concurrent or PERSON_CONCURRENCY


def _least(lowered: int | None, given: int) -> int:
    return min(lowered, given) if lowered else given
