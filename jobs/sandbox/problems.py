"""Answers that say no, in Replicate's own words and shapes."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

NO_TOKEN = "You did not pass an authentication token"  # noqa: S105 (a sentence)
BAD_TOKEN = "You did not pass a valid authentication token"  # noqa: S105
NO_CREDIT = (
    "You have insufficient credit to run this model. Go to https://replicate.com/account/billing#billing to purchase credit. "
    "Once you purchase credit, please wait a few minutes before trying again."
)
NO_BILLING = "You need to set up billing to run this model. Go to https://replicate.com/account/billing#billing to set up billing."
LOW_CREDIT = (
    "Your rate limit for creating predictions is reduced to 6 requests per minute with a burst of 1 requests "
    "while you have less than $5.0 in credit. "
)


class Problem(Exception):
    """A refusal: `body` goes out as application/problem+json with `status`."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None):
        super().__init__(body.get("detail", ""))
        self.status = status
        self.body = body
        self.headers = headers


class ServerFault(Exception):
    """A fault made on demand: `status` with a page of HTML, as a proxy in front of the API would send it."""

    def __init__(self, status: int):
        super().__init__(f"forced {status}")
        self.status = status


def titled(status: int, title: str, detail: str) -> Problem:
    return Problem(status, {"title": title, "detail": detail, "status": status})


def not_found() -> Problem:
    return Problem(404, {"detail": "The requested resource could not be found.", "status": 404})


def file_not_found() -> Problem:
    return Problem(404, {"detail": "File not found"})


def bad_version() -> Problem:
    detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
    return titled(422, "Invalid version or not permitted", detail)


def throttled(seconds: int, *, low_credit: bool = False, header: bool = True) -> Problem:
    """Say to come back in `seconds`; Replicate puts them into the body, the official clients read the header."""
    detail = f"Request was throttled. {LOW_CREDIT if low_credit else ''}Your rate limit resets in ~{seconds}s."
    body = {"detail": detail, "status": 429, "retry_after": seconds}
    return Problem(429, body, {"Retry-After": str(seconds)} if header else None)


def invalid_fields(errors: list[dict[str, str]]) -> Problem:
    """Name every field that is wrong; `errors` are {type, field, description}, the field "" is the body itself."""
    lines = [f"- {error['field']}: {error['description']}\n" if error["field"] else f"- {error['description']}\n" for error in errors]
    return Problem(422, {"detail": "".join(lines), "status": 422, "title": "Input validation failed", "invalid_fields": errors})


def too_large() -> Problem:
    return Problem(413, {"detail": "Files must be less than 100MB in size"})


def forced(status: int | str) -> Exception:
    """Make the answer that the control channel asked for in place of a call's own; see the rules `account_status` and `…_status`."""
    match status:
        case 401:
            return titled(401, "Unauthenticated", BAD_TOKEN)
        case 402:
            return titled(402, "Insufficient credit", NO_CREDIT)
        case "402_billing":
            return titled(402, "Billing required", NO_BILLING)
        case 429 | "429_without_header":
            return throttled(1, header=status == 429)
        case _:
            return ServerFault(int(status))


async def answer_problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return JSONResponse(problem.body, problem.status, headers=problem.headers, media_type="application/problem+json")


async def answer_fault(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, ServerFault)
    return HTMLResponse(f"<html><head><title>{fault.status}</title></head><body><h1>{fault.status}</h1></body></html>", fault.status)


async def answer_http(request: Request, error: Exception) -> Response:
    """Answer what the router refuses by itself: unknown paths (404) and methods (405)."""
    assert isinstance(error, HTTPException)
    body = not_found().body if error.status_code == 404 else {"detail": error.detail, "status": error.status_code}
    return JSONResponse(body, error.status_code, headers=error.headers, media_type="application/problem+json")
