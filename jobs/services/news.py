"""Which of the provider's documented events something said of a job is, counted once for each word.

Replicate's webhook bodies carry no event name, so it is inferred. Source: replicate-api.md 6.1, simpletuner-api.md 9.1.
"""

from datetime import datetime

from django.db.models import Case, F, Q, Value, When

from jobs.models import Job, ProviderEvent
from jobs.replicate.predictions import Prediction
from jobs.states import ENDS, TERMINAL, EventWord, State


def word_of(job: Job, prediction: Prediction, *, log_grew: bool) -> EventWord:
    """The event that a webhook with this body most likely is: an end, else a new output, else more of the log, else the start.

    A text that a poll had brought before is `logs` all the same, once the start was heard: there is nothing else it could be.
    """
    if prediction.state in TERMINAL:
        return ENDS[State(prediction.state)]
    asked = prediction.raw.get("webhook_events_filter")
    may_be = asked if isinstance(asked, list) and asked else EventWord.values
    heard = set(job.provider_events.filter(deliveries__gt=0).values_list("event", flat=True))
    if prediction.output and EventWord.OUTPUT in may_be and (EventWord.OUTPUT not in heard or not log_grew):
        return EventWord.OUTPUT
    if prediction.logs and EventWord.LOGS in may_be and (log_grew or EventWord.START in heard):
        return EventWord.LOGS
    return EventWord.START


def hear(job: Job, prediction: Prediction, *, log_grew: bool, now: datetime) -> EventWord:
    """Count a webhook that has come, and return its event. What it says is told when it is applied; its log is here already.

    Call it with the job locked.
    """
    word = word_of(job, prediction, log_grew=log_grew)
    if not ProviderEvent.objects.filter(job=job, event=word).update(deliveries=F("deliveries") + 1):
        ProviderEvent.objects.create(job=job, event=word, cause="webhook", at=now, last_at=now, deliveries=1)
    if log_grew:
        _count_log(job, cause="webhook", now=now)
    return word


def note(job: Job, prediction: Prediction, *, log_grew: bool, cause: str, now: datetime) -> None:
    """Keep which events this tells of for the first time, whoever brought it. Call it with the job locked and moved."""
    told = _told_by(job, prediction)
    if told:
        known = set(job.provider_events.filter(times__gt=0).values_list("event", flat=True))
        for word in [word for word in told if word not in known]:
            _count(job, word, cause=cause, now=now)
    if log_grew:
        _count_log(job, cause=cause, now=now)


def _told_by(job: Job, prediction: Prediction) -> list[EventWord]:
    """The events, but for the log's, that must have happened for the provider to say this."""
    told = []
    # A run that is cancelled before it begins has a start and an end in the provider's words as well.
    if prediction.state == State.RUNNING or (prediction.state in (State.COMPLETED, State.FAILED) and prediction.started_at):
        told.append(EventWord.START)
    if prediction.output:
        told.append(EventWord.OUTPUT)
    if prediction.is_terminal and prediction.state == job.state:
        told.append(ENDS[State(job.state)])
    return told


def _count_log(job: Job, *, cause: str, now: datetime) -> None:
    _count(job, EventWord.LOGS, cause=cause, now=now)


def _count(job: Job, word: EventWord, *, cause: str, now: datetime) -> None:
    """One more piece of news under this word; the first one says who brought it."""
    is_first = Q(times=0)
    first = {
        "cause": Case(When(is_first, then=Value(cause)), default=F("cause")),
        "at": Case(When(is_first, then=Value(now)), default=F("at")),
    }
    if not ProviderEvent.objects.filter(job=job, event=word).update(times=F("times") + 1, last_at=now, **first):
        ProviderEvent.objects.create(job=job, event=word, cause=cause, at=now, last_at=now, times=1)
