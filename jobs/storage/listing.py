"""One page of a bucket's list, as S3 cuts it: by prefix, delimiter and a place to go on from."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.http import QueryDict

from jobs.storage.access import UNTELLABLE
from jobs.storage.errors import InvalidName
from jobs.storage.objects import StoredObject

MAX_KEYS = 1000


@dataclass(frozen=True)
class Query:
    """Which page of a list is asked for. `after` is where the page before ended, `token` how S3's second version says so."""

    prefix: str
    delimiter: str
    after: str
    token: str
    max_keys: int

    @classmethod
    def read(cls, asked: QueryDict, *, marker: str = "") -> "Query":
        """Read it out of a request's query; `marker` names the parameter that says, without a token, where to begin. Raises InvalidName."""
        prefix, delimiter, token = asked.get("prefix", ""), asked.get("delimiter", ""), asked.get("continuation-token", "")
        after = _read_token(token) if token else asked.get(marker, "")
        if any(UNTELLABLE.search(word) for word in (prefix, delimiter, after)):
            raise InvalidName("Prefix, delimiter and marker must not contain control characters.")
        return cls(prefix, delimiter, after, token, page_size(asked.get("max-keys", "")))


@dataclass
class Page:
    """Objects and common prefixes together are at most `max_keys`; `last` is the name or prefix that the next page comes after."""

    objects: list[StoredObject] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    is_truncated: bool = False
    last: str = ""

    @property
    def count(self) -> int:
        return len(self.objects) + len(self.prefixes)

    @property
    def next_token(self) -> str:
        """What to send as continuation-token for the next page."""
        return base64.urlsafe_b64encode(self.last.encode()).decode()


def page(listed: Iterable[StoredObject], query: Query) -> Page:
    """Cut a page out of the objects that begin with the prefix and come after `query.after`, in order.

    Source: Amazon S3 API Reference, ListObjectsV2: keys that share what follows the prefix up to the delimiter are one common prefix.
    """
    prefix, delimiter, after = query.prefix, query.delimiter, query.after
    found = Page(last=after)
    # Objects under a common prefix that an earlier page ended with come after its name, and were told with it.
    group = after if delimiter and after.endswith(delimiter) and after != prefix else None
    for described in listed:
        if group is not None and described.name.startswith(group):
            continue
        if found.count >= query.max_keys:
            found.is_truncated = query.max_keys > 0
            break
        _, at, _ = described.name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if at:
            end = described.name.index(delimiter, len(prefix)) + len(delimiter)
            group = described.name[:end]
            found.prefixes.append(group)
            found.last = group
        else:
            group = None
            found.objects.append(described)
            found.last = described.name
    return found


def page_size(text: str) -> int:
    """Raises InvalidName."""
    if not text:
        return MAX_KEYS
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidName("The size of a page must be a number from 0 on.")
    return min(int(text), MAX_KEYS)


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise InvalidName("The continuation token is not one that was given out here.") from error
