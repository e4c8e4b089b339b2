"""Answers that say no, in the Hub's own words, and in the headers from which huggingface_hub makes its exceptions.

Source: huggingface_hub 2.4, `utils/_http.py`; the sentences as its users quote them in the issues of that project.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .misfortunes import GATED
from .problems import ServerFault


class HubProblem(Exception):
    """A refusal: `code`, where the client has an exception of its own for it, goes out as X-Error-Code."""

    def __init__(self, status: int, message: str, code: str = ""):
        super().__init__(message)
        self.status = status
        self.code = code


def bad_credentials() -> HubProblem:
    return HubProblem(401, "Invalid credentials in Authorization header")


def no_credentials() -> HubProblem:
    return HubProblem(401, "Invalid username or password.")


def repository_not_found(*, is_anonymous: bool) -> HubProblem:
    """Say that there is no such repository, also of another's private one; who brings no token is asked for one."""
    return HubProblem(401 if is_anonymous else 404, "Repository not found", "RepoNotFound")


def revision_not_found(revision: str) -> HubProblem:
    return HubProblem(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(message: str = "Entry not found") -> HubProblem:
    return HubProblem(404, message, "EntryNotFound")


def read_only() -> HubProblem:
    return HubProblem(403, "You have read access but not the required permissions for this operation")


def foreign_namespace(namespace: str) -> HubProblem:
    return HubProblem(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')


def storage_full() -> HubProblem:
    return HubProblem(403, "Private repository storage limit reached, please upgrade your plan to increase your private storage limit")


def gated(name: str) -> HubProblem:
    return HubProblem(403, GATED.format(model=name), "GatedRepo")


def malformed(message: str) -> HubProblem:
    return HubProblem(400, message)


def forced(status: int) -> Exception:
    """Make the answer that the control channel asked for in place of a change."""
    return {401: bad_credentials(), 403: read_only()}.get(status) or ServerFault(status)


async def answer_problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HubProblem)
    message = str(problem)
    headers = {"X-Error-Message": message.encode("ascii", "replace").decode()}
    if problem.code:
        headers["X-Error-Code"] = problem.code
    return JSONResponse({"error": message}, problem.status, headers)


async def answer_http(request: Request, error: Exception) -> Response:
    """Answer what the router refuses by itself: unknown paths (404), datasets and spaces among them, and methods (405)."""
    assert isinstance(error, HTTPException)
    message = "Sorry, we can't find the page you are looking for." if error.status_code == 404 else error.detail
    return JSONResponse({"error": message}, error.status_code, error.headers)
