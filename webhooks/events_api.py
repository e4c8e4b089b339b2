"""What happens, told to browsers and scripts as it happens."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.html import format_html, format_html_join
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import visits
from accounts.api import AnyAnswer, caller_in, number
from accounts.errors import InvalidInput
from accounts.permissions import needs
from accounts.roles import Right
from webhooks import eventstream
from webhooks.eventstream import Listener, Poll, Seat

LONGEST_NUMBER = 18
LONGEST_WAIT = 60.0
USUAL_WAIT = 25.0
RECENT = 10


class SeatedResponse(StreamingHttpResponse):
    """A stream for either kind of server, whose seat is free again when it is closed, whether anybody read it or not."""

    def __init__(self, request: HttpRequest, stream: Listener | Poll, seat: Seat, *, content_type: str) -> None:
        pieces: Iterator[bytes] | AsyncIterator[bytes] = stream.live() if isinstance(request, ASGIRequest) else stream.waited()
        super().__init__(pieces, content_type=content_type, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._seat = seat

    def close(self) -> None:
        super().close()
        self._seat.give_up()


class Watching(APIView):
    """Every member hears of the team's jobs; details of others' jobs are left out where the team wants it so."""

    permission_classes = [needs(Right.READ, permission="job.view.own")]
    content_negotiation_class = AnyAnswer


class Events(Watching):
    @extend_schema(responses={(200, "text/event-stream"): str})
    def get(self, request: Request) -> StreamingHttpResponse:
        """A frame for every committed change of the team's jobs, and for how far they are; behind `Last-Event-ID` where it is sent.

        It stays open, with a heartbeat every 15 s, until the caller signs out or is let in no more. At most 5 a person.
        """
        seen = request.headers.get("Last-Event-ID", "")
        behind = int(seen) if seen.isascii() and seen.isdecimal() and len(seen) <= LONGEST_NUMBER else None
        seat = Seat(caller_in(request).user.pk)
        listener = Listener(visits.begin(request._request, caller_in(request)), seat, number=behind)
        return SeatedResponse(request._request, listener, seat, content_type="text/event-stream")


class Broadcast(Watching):
    @extend_schema(responses={(200, "application/json"): dict[str, Any]})
    def get(self, request: Request) -> StreamingHttpResponse:
        """The events behind `last_event_index`, for who cannot stream: it waits for some up to `timeout` seconds, 25 unless said.

        `next_index` is what to ask with the next time. 0 asks for the newest ones.
        """
        behind = number(request, "last_event_index", default=0, least=0, most=10**LONGEST_NUMBER)
        seconds, seat = _seconds(request), Seat(caller_in(request).user.pk)
        poll = Poll(caller_in(request), seat, number=behind, seconds=seconds)
        return SeatedResponse(request._request, poll, seat, content_type="application/json")


class RecentEvents(Watching):
    @extend_schema(responses={(200, "text/html"): str})
    def get(self, request: Request) -> HttpResponse:
        """The last ten events as a piece of HTML."""
        found = eventstream.newest(caller_in(request), RECENT)
        lines = format_html_join("", "<li>{} {} <time>{}</time></li>", ((e.job.job_id, e.state or "note", e.at.isoformat()) for e in found))
        return HttpResponse(format_html('<ul class="events">{}</ul>', lines), headers={"Cache-Control": "no-store"})


def _seconds(request: Request) -> float:
    given = request.query_params.get("timeout") or USUAL_WAIT
    try:
        return min(LONGEST_WAIT, max(0.0, float(given)))
    except ValueError as error:
        raise InvalidInput("timeout must be a number of seconds.", field="timeout") from error
