"""The states of a job and the only moves between them."""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class State(TextChoices):
    BLOCKED = "blocked", _("waiting for approval")
    PENDING = "pending", _("waiting")
    UPLOADING = "uploading", _("uploading")
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
ACTIVE = frozenset(State) - TERMINAL
# The provider may know the job, or may be about to.
LAUNCHED = frozenset({State.UPLOADING, State.QUEUED, State.RUNNING})

NEXT: dict[State, frozenset[State]] = {
    State.BLOCKED: frozenset({State.PENDING, State.CANCELLED, State.FAILED}),
    State.PENDING: frozenset({State.UPLOADING, State.FAILED, State.CANCELLED}),
    State.UPLOADING: frozenset({State.QUEUED, State.RUNNING}) | TERMINAL,
    State.QUEUED: frozenset({State.RUNNING}) | TERMINAL,
    State.RUNNING: TERMINAL,
}


def before(state: State) -> frozenset[State]:
    """The states from which a job may move to `state`."""
    return frozenset(start for start, ends in NEXT.items() if state in ends)


class EventWord(TextChoices):
    """The events that the provider's webhooks tell of, by the words that SimpleTuner documents. Not translated: people grep for them."""

    START = "start", "start"
    LOGS = "logs", "logs"
    OUTPUT = "output", "output"
    COMPLETED = "completed", "completed"
    FAILED = "failed", "failed"
    CANCELED = "canceled", "canceled"


# The word of each end, and the state that a job is in after it.
ENDS = {State.COMPLETED: EventWord.COMPLETED, State.FAILED: EventWord.FAILED, State.CANCELLED: EventWord.CANCELED}


class WaitingReason(TextChoices):
    """Why a job that is admitted is not at the provider yet, out of a fixed list."""

    NONE = "", ""
    TURN = "turn", _("It waits for its turn.")
    TEAM_FULL = "team_full", _("The team already runs as many jobs as it may.")
    PERSON_FULL = "person_full", _("This person already runs as many jobs as they may.")
    PLATFORM_FULL = "platform_full", _("The platform already runs as many jobs as it may.")
    PAUSED = "paused", _("The queue is paused.")
    PROVIDER_PAUSED = "provider_paused", _("Jobs for this provider are paused.")
    NOT_BEFORE = "not_before", _("Its start time has not come yet.")
    APPROVAL = "approval", _("It waits for approval.")
    PROVIDER_DOWN = "provider_down", _("The provider cannot be reached. It goes on when the provider is back.")
    PROVIDER_BUSY = "provider_busy", _("The provider asked us to wait.")
    CREDENTIAL = "credential", _("The provider refused the team's token. Save a valid one under Settings.")
    NO_CREDIT = "no_credit", _("The team's account at the provider is out of credit.")
    UNCERTAIN = "uncertain", _("It is not known whether the provider took the job. We are finding out before anything is sent again.")
    DISK_FULL = "disk_full", _("The server's disk is full. An administrator must make room.")
