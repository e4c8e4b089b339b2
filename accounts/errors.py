"""Refusals: what a caller is told when something cannot be done, and what can be done about it."""

from typing import Any


class Refusal(Exception):  # not an …Error: a refusal is an answer, not a fault
    """The caller can do something about it. Pages put it on the form, the API makes its error body of it."""

    code = "validation_error"
    status = 422

    def __init__(self, detail: str, *, hint: str = "", field: str | None = None, details: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.field = field
        self.details = details or {}


class InvalidInput(Refusal):
    """The shape is wrong: a wrong type, an unknown word."""

    code = "invalid_input"
    status = 400


class NotPermitted(Refusal):
    """The caller's role or token lacks the right."""

    code = "permission_denied"
    status = 403


class NotFound(Refusal):
    """Absent, or another team's."""

    code = "not_found"
    status = 404


class Conflict(Refusal):
    """The state of things does not allow it."""

    code = "conflict"
    status = 409


class NotOffered(Refusal):
    """SimpleTuner's API has it, and this platform does it another way, which the sentence says."""

    code = "not_offered"
    status = 501
