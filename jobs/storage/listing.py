"""One page of a bucket's list, as S3 cuts it: by prefix, delimiter and a place to go on from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jobs.storage.objects import StoredObject

MAX_KEYS = 1000


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


def page(listed: Callable[[str], Iterator[StoredObject]], *, prefix: str, delimiter: str, after: str, max_keys: int) -> Page:
    """Cut a page out of `listed(after)`, which gives the objects after a name, in order.

    Source: Amazon S3 API Reference, ListObjectsV2: keys that share what follows the prefix up to the delimiter are one common prefix.
    """
    found = Page(last=after)
    # Objects under a common prefix that an earlier page ended with come after its name, and were told with it.
    group = after if delimiter and after.endswith(delimiter) and after != prefix else None
    for described in listed(after):
        if group is not None and described.name.startswith(group):
            continue
        if found.count >= max_keys:
            found.is_truncated = max_keys > 0
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
