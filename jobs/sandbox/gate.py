"""The gate in front of the API: whose call it is, whether its budget allows it, and what is to go wrong with it on demand."""

from __future__ import annotations

import socket
import sqlite3
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from . import problems
from .accounts import Accounts
from .budgets import Budgets
from .rules import Rules

Endpoint = Callable[[Request, sqlite3.Row], Awaitable[Response]]


class HangUp(Response):
    """No answer: the connection is reset, which needs `request.state.connection` (see __main__.Protocol)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["state"]["connection"]
        # Not lingering is what makes the kernel send a reset and not a polite end.
        connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class Gate:
    """Guards endpoints: they are called with the caller's account, and only when the rules let them."""

    def __init__(self, accounts: Accounts, rules: Rules):
        self.accounts = accounts
        self.rules = rules
        self.budgets = Budgets()

    def guard(self, endpoint: Endpoint, call: str = "other") -> Callable[[Request], Awaitable[Response]]:
        """Put the gate in front of an endpoint; `call` is create, poll or other."""

        async def guarded(request: Request) -> Response:
            account = self.accounts.authenticate(request.headers.get("authorization"))
            name = account["username"]
            left = self._spend(name, call)
            status = self.rules.use("account_status", name) or self._rule("status", call, name)
            if status is not None:
                raise problems.forced(status)
            fate = self._rule("answer", call, name)
            if fate == "reset_before":
                await _hear_out(request)
                return HangUp()
            response = await endpoint(request, account)
            if fate == "reset_after":
                return HangUp()
            if fate == "truncated":
                response = _cut(response)
            response.headers.update(left)
            return response

        return guarded

    def _spend(self, account: str, call: str) -> dict[str, str]:
        limits = self.rules.use("rate_limits", account)
        return {} if limits == "off" else self.budgets.spend(account, call, low_credit=limits == "low_credit")

    def _rule(self, subject: str, call: str, account: str) -> Any:
        """Look up what is to happen to a call: by the rule for creates if it is one, else by the rule for all calls."""
        own = self.rules.use(f"create_{subject}", account) if call == "create" else None
        return self.rules.use(f"call_{subject}", account) if own is None else own


async def _hear_out(request: Request) -> None:
    """Drop the rest of a request; a client that is still writing when the connection is reset may take it for a polite end."""
    async for _ in request.stream():
        pass


def _cut(response: Response) -> Response:
    """Send half of an answer's body as if it were all of it."""
    half = response.body[: len(response.body) // 2]
    return Response(half, response.status_code, media_type=response.media_type or response.headers.get("content-type"))
