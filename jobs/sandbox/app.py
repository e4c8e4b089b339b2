"""The sandbox's parts put together, and the routes of Replicate's HTTP API in front of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import Row
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from . import accounts, catalogue, control, predictions, problems
from .clock import Clock
from .files import Files
from .gate import Gate
from .repositories import Repositories
from .rules import PROFILES, Rules
from .runner import PINNED_RULES, Runner
from .status import Status
from .store import Store
from .webhooks import Webhooks

# A small image on a machine of which there are many: it is there long before the minute that a check may take.
CPU_BOOTS_FASTER = 10

MAX_JSON_BYTES = 10 * 1024**2
RETENTION = 3600.0  # simulated seconds from the end to the purge
MIN_RETENTION = 120.0  # but not before so many seconds of wall time
HOUSEKEEPING = 1.0  # wall seconds
SILENCE = 60.0  # wall seconds after which nobody waits for an answer any more


class Sandbox:
    """Everything behind the routes. `base_url` is the address that URLs in answers begin with, without a slash at the end."""

    def __init__(self, folder: Path, base_url: str, speed: float, profile: str = "realistic"):
        self.base_url = base_url
        self.clock = Clock(speed)
        self.store = Store(folder)
        self.rules = Rules(self.store, PROFILES[profile])
        self.accounts = accounts.Accounts(self.store)
        self.files = Files(self.store, base_url)
        self.repositories = Repositories(self.store)
        self.predictions = predictions.Predictions(self.store, self.clock, self.rules, base_url)
        self.webhooks = Webhooks(self.store, self.rules, self.accounts, self.predictions)
        self.runner = Runner(self.store, self.clock, self.rules, self.files, self.predictions, self.webhooks)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.runner.resume()
        self.webhooks.resume()
        keeper = asyncio.create_task(self._keep_house())
        yield
        keeper.cancel()
        await self.runner.stop()
        await self.webhooks.stop()
        self.store.fold_log()
        self.store.close()

    async def _keep_house(self) -> None:
        """Purge old predictions, drop expired files, and let no deleted secret linger in the write-ahead log."""
        while True:
            wanted = self.rules.use("purge_seconds")
            after = max(self.clock.wall(RETENTION), MIN_RETENTION) if wanted is None else wanted
            self.predictions.purge(time.time() - after)
            self.files.drop_expired()
            self.store.fold_log()
            await asyncio.sleep(HOUSEKEEPING)


def build(sandbox: Sandbox) -> Starlette:
    """Make the ASGI application of a sandbox."""
    api, guard = Api(sandbox), Gate(sandbox.accounts, sandbox.rules).guard
    routes = [
        Route("/v1/account", guard(api.account)),
        Route("/v1/hardware", guard(api.hardware)),
        Route("/v1/models/{owner}/{name}", guard(api.model)),
        Route("/v1/models/{owner}/{name}/versions", guard(api.versions)),
        Route("/v1/models/{owner}/{name}/versions/{id}", guard(api.version)),
        Route("/v1/files", guard(api.files), methods=["GET"]),
        Route("/v1/files", guard(api.upload), methods=["POST"]),
        Route("/v1/files/{id}", guard(api.file), methods=["GET"]),
        Route("/v1/files/{id}", guard(api.delete_file), methods=["DELETE"]),
        Route("/v1/files/{id}/download", api.download),
        Route("/v1/predictions", guard(api.list), methods=["GET"]),
        Route("/v1/predictions", guard(api.create, "create"), methods=["POST"]),
        Route("/v1/predictions/{id}", guard(api.prediction, "poll")),
        Route("/v1/predictions/{id}/cancel", guard(api.cancel), methods=["POST"]),
        Route("/v1/webhooks/default/secret", guard(api.webhook_secret)),
        Route("/api/v1/summary", api.status_widget),
        Route("/api/v2/summary.json", api.status_summary),
        *control.routes(sandbox),
    ]
    handlers: dict[Any, Any] = {
        problems.Problem: problems.answer_problem,
        problems.ServerFault: problems.answer_fault,
        control.Mistake: control.answer_mistake,
        HTTPException: problems.answer_http,
    }
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=sandbox.lifespan)


class Api:
    """Replicate's endpoints, each on behalf of one account; what belongs to others is not there for it."""

    def __init__(self, sandbox: Sandbox):
        self.sandbox = sandbox

    async def account(self, request: Request, account: Row) -> Response:
        return JSONResponse(accounts.render(account))

    async def webhook_secret(self, request: Request, account: Row) -> Response:
        return JSONResponse({"key": account["webhook_secret"]})

    async def hardware(self, request: Request, account: Row) -> Response:
        return JSONResponse(catalogue.HARDWARE)

    # Models

    async def model(self, request: Request, account: Row) -> Response:
        return JSONResponse(catalogue.render_model(_trainer(request), self._newest(account)))

    async def versions(self, request: Request, account: Row) -> Response:
        found = catalogue.versions(_trainer(request), self._newest(account))
        return JSONResponse({"next": None, "previous": None, "results": [version.render() for version in found]})

    async def version(self, request: Request, account: Row) -> Response:
        for version in catalogue.versions(_trainer(request), self._newest(account)):
            if version.id == request.path_params["id"]:
                return JSONResponse(version.render())
        raise problems.not_found()

    def _newest(self, account: Row) -> str:
        return str(self.sandbox.rules.use("schema_variant", account["username"]))

    # Files

    async def upload(self, request: Request, account: Row) -> Response:
        name = account["username"]
        try:
            row = await self.sandbox.files.receive(name, request.headers.get("content-type", ""), request.stream())
        except problems.Problem as problem:
            if problem.status == 413 and self.sandbox.rules.use("too_large_answer", name) == "html":
                raise problems.ServerFault(413) from problem
            raise
        await asyncio.sleep(self.sandbox.rules.use("hold_upload_seconds", name))
        return JSONResponse(self.sandbox.files.render(row), 201)

    async def files(self, request: Request, account: Row) -> Response:
        rows = self.sandbox.files.list(account["username"])
        return JSONResponse({"next": None, "previous": None, "results": [self.sandbox.files.render(row) for row in rows]})

    async def file(self, request: Request, account: Row) -> Response:
        row = self.sandbox.files.get(account["username"], request.path_params["id"])
        return JSONResponse(self.sandbox.files.render(row))

    async def delete_file(self, request: Request, account: Row) -> Response:
        self.sandbox.files.delete(account["username"], request.path_params["id"])
        return Response(status_code=204)

    async def download(self, request: Request) -> Response:
        """Give a file's bytes to whoever has a signed link: the signature is the token."""
        query = request.query_params
        signed = (query.get(name, "") for name in ("owner", "expiry", "signature"))
        row = self.sandbox.files.signed(request.path_params["id"], *signed)
        return FileResponse(self.sandbox.files.path(row["id"]), media_type="application/octet-stream")

    # Predictions

    async def create(self, request: Request, account: Row) -> Response:
        sandbox, name = self.sandbox, account["username"]
        http_allowed = sandbox.rules.use("http_webhooks", name)
        wanted = predictions.parse(await _json(request), request.headers.get("cancel-after"), http_allowed=http_allowed)
        rules = {rule: sandbox.rules.use(rule, name) for rule in PINNED_RULES}
        if wanted.version.model == catalogue.CHECK:
            rules["boot_seconds"] /= CPU_BOOTS_FASTER
        row = sandbox.predictions.create(name, wanted, rules)
        sandbox.runner.start(row)
        await asyncio.sleep(sandbox.rules.use("hold_create_answer_seconds", name))
        seconds = predictions.preferred_wait(request.headers.get("prefer"))
        if seconds is None:
            return JSONResponse(sandbox.predictions.render(row), 201)
        await sandbox.runner.finished(row["id"], seconds)
        now = sandbox.predictions.row(row["id"])
        return JSONResponse(sandbox.predictions.render(now), 201, headers={"Preference-Applied": f"wait={seconds}"})

    async def list(self, request: Request, account: Row) -> Response:
        return JSONResponse(self.sandbox.predictions.page(account["username"], dict(request.query_params)))

    async def prediction(self, request: Request, account: Row) -> Response:
        row = self.sandbox.predictions.get(account["username"], request.path_params["id"])
        return JSONResponse(self.sandbox.predictions.render(row))

    async def cancel(self, request: Request, account: Row) -> Response:
        row = self.sandbox.predictions.get(account["username"], request.path_params["id"])
        status = 200 if row["status"] in predictions.ACTIVE else self.sandbox.rules.use("cancel_terminal", account["username"])
        if status != 200:
            raise problems.titled(status, "Prediction is over", f"The prediction has already {row['status']}.")
        self.sandbox.runner.cancel(row["id"])
        return JSONResponse(self.sandbox.predictions.render(self.sandbox.predictions.row(row["id"])))

    # The status page

    async def status_widget(self, request: Request) -> Response:
        return JSONResponse((await self._status()).widget())

    async def status_summary(self, request: Request) -> Response:
        return JSONResponse((await self._status()).summary())

    async def _status(self) -> Status:
        """Find what the status page tells. Raises ServerFault if it is to be out of reach, at once or after a long silence."""
        rules = self.sandbox.rules
        reach = rules.use("status_page")
        if reach == "timeout":
            await asyncio.sleep(SILENCE)
        if reach != "up":
            raise problems.ServerFault(503)
        return Status(rules.use("incident"), rules.use("maintenance"))


def _trainer(request: Request) -> str:
    if request.path_params["owner"] != catalogue.OWNER:
        raise problems.not_found()
    return str(request.path_params["name"])


async def _json(request: Request) -> Any:
    """Read a JSON body of bounded size. Raises Problem 400 or 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise problems.titled(413, "Request too large", "The request body is too large")
    try:
        return json.loads(body)
    except ValueError as error:
        raise problems.titled(400, "Bad request", "The request body is not valid JSON") from error
