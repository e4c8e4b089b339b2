"""The control channel from a shell: `python -m jobs.sandbox.control --url http://127.0.0.1:8001 set fail=nan_loss account=team1`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import httpx

from .page import value_of

USAGE = """\
set RULE=VALUE ... [account=NAME | prediction=ID] [times=N]   put rules in force; RULE=default lifts one
reset [account=NAME]                                          lift all rules
rotate account=NAME [overlap_seconds=N]                       change an account's webhook secret
tokens token=r8_... account=NAME                              let a token in
tokens token=hf_... account=NAME [role=ROLE]                  let a token of the Hub in, to write unless ROLE is read or fineGrained
purge prediction=ID                                           remove a prediction's data now
show settings | accounts | predictions | predictions/ID | hub | help
"""


def main() -> int:
    """Tell a running sandbox what to do, and print its answer. The exit code is 1 when it does not understand."""
    options = _options()
    verb, *words = options.words
    address = f"{options.url.rstrip('/')}/control"
    try:
        if verb == "show" and len(words) == 1:
            answer = httpx.get(f"{address}/{words[0]}", trust_env=False)
        else:
            asked = dict(_pair(word) for word in words)
            path = f"predictions/{asked.pop('prediction', '')}/purge" if verb == "purge" else {"set": "settings"}.get(verb, verb)
            answer = httpx.post(f"{address}/{path}", json=asked, trust_env=False)
    except (ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        return _complain(str(error) if isinstance(error, ValueError) else f"No sandbox answers at {options.url}: {error}.")
    if answer.is_error:
        return _complain(answer.json().get("error") or f"There is no command {verb!r}; there are\n{USAGE}")
    is_json = answer.headers["content-type"].startswith("application/json")
    print(json.dumps(answer.json(), indent=2) if is_json else answer.text)  # noqa: T201 (the answer)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.sandbox.control", epilog=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="where the sandbox is, without /control")
    parser.add_argument("words", nargs="+", metavar="WORD", help="a command and what it takes, see below")
    return parser.parse_args()


def _pair(word: str) -> tuple[str, Any]:
    name, sign, value = word.partition("=")
    if not sign:
        raise ValueError(f"{word!r} is not of the form NAME=VALUE.")
    return name, value_of(value, name)


def _complain(sentence: str) -> int:
    print(sentence, file=sys.stderr)  # noqa: T201
    return 1
