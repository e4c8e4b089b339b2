"""The page of the control channel: what is going on, and forms for all that the sandbox can be told, without scripts."""

from __future__ import annotations

import html
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .accounts import HUB_ROLES
from .clock import stamp
from .rules import FOR_EVERYBODY, RULES, Rule

if TYPE_CHECKING:
    from .app import Sandbox

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sandbox</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.4 }
body { max-width: 76rem; margin: 1rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .5rem; border-bottom: 1px solid #8884 }
.wide { overflow-x: auto }
fieldset { border: 1px solid #8884; margin: 0 0 1rem; padding: .5rem 1rem; min-width: 0 }
input, select { max-width: 100%; box-sizing: border-box }
label { margin-right: 1rem }
@media (max-width: 45rem) { form td, form th { display: block; border: 0; padding: .1rem .5rem } form th { padding-top: .8rem } }
[role=alert] { border: 2px solid #c33; padding: .5rem 1rem }
</style>
<h1>Sandbox of Replicate and the Hub</h1>"""


def render(sandbox: Sandbox, mistake: str = "") -> str:
    """Write the page; `mistake` is a sentence about the form that was just sent."""
    store, clock = sandbox.store, sandbox.clock
    accounts = store.all(
        "SELECT username, count(id) AS predictions FROM accounts LEFT JOIN predictions ON account = username "
        "GROUP BY username ORDER BY username"
    )
    latest = store.all("SELECT id, account, status, elapsed, error FROM predictions ORDER BY seq DESC LIMIT 50")
    names = [row["username"] for row in accounts]
    return "\n".join(
        [
            HEAD,
            f"<p>Wall clock {stamp(time.time())}; simulated clock {clock.simulated():.0f} s since start, "
            f'{clock.speed:g} times as fast. <a href="/control/help">Help</a></p>',
            f'<p role="alert">{html.escape(mistake)}</p>' if mistake else "",
            f"<h2>Rules in force</h2>{_table(_in_force(sandbox))}",
            _rules_form(names),
            _accounts_form(names),
            f"<h2>Accounts</h2>{_table(accounts)}<h2>Predictions</h2>{_table(latest)}",
            f"<h2>Hub</h2>{_repositories(sandbox)}</html>",
        ]
    )


def read_rules(form: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the form's fields into what `POST /control/settings` takes; empty fields change nothing, `default` lifts a rule."""
    asked = {name: str(value).strip() for name, value in form.items()}
    return {name: value_of(value, name) for name, value in asked.items() if value}


def value_of(text: str, name: str) -> Any:
    """Read a value as people write it: numbers and true or false as such, `default` as no rule, the rest as words."""
    if name in ("account", "prediction", "token", "role"):
        return text
    if text == "default":
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _in_force(sandbox: Sandbox) -> list[dict[str, Any]]:
    found = []
    for each in sandbox.rules.in_force():
        scope, times = each.pop("scope"), each.pop("times")
        [(name, value)] = each.items()
        found.append({"for": "everybody" if scope == "*" else scope, "rule": name, "value": value, "times": times or "for good"})
    return found


def _rules_form(accounts: list[str]) -> str:
    rows = "".join(
        f'<tr><th scope="row"><label for="{name}">{name}</label></th><td>{_field(name, rule)}</td><td>{html.escape(rule.means)}'
        f"{' (for everybody only)' if name in FOR_EVERYBODY else ''}</td></tr>"
        for name, rule in RULES.items()
    )
    return (
        '<h2>Set rules</h2><form method="post" action="/control/form/settings"><fieldset><legend>For whom</legend>'
        f"<label>Account {_choice('account', accounts, nothing='everybody')}</label>"
        '<label>or prediction <input name="prediction" size="28" placeholder="its id"></label>'
        '<label>Uses <input name="times" type="number" min="1" placeholder="for good"></label></fieldset>'
        f'<div class="wide"><table><tr><th>Rule</th><th>Value</th><th>What it does</th></tr>{rows}</table></div>'
        "<p><button>Set</button></p></form>"
    )


def _field(name: str, rule: Rule) -> str:
    if " | " not in rule.takes:
        return f'<input id="{name}" name="{name}" size="12" placeholder="unchanged">'
    return _choice(name, (*rule.takes.split(" | "), "default"), nothing="unchanged", key=name)


def _accounts_form(accounts: list[str]) -> str:
    return (
        '<form method="post" action="/control/form/reset"><fieldset><legend>Lift all rules</legend>'
        f"<label>of {_choice('account', accounts, nothing='everybody and everything')}</label> <button>Lift</button></fieldset></form>"
        '<form method="post" action="/control/form/rotate"><fieldset><legend>Change a webhook secret</legend>'
        f'<label>of {_choice("account", accounts)}</label><label>both secrets sign for <input name="overlap_seconds" type="number" min="0" '
        'value="3600"> s</label> <button>Change</button></fieldset></form>'
        '<form method="post" action="/control/form/purge"><fieldset><legend>Remove the data of a prediction</legend>'
        '<label>Prediction <input name="prediction" size="28" required></label> <button>Remove</button></fieldset></form>'
        '<form method="post" action="/control/form/tokens"><fieldset><legend>Let a token in</legend>'
        '<label>Token <input name="token" size="42" placeholder="r8_… or hf_…" required></label>'
        f'<label>for account <input name="account" required></label><label>role at the Hub {_choice("role", HUB_ROLES)}</label> '
        "<button>Let in</button></fieldset></form>"
    )


def _choice(name: str, values: Iterable[str], *, nothing: str = "", key: str = "") -> str:
    """Offer values; `nothing` is what an empty one is called, `key` the id for a label elsewhere."""
    options = "".join(f"<option>{html.escape(value)}</option>" for value in values)
    empty = f'<option value="">{nothing}</option>' if nothing else ""
    labelled = f' id="{key}"' if key else ""
    return f'<select name="{name}"{labelled}>{empty}{options}</select>'


def _repositories(sandbox: Sandbox) -> str:
    shown = [
        f"<h3>{html.escape(each['repo'])}{' (private)' if each['private'] else ''}</h3>{_table(each['files'])}"
        for each in sandbox.repositories.inventory()
    ]
    return "".join(shown) or "<p>None.</p>"


def _table(rows: list[Any]) -> str:
    if not rows:
        return "<p>None.</p>"
    found = [dict(row) if isinstance(row, sqlite3.Row) else row for row in rows]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in found[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>" for row in found)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    """Write a value in the words that the forms take, and nothing for what there is not."""
    return "" if value is None else html.escape(value if isinstance(value, str) else json.dumps(value))
