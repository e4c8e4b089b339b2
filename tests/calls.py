"""Calls of the API as its clients make them."""

from typing import Any

from django.test import Client

from accounts.models import Membership, User
from tests.factories import make_token
from tests.signing_in import sign_in


class Calls:
    """Calls by token or by cookie; a member's token has every scope unless said."""

    def __init__(self) -> None:
        self.keys: dict[Any, str] = {}

    def __call__(self, by: Membership | str | None, method: str, path: str, body: Any = None, *, scopes: Any = None, **query: str) -> Any:
        """Call as the command line does: always JSON, an empty body where there is none."""
        headers = {"Authorization": f"Bearer {self.key(by, scopes)}"} if by else {}
        return self._send(Client(headers=headers), method, path, body, query)

    def by_cookie(self, user: User, method: str, path: str, body: Any = None, *, seconds_ago: int = 0, **query: str) -> Any:
        """Call from a browser in which somebody signed in so long ago."""
        client = Client()
        sign_in(client, user, seconds_ago=seconds_ago)
        return self._send(client, method, path, body, query)

    def key(self, by: Membership | str, scopes: list[str] | None = None) -> str:
        if isinstance(by, str):
            return by
        known = (by.pk, by.role, tuple(scopes or ()))
        if known not in self.keys:
            self.keys[known] = make_token(by, scopes=scopes)[1]
        return self.keys[known]

    def _send(self, client: Client, method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        if method == "get":
            return client.get(path, query)
        return getattr(client, method)(path, "" if body is None else body, content_type="application/json", query_params=query or None)
