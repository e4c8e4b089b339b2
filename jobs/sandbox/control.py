"""The control channel: how tests and people tell the sandbox what to do, and look behind its API. Not part of Replicate."""

from __future__ import annotations

import html
import json
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .accounts import render as render_account
from .clock import stamp
from .rules import EVERYBODY, RULES

if TYPE_CHECKING:
    from .app import Sandbox

HELP = """\
The control channel of Tunehouse's Replicate sandbox. It speaks plain JSON and asks for no token: keep it on loopback.

GET  /control/                     a page with both clocks, the accounts and the latest predictions
GET  /control/help                 this text
GET  /control/accounts             the accounts
POST /control/tokens               {{"token": "r8_...", "account": "name"}} lets a token in; a new account is made if need be
GET  /control/settings             the rules in force
POST /control/settings             {{"account"?: NAME or token, "prediction"?: ID, "times"?: N, RULE: VALUE, ...}}
                                   sets rules for a prediction, an account, or (without either) everybody;
                                   "times" makes them vanish after N uses, the value null lifts a rule
POST /control/reset                {{"account"?: NAME or token}} lifts all rules, of an account or of all
GET  /control/predictions          all predictions, newest first: [{{id, account, status, created_at}}]
GET  /control/predictions/ID       {{id, account, status, error, output, input, position, elapsed_seconds, rules,
                                   files: [{{key, size, sha256}}] as the trainer wrote them to its own disk,
                                   webhooks: [{{webhook_id, event, status, state, attempt, response_status, error, at}}]}}
POST /control/predictions/ID/purge removes input, output and logs now, as Replicate does an hour after the end
GET  /control/files/ID             {{download_url}}: a signed link, good for an hour

Rules. Those marked * are fixed for a prediction when it is created, the others are looked up whenever they apply.
{rules}
"""


class Mistake(Exception):
    """The caller of the control channel asked for something that there is not; the text says what there is."""


async def answer_mistake(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


def routes(sandbox: Sandbox) -> list[Route]:
    """Make the routes of the control channel."""
    control = Control(sandbox)
    return [
        Route("/control", control.page),
        Route("/control/", control.page),
        Route("/control/help", control.help),
        Route("/control/accounts", control.accounts),
        Route("/control/tokens", control.add_token, methods=["POST"]),
        Route("/control/settings", control.settings, methods=["GET", "POST"]),
        Route("/control/reset", control.reset, methods=["POST"]),
        Route("/control/predictions", control.predictions),
        Route("/control/predictions/{id}", control.prediction),
        Route("/control/predictions/{id}/purge", control.purge, methods=["POST"]),
        Route("/control/files/{id}", control.file),
    ]


class Control:
    def __init__(self, sandbox: Sandbox):
        self.sandbox = sandbox

    async def help(self, request: Request) -> Response:
        from .runner import PINNED_RULES

        lines = [
            f"  {name}{'*' if name in PINNED_RULES else ''}: {rule.takes} (default {json.dumps(rule.default)})\n      {rule.means}"
            for name, rule in RULES.items()
        ]
        return PlainTextResponse(HELP.format(rules="\n".join(lines)))

    async def accounts(self, request: Request) -> Response:
        rows = self.sandbox.store.all("SELECT * FROM accounts ORDER BY username")
        return JSONResponse([render_account(row) for row in rows])

    async def add_token(self, request: Request) -> Response:
        asked = await _json(request)
        token, name = asked.get("token"), asked.get("account")
        if not (isinstance(token, str) and token and isinstance(name, str) and name):
            raise Mistake('Give a token and an account: {"token": "r8_...", "account": "name"}.')
        self.sandbox.accounts.add_token(token, name)
        return JSONResponse({"account": name}, 201)

    async def settings(self, request: Request) -> Response:
        rules = self.sandbox.rules
        if request.method == "POST":
            asked = await _json(request)
            scope, times = self._scope(asked), _times(asked)
            changes = {name: value for name, value in asked.items() if name not in ("account", "prediction", "times")}
            _check(changes)
            for name, value in changes.items():
                if value is None:
                    rules.lift(scope, name)
                else:
                    rules.set(scope, name, value, times)
        return JSONResponse({"rules": rules.in_force()})

    async def reset(self, request: Request) -> Response:
        asked = await _json(request)
        scope = self._scope(asked) if asked else None
        return JSONResponse({"lifted": self.sandbox.rules.lift(scope)})

    def _scope(self, asked: dict[str, Any]) -> str:
        if asked.get("prediction") is not None:
            return str(self._row(str(asked["prediction"]))["id"])
        if asked.get("account") is None:
            return EVERYBODY
        account = self.sandbox.accounts.named(str(asked["account"]))
        if account is None:
            raise Mistake("There is no such account; GET /control/accounts lists them, POST /control/tokens makes one.")
        return str(account["username"])

    async def predictions(self, request: Request) -> Response:
        rows = self.sandbox.store.all("SELECT id, account, status, created_at FROM predictions ORDER BY seq DESC LIMIT 1000")
        return JSONResponse([{**dict(row), "created_at": stamp(row["created_at"])} for row in rows])

    async def prediction(self, request: Request) -> Response:
        row = self._row(request.path_params["id"])
        facts = json.loads(row["facts"])
        shown = {
            **{name: row[name] for name in ("id", "account", "status", "error", "output", "position")},
            "elapsed_seconds": row["elapsed"],
            "input": json.loads(row["input"]),
            "rules": json.loads(row["rules"]),
            "files": facts.get("files", []),
            "webhooks": self.sandbox.webhooks.history(row["id"]),
        }
        return JSONResponse(shown)

    async def purge(self, request: Request) -> Response:
        row = self._row(request.path_params["id"])
        return JSONResponse({"purged": self.sandbox.predictions.purge(time.time(), row["id"])})

    async def file(self, request: Request) -> Response:
        row = self.sandbox.store.one("SELECT * FROM files WHERE id = ?", request.path_params["id"])
        if row is None:
            raise Mistake("There is no such file.")
        return JSONResponse({"download_url": self.sandbox.files.download_url(row, time.time() + 3600)})

    def _row(self, prediction_id: str) -> sqlite3.Row:
        row = self.sandbox.store.one("SELECT * FROM predictions WHERE id = ?", prediction_id)
        if row is None:
            raise Mistake("There is no such prediction; GET /control/predictions lists them.")
        return row

    async def page(self, request: Request) -> Response:
        store, clock = self.sandbox.store, self.sandbox.clock
        accounts = store.all(
            "SELECT username, count(id) AS predictions FROM accounts LEFT JOIN predictions ON account = username "
            "GROUP BY username ORDER BY username"
        )
        latest = store.all("SELECT id, account, status, elapsed, error FROM predictions ORDER BY seq DESC LIMIT 50")
        return HTMLResponse(
            "<!doctype html><html lang=en><meta charset=utf-8><title>Sandbox</title><h1>Replicate sandbox</h1>"
            f"<p>Wall clock {stamp(time.time())}; simulated clock {clock.simulated():.0f} s since start, "
            f"{clock.speed:g} times as fast. <a href=/control/help>Help</a></p>"
            f"<h2>Accounts</h2>{_table(accounts)}<h2>Predictions</h2>{_table(latest)}</html>"
        )


def _table(rows: list[sqlite3.Row]) -> str:
    if not rows:
        return "<p>None yet.</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0].keys())  # noqa: SIM118 (a Row iterates over its values)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table border=1><tr>{head}</tr>{body}</table>"


async def _json(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        asked = json.loads(body or b"{}")
    except ValueError as error:
        raise Mistake(f"The body is not JSON: {error}.") from error
    if not isinstance(asked, dict):
        raise Mistake("The body must be a JSON object.")
    return asked


def _times(asked: dict[str, Any]) -> int | None:
    times = asked.get("times")
    if times is not None and (type(times) is not int or times < 1):
        raise Mistake("times must be a whole number from 1 on.")
    return times


def _check(changes: dict[str, Any]) -> None:
    if not changes:
        raise Mistake(f"Name at least one rule: {', '.join(RULES)}. GET /control/help describes them.")
    for name, value in changes.items():
        if name not in RULES:
            raise Mistake(f"There is no rule {name!r}; there are {', '.join(RULES)}.")
        if value is not None and not RULES[name].accepts(value):
            raise Mistake(f"{name} takes {RULES[name].takes}.")
