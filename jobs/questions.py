"""What of the spending is asked for, as it stands in an address: whose, of which days, for what."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlencode

from accounts.callers import Caller
from accounts.errors import InvalidInput
from accounts.models import Team
from accounts.roles import Right
from jobs import spans
from jobs.models.job import JobQuerySet
from jobs.spans import Span
from jobs.states import State

# In the place of a token: what people submitted themselves.
BY_PEOPLE = "none"


@dataclass(frozen=True, kw_only=True)
class Question:
    """The team's money of the span, or only a part of it. None asks for all; a `token_id` of 0 for jobs without a token.

    `is_own` is that of somebody who may not see others' money: it asks for their own jobs, whatever else it says.
    """

    team: Team
    span: Span
    is_own: bool = False
    person_id: int | None = None
    preset: str | None = None
    hardware: str | None = None
    token_id: int | None = None
    only_failed: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether money that no job stands behind belongs to the answer."""
        return not self.only_failed and (self.person_id, self.preset, self.hardware, self.token_id) == (None, None, None, None)

    def jobs(self) -> JobQuerySet:
        """The jobs that pass, whenever they were paid. Those that were taken out of the lists are among them: they were paid."""
        wanted = {
            "submitted_by": self.person_id,
            "config_name": self.preset,
            "trainer__profile": self.hardware,
            "token": self.token_id or None,
            "state": State.FAILED if self.only_failed else None,
        }
        jobs = self.team.jobs.filter(**{name: value for name, value in wanted.items() if value is not None})
        return jobs.filter(token=None) if self.token_id == 0 else jobs

    def with_lines(self) -> JobQuerySet:
        """The same, once for each of their ledger lines in the span."""
        return self.jobs().filter(
            hold__lines__team=self.team, hold__lines__at__gte=self.span.starts_at, hold__lines__at__lt=self.span.ends_at
        )

    @property
    def days(self) -> dict[str, str]:
        """The span as an address says it."""
        span = self.span
        return {"span": span.word} if span.word else {"from": span.first.isoformat(), "to": span.last.isoformat()}

    @property
    def filters(self) -> dict[str, str]:
        """What else it asks for, as an address says it."""
        words = {
            "person": None if self.is_own else self.person_id,
            "preset": self.preset,
            "hardware": self.hardware,
            "token": BY_PEOPLE if self.token_id == 0 else self.token_id,
            "failed": 1 if self.only_failed else None,
        }
        return {name: str(word) for name, word in words.items() if word is not None}

    def query(self, *, days: Mapping[str, str] | None = None, **narrower: str) -> str:
        """The question as an address says it, without the question mark: of other days, or narrowed by further filters."""
        return urlencode({**(self.days if days is None else days), **self.filters, **narrower})


def of(caller: Caller, given: Mapping[str, str], *, now: datetime) -> Question:
    """What an address asks for, as far as the caller may know it: without Right.SPEND it is their own jobs.

    Raises InvalidInput, and NotPermitted for somebody else's money.
    """
    asked = about(caller, spans.asked(given, caller.team, now=now))
    person_id = _key(given, "person")
    if asked.is_own and person_id not in (None, caller.user.pk):
        caller.require(Right.SPEND)
    return replace(
        asked,
        person_id=caller.user.pk if asked.is_own else person_id,
        # An empty one asks for jobs without a name for their config.
        preset=_text(given, "preset"),
        hardware=_text(given, "hardware") or None,
        token_id=0 if given.get("token") == BY_PEOPLE else _key(given, "token"),
        only_failed=given.get("failed") in ("1", "true"),
    )


def about(caller: Caller, span: Span) -> Question:
    """All that the caller may know of a span: the team's money, without Right.SPEND their own."""
    is_own = not caller.may(Right.SPEND)
    return Question(team=caller.team, span=span, is_own=is_own, person_id=caller.user.pk if is_own else None)


def _text(given: Mapping[str, str], name: str) -> str | None:
    text = given.get(name)
    if text is not None and "\0" in text:
        raise InvalidInput(f"{name} has a character that no name has.", field=name)
    return text


def _key(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise InvalidInput(f"{name} must be a whole number, as the report's own links have it.", field=name)
    return int(text)
