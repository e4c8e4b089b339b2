"""A job's timeline as its page shows it: our moves, and what the provider's documented events mean, in one row of lines."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from jobs.models import JobEvent, ProviderEvent
from jobs.states import ENDS, EventWord, State

MEANINGS: dict[str, str | Promise] = {
    EventWord.START: _("Replicate began the run."),
    EventWord.LOGS: _("The log grew."),
    EventWord.OUTPUT: _("The trainer named its result."),
    EventWord.COMPLETED: _("The run ended well."),
    EventWord.FAILED: _("The run ended with an error."),
    EventWord.CANCELED: _("The run was stopped."),
}
# The event that says the same as one of our moves stands in that move's line.
WORD_OF_STATE: dict[str, str] = {State.RUNNING.value: EventWord.START, **{state.value: word for state, word in ENDS.items()}}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: a move or a remark of ours (`move`), one of the provider's events (`event`) with its meaning, or both at once."""

    at: datetime
    cause: str
    move: JobEvent | None = None
    event: ProviderEvent | None = None

    @property
    def icon(self) -> str:
        return (self.move and self.move.state) or "event"

    @property
    def meaning(self) -> str | Promise:
        return MEANINGS[self.event.event] if self.event else ""

    @property
    def shows_deliveries(self) -> bool:
        """Whether the number of webhooks says more than the cause does: not every bit of news came by one, or came again."""
        event = self.event
        return event is not None and event.deliveries > 0 and (event.cause != "webhook" or event.deliveries != event.times)


def lines(moves: Iterable[JobEvent], events: Iterable[ProviderEvent]) -> list[Line]:
    """Everything in the order in which it happened; each of the provider's events once."""
    left = {event.event: event for event in events}
    found = []
    for move in moves:
        # Each state is moved to at most once, and an event is taken by the first that is like it.
        event = left.pop(WORD_OF_STATE.get(move.state, ""), None)
        found.append(Line(at=move.at, cause=move.cause, move=move, event=event))
    found += [Line(at=event.at, cause=event.cause, event=event) for event in left.values()]
    return sorted(found, key=lambda line: line.at)
