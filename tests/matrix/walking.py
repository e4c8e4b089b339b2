"""Every address that Django's resolver knows, spelled for people: /api/cloud/jobs/<job_id>/logs."""

import re
from collections.abc import Iterator

from django.contrib.admindocs.views import simplify_regex
from django.urls import URLPattern, URLResolver, get_resolver

# The end of an address that is served with and without a slash.
EITHER_END = re.compile(r"/\?(\$|\\Z)$")
CONVERTER = re.compile(r"<\w+:(\w+)>")


def patterns() -> list[tuple[str, URLPattern]]:
    """Each pattern with its spelling, in the resolver's order."""
    return [(spelled(route), pattern) for route, pattern in _walk(get_resolver())]


def addresses() -> list[str]:
    return [address for address, _pattern in patterns()]


def spelled(route: str) -> str:
    bare = EITHER_END.sub("", CONVERTER.sub(r"<\1>", route))
    return str(simplify_regex(bare))


def _walk(resolver: URLResolver, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in resolver.url_patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern, route)
        else:
            yield route, pattern
