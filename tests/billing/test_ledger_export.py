"""The ledger in a file: whole, in constant memory, and proven away from the database, where every kind of tampering is found."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts import exports
from accounts.chain import START, Link, Point, link
from billing import ledger
from billing.exports import LEDGER, check
from billing.models import LedgerHead
from tests.billing.factories import USD, hold, settle
from tests.factories import TeamFactory

FORMS = pytest.mark.parametrize("form", ["jsonl", "csv"])
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def chained(lives):
    """Records of a ledger as the services write it: each life is what was held, charged, and what came of it."""
    lines, at = [], START

    def add(kind, amount, number, reason=""):
        nonlocal at
        fields = {
            "team": 7, "sequence": at.sequence + 1, "at": "2026-11-25T12:00:00+00:00", "kind": kind, "amount": amount, "hold": number,
            "price_line": 3, "reference": f"job:j-{number:010d}", "is_rehearsal": number % 5 == 0, "reason": reason, "made_by_id": None,
            "correlation_id": "",
        }  # fmt: skip
        line = Link(id=at.sequence + 1, sequence=at.sequence + 1, previous_hash=at.hash, hash=link(at.hash, fields), fields=fields)
        lines.append(line)
        at = Point(line.sequence, line.hash)

    for number, (held, charge, reason) in enumerate(lives, start=1):
        add("hold", held, number)
        if charge is not None:
            add("charge", min(charge, held), number)
            add("release", held - min(charge, held), number)
            if reason and charge > held:
                add("adjust", charge - held, number, reason)
    return [
        exports.begin_record("atelier", START, LEDGER),
        *(exports.line_record(line, LEDGER) for line in lines),
        exports.end_record(at, LEDGER),
    ]


LIVES = st.lists(st.tuples(st.integers(0, 5 * USD), st.none() | st.integers(0, 6 * USD), TEXT), min_size=1, max_size=5)


def written(records, form):
    return b"".join(exports.write(records, form, LEDGER))


def proof_of(content, form):
    return check(exports.read(io.StringIO(content.decode(), newline=""), form, LEDGER))


def is_found(content, form):
    """Whether the file is told to be wrong, one way or the other."""
    try:
        return not proof_of(content, form).valid
    except exports.NotAnExport:
        return True


@FORMS
@given(lives=LIVES)
def test_an_untouched_file_proves_itself_and_adds_up(form, lives):
    proof = proof_of(written(chained(lives), form), form)

    counted = [life for number, life in enumerate(lives, start=1) if number % 5]
    assert proof.valid
    assert proof.held == sum(held for held, charge, _ in counted if charge is None)
    assert proof.charged == sum(charge if reason else min(charge, held) for held, charge, reason in counted if charge is not None)


@FORMS
@settings(max_examples=150)
@given(lives=LIVES, data=st.data())
def test_any_one_line_that_is_altered_removed_swapped_doubled_or_put_in_is_found(form, lives, data):
    records = chained(lives)
    place = data.draw(st.integers(1, len(records) - 2), label="line")
    other = data.draw(st.integers(1, len(records) - 2), label="another")
    how = data.draw(st.sampled_from(["altered", "removed", "swapped", "doubled", "put in", "cut off", "cut off with the end"]))
    tampered = list(records)
    match how:
        case "altered":
            name = data.draw(st.sampled_from((*LEDGER.fields, "previous_hash", "hash")))
            value = data.draw({int: st.integers(), bool: st.booleans(), str: TEXT}.get(type(records[place][name]), st.integers()))
            tampered[place] = {**records[place], name: value}
        case "removed":
            del tampered[place]
        case "swapped":
            tampered[place], tampered[other] = tampered[other], tampered[place]
        case "doubled":
            tampered.insert(other, records[place])
        case "put in":
            forged = {**records[place], "amount": records[place]["amount"] + 1}
            fields = {name: forged[name] for name in LEDGER.fields}
            tampered.insert(place + 1, {**forged, "previous_hash": records[place]["hash"], "hash": link(records[place]["hash"], fields)})
        case "cut off":
            del tampered[place:-1]
        case "cut off with the end":
            del tampered[place:]

    assert is_found(written(tampered, form), form) == (tampered != records)


@FORMS
@given(data=st.data())
def test_no_single_changed_byte_of_a_file_stays_unseen(form, data):
    told = chained([(4 * USD, USD, ""), (3 * USD, None, ""), (2 * USD, 3 * USD, "billed beyond the deadline")])
    content = written(told, form)
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(32, 126).filter(lambda byte: byte != content[place]))

    tampered = content[:place] + bytes([byte]) + content[place + 1 :]

    try:
        read = list(exports.read(io.StringIO(tampered.decode(), newline=""), form, LEDGER))
        is_seen = not check(read).valid
    except exports.NotAnExport:
        is_seen = True
    # The name of the chain is a label that no hash covers.
    assert is_seen or [{**each, "chain": ""} for each in read] == [{**each, "chain": ""} for each in told]


def test_a_hold_that_does_not_add_up_is_named_though_the_chain_is_whole():
    records = chained([(4 * USD, USD, "")])
    lines, at = [], START
    for record in records[1:-1]:
        amount = record["amount"] - 1 if record["kind"] == "release" else record["amount"]
        fields = {name: record[name] for name in LEDGER.fields} | {"amount": amount}
        line = Link(id=at.sequence + 1, sequence=at.sequence + 1, previous_hash=at.hash, hash=link(at.hash, fields), fields=fields)
        lines.append(exports.line_record(line, LEDGER))
        at = Point(line.sequence, line.hash)

    proof = check([records[0], *lines, exports.end_record(at, LEDGER)])

    assert (proof.verification.valid, proof.valid) == (True, False)
    assert proof.unbalanced == [(1, "4000000 held, 1000000 charged, 2999999 released.")]


@pytest.mark.parametrize(
    "line", [{"amount": "1"}, {"amount": True}, {"amount": 1.5}, {"kind": None}, {"hold": "1"}, {"kind": ["hold"]}, {"hold": [1]}]
)
def test_a_line_that_is_none_is_told(line):
    records = chained([(4 * USD, None, "")])

    with pytest.raises(exports.NotAnExport, match="has no kind, amount and hold"):
        check([records[0], {**records[1], **line}, records[2]])


def test_an_audit_trail_is_no_ledger():
    with pytest.raises(exports.NotAnExport, match="does not begin as an export of a ledger does"):
        check([exports.begin_record("atelier", START)])


# --- From the database ------------------------------------------------------------------------------------


@pytest.fixture
def team(db):
    """A team with seven lines, $1.50 charged and $3.00 held."""
    team = TeamFactory(slug="atelier")
    settle(hold(team, 4).hold, 1)
    settle(hold(team, 2).hold, 0.5)
    hold(team, 3)
    return team


@FORMS
def test_what_the_database_writes_proves_itself(team, form):
    proof = proof_of(written(ledger.records(team), form), form)

    head = LedgerHead.objects.get(team=team)
    assert (proof.valid, proof.verification.checked, proof.verification.ends) == (True, 7, Point(head.sequence, head.hash))
    assert (proof.charged, proof.held) == (1_500_000, 3 * USD)


def test_a_team_without_lines_has_a_file_that_proves_itself(db):
    assert proof_of(written(ledger.records(TeamFactory()), "csv"), "csv").valid


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_is_checked_where_there_is_no_database(team, tmp_path, form):
    file = tmp_path / f"atelier-ledger.{form}"
    file.write_bytes(written(ledger.records(team), form))
    environment = {**os.environ, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "TUNEHOUSE_DATA": str(tmp_path / "elsewhere")}
    manage = [sys.executable, Path(__file__).parents[2] / "manage.py", "verify_ledger", file]

    whole = subprocess.run(manage, env=environment, capture_output=True, text=True, check=False)
    file.write_bytes(file.read_bytes().replace(b"1000000", b"1000001", 1))
    changed = subprocess.run(manage, env=environment, capture_output=True, text=True, check=False)

    head = LedgerHead.objects.get(team=team)
    assert (whole.returncode, whole.stdout) == (
        0, f"{file}: 7 lines, intact\n  ends with line 7, {head.hash}\n  $1.50 charged, $3.00 held\n",
    )  # fmt: skip
    assert changed.returncode == 1
    assert "line 2: The line was changed: its hash does not fit what it says." in changed.stdout


def test_a_script_without_django_can_check_a_file(team, tmp_path):
    file = tmp_path / "ledger.jsonl"
    file.write_bytes(written(ledger.records(team), "jsonl"))
    script = (
        "import sys; from accounts import exports; from billing.exports import LEDGER, check\n"
        "found = check(exports.read(open(sys.argv[1], newline=''), 'jsonl', LEDGER))\n"
        "print(found.valid, 'django' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", script, file], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)

    assert said.stdout == "True False\n"


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"x", "Line 1 of the file is not JSON")]
)
def test_a_file_that_is_none_is_told(tmp_path, content, says):
    file = tmp_path / "ledger.jsonl"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(CommandError, match=says):
        call_command("verify_ledger", str(file))


def test_a_file_is_of_one_team_already(tmp_path):
    with pytest.raises(CommandError, match="leave --team out"):
        call_command("verify_ledger", str(tmp_path), team="atelier")
