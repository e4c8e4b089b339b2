"""The control channel: how tests and people tell the sandbox what to do, and look behind its API. Not part of Replicate."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from . import page
from .accounts import HUB_ROLES
from .accounts import render as render_account
from .clock import stamp
from .reading import json_of
from .rules import EVERYBODY, FOR_EVERYBODY, RULES, number
from .runner import PINNED_RULES

if TYPE_CHECKING:
    from .app import Sandbox

HELP = """\
The control channel of Tunehouse's sandbox, the stand-in for Replicate and the Hub. It speaks plain JSON and asks for no token:
keep it on loopback. The page /control/ has forms for all that can be told; from a shell:
python -m jobs.sandbox.control --url ADDRESS set RULE=VALUE ...

The accounts team1 to team9 are there from the start, with the tokens r8_Sandbox0Sandbox0Sandbox0Sandbox0Team1 ... and, at the Hub,
hf_Sandbox0Sandbox0Sandbox0Sandbox0W1 ... (may write), hf_...0R1 ... (only read), hf_...0F1 ... (fine-grained, may write).

GET  /control/                     a page with both clocks, the rules, the accounts, the latest predictions and the Hub's files
GET  /control/help                 this text
GET  /control/accounts             the accounts
POST /control/tokens               {{"token": "r8_...", "account": "name"}} lets a token in; a new account is made if need be;
                                   {{"token": "hf_...", "account": "name", "role"?: "write" | "read" | "fineGrained"}} at the Hub
GET  /control/settings             the rules in force
POST /control/settings             {{"account"?: NAME or token, "prediction"?: ID, "times"?: N, RULE: VALUE, ...}}
                                   sets rules for a prediction, an account, or (without either) everybody;
                                   "times" makes them vanish after N uses, the value null lifts a rule
POST /control/reset                {{"account"?: NAME or token}} lifts all rules, of an account or of all
POST /control/rotate               {{"account": NAME or token, "overlap_seconds"?: N}} changes the webhook secret;
                                   for N seconds (default a day) both the old and the new one sign
GET  /control/predictions          all predictions, newest first: [{{id, account, status, created_at}}]
GET  /control/predictions/ID       {{id, account, status, error, output, input, position, elapsed_seconds, rules,
                                   files: [{{key, size, sha256}}] as the trainer wrote them to its own disk,
                                   webhooks: [{{webhook_id, event, status, state, attempt, response_status, error, at}}]}}
POST /control/predictions/ID/purge removes input, output and logs now, as Replicate does an hour after the end
GET  /control/files/ID             {{download_url}}: a signed link, good for an hour
GET  /control/hub                  the Hub's repositories: [{{repo, account, private, commit, files: [{{path, size, sha256, lfs}}]}}]

Rules. Those marked * are fixed for a prediction when it is created; for a single prediction they can be changed while it waits.
The others are looked up whenever they apply.
{rules}
"""
OVERLAP = 24 * 3600  # wall seconds that an old webhook secret signs beside the new one


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
        Route("/control/settings", control.settings, methods=["GET"]),
        *(Route(f"/control/{what}", control.tell, methods=["POST"]) for what in ("settings", "reset", "rotate", "tokens")),
        Route("/control/form/{what}", control.form, methods=["POST"]),
        Route("/control/predictions", control.predictions),
        Route("/control/predictions/{id}", control.prediction),
        Route("/control/predictions/{id}/purge", control.purge, methods=["POST"]),
        Route("/control/files/{id}", control.file),
        Route("/control/hub", control.hub),
    ]


class Control:
    def __init__(self, sandbox: Sandbox):
        self.sandbox = sandbox

    async def help(self, request: Request) -> Response:
        defaults = self.sandbox.rules.defaults
        lines = [
            f"  {name}{'*' if name in PINNED_RULES else ''}: {rule.takes} (default {json.dumps(defaults[name])})\n      {rule.means}"
            for name, rule in RULES.items()
        ]
        return PlainTextResponse(HELP.format(rules="\n".join(lines)))

    async def accounts(self, request: Request) -> Response:
        rows = self.sandbox.store.all("SELECT * FROM accounts ORDER BY username")
        return JSONResponse([render_account(row) for row in rows])

    async def settings(self, request: Request) -> Response:
        return JSONResponse({"rules": self.sandbox.rules.in_force()})

    async def tell(self, request: Request) -> Response:
        """Do what a JSON object asks."""
        what = request.url.path.rpartition("/")[2]
        return JSONResponse(self._obey(what, await _json(request)), 201 if what == "tokens" else 200)

    def _obey(self, what: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Do one of the things that the sandbox can be told, and say what was done. Raises Mistake."""
        match what:
            case "settings":
                return self._set(asked)
            case "reset":
                return {"lifted": self.sandbox.rules.lift(self._account(asked["account"]) if asked.get("account") else None)}
            case "rotate":
                return self._rotate(asked)
            case "tokens":
                return self._add_token(asked)
            case "purge":
                row = self._row(str(asked.get("prediction", "")))
                return {"purged": self.sandbox.predictions.purge(time.time(), row["id"])}
        raise Mistake("The sandbox can be told settings, reset, rotate, tokens and purge.")

    def _set(self, asked: dict[str, Any]) -> dict[str, Any]:
        scope, times = self._scope(asked), _times(asked)
        changes = {name: value for name, value in asked.items() if name not in ("account", "prediction", "times")}
        _check(changes, scope)
        for name, value in changes.items():
            if asked.get("prediction") and name in PINNED_RULES:
                self._repin(scope, name, value)
            elif value is None:
                self.sandbox.rules.lift(scope, name)
            else:
                self.sandbox.rules.set(scope, name, value, times)
        return {"rules": self.sandbox.rules.in_force()}

    def _repin(self, prediction: str, name: str, value: Any) -> None:
        if not self.sandbox.runner.repin(prediction, name, self.sandbox.rules.defaults[name] if value is None else value):
            raise Mistake(f"{name} is fixed once a prediction has started.")

    def _rotate(self, asked: dict[str, Any]) -> dict[str, Any]:
        account, seconds = self._account(asked.get("account")), asked.get("overlap_seconds", OVERLAP)
        if not number(0)(seconds):
            raise Mistake("overlap_seconds takes a number from 0 on.")
        self.sandbox.accounts.rotate_secret(account, seconds)
        return {"account": account, "overlap_seconds": seconds}

    def _add_token(self, asked: dict[str, Any]) -> dict[str, Any]:
        token, name = asked.get("token"), asked.get("account")
        if not (isinstance(token, str) and token and isinstance(name, str) and name):
            raise Mistake('Give a token and an account: {"token": "r8_...", "account": "name"}.')
        if not token.startswith("hf_"):
            self.sandbox.accounts.add_token(token, name)
            return {"account": name}
        role = asked.get("role", "write")
        if role not in HUB_ROLES:
            raise Mistake(f"role takes {' | '.join(HUB_ROLES)}.")
        self.sandbox.accounts.add_hub_token(token, name, role)
        return {"account": name, "role": role}

    def _scope(self, asked: dict[str, Any]) -> str:
        if asked.get("prediction") is not None:
            return str(self._row(str(asked["prediction"]))["id"])
        return EVERYBODY if asked.get("account") is None else self._account(asked["account"])

    def _account(self, name: Any) -> str:
        account = self.sandbox.accounts.named(str(name))
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
            **{name: row[name] for name in ("id", "account", "status", "error", "position")},
            "elapsed_seconds": row["elapsed"],
            "input": json.loads(row["input"]),
            "output": json.loads(row["output"] or "null"),
            "rules": json.loads(row["rules"]),
            "files": facts.get("files", []),
            "webhooks": self.sandbox.webhooks.history(row["id"]),
        }
        return JSONResponse(shown)

    async def purge(self, request: Request) -> Response:
        return JSONResponse(self._obey("purge", {"prediction": request.path_params["id"]}))

    async def file(self, request: Request) -> Response:
        row = self.sandbox.store.one("SELECT * FROM files WHERE id = ?", request.path_params["id"])
        if row is None:
            raise Mistake("There is no such file.")
        return JSONResponse({"download_url": self.sandbox.files.download_url(row, time.time() + 3600)})

    async def hub(self, request: Request) -> Response:
        return JSONResponse(self.sandbox.repositories.inventory())

    def _row(self, prediction_id: str) -> sqlite3.Row:
        row = self.sandbox.store.one("SELECT * FROM predictions WHERE id = ?", prediction_id)
        if row is None:
            raise Mistake("There is no such prediction; GET /control/predictions lists them.")
        return row

    # The page

    async def page(self, request: Request) -> Response:
        return HTMLResponse(page.render(self.sandbox))

    async def form(self, request: Request) -> Response:
        """Do what a form of the page asks, by the same ways that take JSON; then show the page again."""
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise Mistake("Forms of other sites are not taken.")
        asked = page.read_rules(dict(parse_qsl((await request.body()).decode())))
        try:
            self._obey(request.path_params["what"], asked)
        except Mistake as mistake:
            return HTMLResponse(page.render(self.sandbox, str(mistake)), 400)
        return RedirectResponse("/control/", 303)


async def _json(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        asked = json_of(body or b"{}")
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


def _check(changes: dict[str, Any], scope: str) -> None:
    if not changes:
        raise Mistake(f"Name at least one rule: {', '.join(RULES)}. GET /control/help describes them.")
    for name, value in changes.items():
        if name not in RULES:
            raise Mistake(f"There is no rule {name!r}; there are {', '.join(RULES)}.")
        if value is not None and not RULES[name].accepts(value):
            raise Mistake(f"{name} takes {RULES[name].takes}.")
        if name in FOR_EVERYBODY and scope != EVERYBODY:
            raise Mistake(f"{name} is for everybody: the status page knows no accounts.")


if __name__ == "__main__":
    from .command import main

    sys.exit(main())
