"""The Hub's HTTP API, as far as huggingface_hub calls it for models, with large files by plain HTTP (HF_HUB_DISABLE_XET=1).

Source: huggingface_hub 2.4 (`hf_api.py`, `_commit_api.py`, `lfs.py`, `file_download.py`) and Git LFS's batch API.
"""

from __future__ import annotations

import asyncio
import math
import re
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from . import hub_problems, hub_wire, problems
from .gate import HangUp
from .hub_problems import HubProblem
from .repositories import BRANCH, Entry, Tree, is_large, tree_of
from .signing import Signer

if TYPE_CHECKING:
    from .app import Sandbox

UPLOAD_SECONDS = 3600.0  # how long the address of an upload is good
NAME = re.compile(r"(?![.-])(?!.*\.git$)[A-Za-z0-9._-]{1,96}")

Endpoint = Callable[[Request], Awaitable[Response]]


def build(sandbox: Sandbox) -> Starlette:
    """Make the ASGI application of a sandbox's Hub."""
    hub = Hub(sandbox)
    model, rev = "/api/models/{owner}/{name}", "{revision}"
    routes = [
        hub.route("GET", "/api/whoami-v2", hub.whoami),
        hub.route("POST", "/api/validate-yaml", hub.validate_yaml),
        hub.route("POST", "/api/repos/create", hub.create),
        hub.route("DELETE", "/api/repos/delete", hub.delete),
        hub.route("GET", model, hub.info),
        hub.route("GET", f"{model}/revision/{rev}", hub.info),
        hub.route("GET", f"{model}/auth-check", hub.auth_check),
        hub.route("GET", f"{model}/auth-check/write", hub.auth_check_write),
        hub.route("GET", f"{model}/tree/{rev}", hub.tree),
        hub.route("GET", f"{model}/tree/{rev}/{{path:path}}", hub.tree),
        hub.route("POST", f"{model}/paths-info/{rev}", hub.paths_info),
        hub.route("POST", f"{model}/preupload/{rev}", hub.preupload),
        hub.route("POST", f"{model}/commit/{rev}", hub.commit),
        hub.route("POST", "/{owner}/{name}.git/info/lfs/objects/batch", hub.batch),
        hub.route("POST", "/{owner}/{name}.git/info/lfs/objects/verify", hub.verify),
        hub.route("PUT", "/{owner}/{name}.git/info/lfs/objects/{sha256}", hub.upload),
        hub.route("GET", "/{owner}/{name}/resolve/{revision}/{path:path}", hub.resolve),
    ]
    handlers: dict[Any, Any] = {
        HubProblem: hub_problems.answer_problem,
        problems.ServerFault: problems.answer_fault,
        HTTPException: hub_problems.answer_http,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


class Hub:
    """The Hub's endpoints."""

    def __init__(self, sandbox: Sandbox):
        self.rules = sandbox.rules
        self.accounts = sandbox.accounts
        self.repositories = sandbox.repositories
        self.signer = Signer(sandbox.store, "hub")

    def route(self, method: str, path: str, endpoint: Endpoint) -> Route:
        """Make a route that finds out who calls before it lets `endpoint` answer."""

        async def answer(request: Request) -> Response:
            request.state.caller = self._authenticate(request.headers.get("authorization"))
            try:
                response = await endpoint(request)
            except UnicodeEncodeError as error:  # JSON can write halves of characters, which nothing can store
                raise hub_problems.malformed("The request has characters that are none") from error
            await asyncio.sleep(self._rule("hold_hub_answer_seconds", request))
            return response

        return Route(path, answer, methods=[method])

    def _rule(self, name: str, request: Request) -> Any:
        """Apply a rule to the caller; an upload brings no token, but its address says for whom it was made."""
        caller = request.state.caller
        return self.rules.use(name, caller["username"] if caller else request.query_params.get("account", ""))

    # Who calls, and what they may

    def _authenticate(self, authorization: str | None) -> sqlite3.Row | None:
        """Find whom a token speaks for; None without a token. Raises HubProblem 401 for an unknown one."""
        if not authorization:
            return None
        caller = self.accounts.of_hub_token(authorization.removeprefix("Bearer ").strip())
        if caller is None:
            raise hub_problems.bad_credentials()
        return caller

    def _known(self, request: Request) -> sqlite3.Row:
        """Return the caller. Raises HubProblem 401 if nobody says who it is."""
        caller: sqlite3.Row | None = request.state.caller
        if caller is None:
            raise hub_problems.no_credentials()
        return caller

    def _readable(self, request: Request, name: str = "") -> sqlite3.Row:
        """Find a repository, that of the address if no other is named. Raises HubProblem 401 or 404, also for another's private one."""
        caller, repo = request.state.caller, self.repositories.named(name or _name(request))
        if repo is None or (repo["private"] and (caller is None or caller["username"] != repo["account"])):
            raise hub_problems.repository_not_found(is_anonymous=caller is None)
        return repo

    def _writable(self, request: Request, name: str = "") -> sqlite3.Row:
        """Find a repository that the caller may change. Raises HubProblem 401, 403 or 404."""
        repo, caller = self._readable(request, name), self._known(request)
        if caller["role"] == "read" or caller["username"] != repo["account"]:
            raise hub_problems.read_only()
        return repo

    def _refuse_changes(self, request: Request) -> None:
        status = self._rule("hub_status", request)
        if status is not None:
            raise hub_problems.forced(status)

    def _refuse_when_full(self, request: Request) -> None:
        if self._rule("hub_storage", request) == "full":
            raise hub_problems.storage_full()

    def _refuse_when_gated(self, request: Request) -> None:
        if self._rule("hub_gated", request):
            raise hub_problems.gated(_name(request))

    async def whoami(self, request: Request) -> Response:
        return JSONResponse(hub_wire.render_caller(self._known(request)))

    async def auth_check(self, request: Request) -> Response:
        self._readable(request)
        self._refuse_when_gated(request)
        return JSONResponse({})

    async def auth_check_write(self, request: Request) -> Response:
        self._writable(request)
        return JSONResponse({})

    # Repositories

    async def create(self, request: Request) -> Response:
        self._refuse_changes(request)
        caller, asked = self._known(request), await _asked_of_model(request)
        owner, name = asked.get("organization") or caller["username"], asked.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise hub_problems.malformed("Invalid repo name: letters, digits, '-', '_' and '.' only, 96 characters at most")
        if caller["role"] == "read" or owner != caller["username"]:
            raise hub_problems.foreign_namespace(str(owner))
        address = {"name": f"{owner}/{name}", "url": f"{_base(request)}/{owner}/{name}"}
        private = asked.get("visibility") == "private" or asked.get("private") is True  # older clients say it so
        if not await self.repositories.create(owner, address["name"], private=private):
            return JSONResponse({"error": "You already created this model repo", **address}, 409)
        return JSONResponse(address)

    async def delete(self, request: Request) -> Response:
        self._refuse_changes(request)
        caller, asked = self._known(request), await _asked_of_model(request)
        repo = self._writable(request, f"{asked.get('organization') or caller['username']}/{asked.get('name')}")
        self.repositories.delete(repo)
        return Response("OK")

    async def info(self, request: Request) -> Response:
        repo = self._readable(request)
        commit = self.repositories.revision(repo, request.path_params.get("revision", BRANCH))
        with_metadata = request.query_params.get("blobs", "").lower() == "true"
        return JSONResponse(hub_wire.render_model(repo, commit, with_metadata=with_metadata))

    async def validate_yaml(self, request: Request) -> Response:
        """Answer the question that comes before a README.md is sent: its front matter is always well here."""
        return JSONResponse({"errors": [], "warnings": []})

    # Files

    def _open(self, request: Request) -> tuple[sqlite3.Row, sqlite3.Row, Tree]:
        """Find the repository and the commit of the address, and what the commit holds. Raises HubProblem 401 or 404."""
        repo = self._readable(request)
        commit = self.repositories.revision(repo, request.path_params["revision"])
        return repo, commit, tree_of(commit)

    async def tree(self, request: Request) -> Response:
        _, _, tree = self._open(request)
        folder = request.path_params.get("path", "").strip("/")
        prefix = f"{folder}/" if folder else ""
        below = {path for path in hub_wire.with_folders(tree) if path.startswith(prefix)}
        if folder and not below:
            raise hub_problems.entry_not_found(f'{folder} does not exist on "{request.path_params["revision"]}"')
        if request.query_params.get("recursive", "").lower() != "true":
            below = {path for path in below if "/" not in path.removeprefix(prefix)}
        return JSONResponse([hub_wire.render_entry(path, tree.get(path)) for path in sorted(below)])

    async def paths_info(self, request: Request) -> Response:
        _, _, tree = self._open(request)
        there = hub_wire.with_folders(tree)
        paths = [str(path).strip("/") for path in (await request.form()).getlist("paths")]
        return JSONResponse([hub_wire.render_entry(path, tree.get(path)) for path in paths if path in there])

    async def resolve(self, request: Request) -> Response:
        """Give a file's bytes away, whole or by Range."""
        repo, commit, tree = self._open(request)
        self._refuse_when_gated(request)
        path = request.path_params["path"]
        entry = tree.get(path)
        if entry is None:
            raise hub_problems.entry_not_found()
        headers = {"X-Repo-Commit": commit["id"], "ETag": f'"{entry["oid"]}"'}
        if "pointerSize" in entry:
            etag = f'"{entry["sha256"]}"'
            headers.update({"ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": str(entry["size"])})
        place, name = self.repositories.path(repo["id"], entry["sha256"]), PurePosixPath(path).name
        return FileResponse(place, headers=headers, filename=name, content_disposition_type="inline")

    # Uploads: the client asks which files are large ones, sends those one by one, then names all of them in a commit.

    async def preupload(self, request: Request) -> Response:
        self._refuse_changes(request)
        repo = self._writable(request)
        tree = tree_of(self.repositories.revision(repo, request.path_params["revision"]))
        answers = []
        for path, size, sample in hub_wire.announced(await hub_wire.read_json(request)):
            mode = "lfs" if is_large(path, size, sample) else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": _known_id(tree.get(path))})
        return JSONResponse({"files": answers})

    async def batch(self, request: Request) -> Response:
        """Say where large files are to go; those that are here need not come again."""
        self._refuse_changes(request)
        repo = self._writable(request)
        self._refuse_when_full(request)
        answers = []
        for sha256, size in hub_wire.large_objects(await hub_wire.read_json(request)):
            is_here = self.repositories.large(repo, sha256) is not None
            actions = {} if is_here else {"actions": self._actions(request, repo, sha256)}
            answers.append({"oid": sha256, "size": size, **actions})
        return JSONResponse({"transfer": "basic", "objects": answers}, media_type="application/vnd.git-lfs+json")

    def _actions(self, request: Request, repo: sqlite3.Row, sha256: str) -> dict[str, Any]:
        address = f"{_base(request)}/{repo['name']}.git/info/lfs/objects"
        account, expiry = repo["account"], str(int(time.time() + UPLOAD_SECONDS))
        signature = self.signer.sign(account, expiry, repo["name"], sha256)
        query = urlencode({"account": account, "expiry": expiry, "signature": signature})
        return {"upload": {"href": f"{address}/{sha256}?{query}"}, "verify": {"href": f"{address}/verify"}}

    async def upload(self, request: Request) -> Response:
        """Take a large file in; the signature of the address is the permission. Raises HubProblem 403."""
        query, sha256 = request.query_params, request.path_params["sha256"]
        account, expiry = query.get("account", ""), query.get("expiry", "")
        genuine = self.signer.is_genuine(query.get("signature", ""), account, expiry, _name(request), sha256)
        repo = self.repositories.named(_name(request))
        if not genuine or repo is None or int(expiry) < time.time():
            raise HubProblem(403, "The address of this upload is not genuine or has expired")
        self._refuse_changes(request)
        cut = self._rule("hub_cut_bytes", request)
        taken = await self.repositories.receive(repo, sha256, request.stream(), most=math.inf if cut is None else cut)
        return Response() if taken else HangUp()

    async def verify(self, request: Request) -> Response:
        self._refuse_changes(request)
        repo, asked = self._writable(request), await hub_wire.read_json(request)
        entry = self.repositories.large(repo, str(asked.get("oid")))
        if entry is None or entry["size"] != asked.get("size"):
            raise HubProblem(404, "Object does not exist on the server, or has another size")
        return JSONResponse({})

    async def commit(self, request: Request) -> Response:
        """Put the files that the body names into a new commit; regular ones come in the body itself."""
        self._refuse_changes(request)
        repo = self._writable(request)
        self._refuse_when_full(request)
        if request.path_params["revision"] != BRANCH:
            raise hub_problems.revision_not_found(request.path_params["revision"])
        if request.query_params.get("create_pr"):
            raise hub_problems.malformed("There are no pull requests in the sandbox's Hub: commit to main")
        header: dict[str, Any] = {}
        added: Tree = {}
        deleted = []
        async for key, value in hub_wire.operations(request):
            match key:
                case "header":
                    header = value
                case "file":
                    added[hub_wire.path_in(value)] = await self.repositories.keep_small(repo, hub_wire.content_of(value))
                case "lfsFile":
                    added[hub_wire.path_in(value)] = self._uploaded(repo, value)
                case "deletedFile" | "deletedFolder":
                    deleted.append(hub_wire.path_in(value) + ("/" if key == "deletedFolder" else ""))
        commit_id = self.repositories.commit(repo, str(header.get("summary", "")), added, deleted, parent=header.get("parentCommit"))
        address = f"{_base(request)}/{repo['name']}/commit/{commit_id}"
        return JSONResponse({"success": True, "commitOid": commit_id, "commitUrl": address, "hookOutput": ""})

    def _uploaded(self, repo: sqlite3.Row, value: dict[str, Any]) -> Entry:
        entry = self.repositories.large(repo, str(value.get("oid")))
        if entry is None:
            sentence = "Your push was rejected because an LFS pointer pointed to a file that does not exist."
            raise hub_problems.malformed(f"{sentence} Offending file: - {hub_wire.path_in(value)}")
        return entry


def _known_id(entry: Entry | None) -> str | None:
    """Return that by which the client sees whether its file is the one that is here: SHA-256 of a large one, else Git's id."""
    if entry is None:
        return None
    return str(entry["sha256"] if "pointerSize" in entry else entry["oid"])


async def _asked_of_model(request: Request) -> dict[str, Any]:
    """Read what is asked of a model. Raises HTTPException 404 for a dataset or a space."""
    asked = await hub_wire.read_json(request)
    if asked.get("type") not in (None, "model"):
        raise HTTPException(404)
    return asked


def _name(request: Request) -> str:
    return f"{request.path_params['owner']}/{request.path_params['name']}"


def _base(request: Request) -> str:
    """Return the address by which the caller reached us."""
    return str(request.base_url).rstrip("/")
