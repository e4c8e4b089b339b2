"""The walk along a chain and the files that it is exported to, by themselves: without a database."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import exports
from accounts.chain import CUT, START, Link, Point, Walk, link, told_of

# What the database keeps: neither NUL nor half a character.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
TOLD = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=3), max_size=3)
SAID = st.fixed_dictionaries(
    {
        "event_type": TEXT, "actor_id": st.none() | st.integers(1, 2**63 - 1), "actor": TEXT, "token_prefix": TEXT, "address": TEXT,
        "target_type": TEXT, "target_id": TEXT, "action": TEXT, "before": TOLD, "after": TOLD, "reason": TEXT, "correlation_id": TEXT,
    }
)  # fmt: skip
FORMS = pytest.mark.parametrize("form", ["jsonl", "csv"])


def chained(said, begins=START, team=7):
    """Lines as the database keeps them, one behind the other."""
    lines, at = [], begins
    for number, fields in enumerate(said, start=1):
        sequence = at.sequence + 1
        fields = {"team": team, "sequence": sequence, "at": f"2026-11-25T12:00:{number % 60:02d}+00:00", **fields}
        line = Link(id=100 + sequence, sequence=sequence, previous_hash=at.hash, hash=link(at.hash, fields), fields=fields)
        lines.append(line)
        at = Point(sequence, line.hash)
    return lines


def ends(lines):
    return Point(lines[-1].sequence, lines[-1].hash) if lines else START


def records(lines, begins=START):
    return [exports.begin_record("atelier", begins), *map(exports.line_record, lines), exports.end_record(ends(lines))]


def through_a_file(records, form):
    written = b"".join(exports.write(records, form)).decode()
    return list(exports.read(io.StringIO(written, newline=""), form))


def plain(action, **more):
    return dict.fromkeys(exports.AUDIT.fields[3:], "") | {"actor_id": None, "before": {}, "after": {}, "action": action} | more


def five():
    return chained([plain(f"Change {number}") for number in range(1, 6)])


def walked(lines, ends, begins=START, **options):
    walk = Walk(begins, **options)
    for line in lines:
        walk.step(line)
    return walk.end(ends)


# --- The walk ---------------------------------------------------------------------------------------------


@given(st.lists(SAID, max_size=6))
def test_an_untouched_chain_is_intact(said):
    lines = chained(said)

    found = walked(lines, ends(lines))

    assert (found.valid, found.checked, found.broken, found.ends) == (True, len(lines), [], ends(lines))


@given(st.lists(SAID, min_size=1, max_size=5), st.data())
def test_a_change_of_any_field_is_found_at_its_line(said, data):
    lines = chained(said)
    number = data.draw(st.integers(0, len(lines) - 1))
    name = data.draw(st.sampled_from(sorted(lines[number].fields)))
    line = lines[number]
    changed = {**line.fields, name: [line.fields[name]]}
    tampered = [*lines[:number], Link(line.id, line.sequence, line.previous_hash, line.hash, changed), *lines[number + 1 :]]

    found = walked(tampered, ends(lines))

    assert found.broken == [(line.id, "The line was changed: its hash does not fit what it says.")]


@given(st.integers(2, 6), st.data())
def test_any_other_order_or_number_of_lines_is_found(count, data):
    lines = chained([plain(f"Change {number}") for number in range(count)])
    other = data.draw(st.lists(st.sampled_from(lines), max_size=8).filter(lambda chosen: chosen != lines))

    assert not walked(other, ends(lines)).valid


def test_a_part_is_walked_from_what_is_given_and_need_not_end():
    lines = five()

    part = walked(lines[2:4], None, begins=Point(2, lines[1].hash))

    assert (part.valid, part.checked, part.first_id, part.last_id) == (True, 2, 103, 104)


def test_what_was_cut_must_be_told_of():
    cut = Point(5, "a" * 64)
    silent = chained([plain("x")], begins=cut)
    telling = chained([plain("x"), plain("Removed", event_type=CUT, after=told_of(cut))], begins=cut)
    lying = chained([plain("Removed", event_type=CUT, after=told_of(Point(4, "a" * 64)))], begins=cut)

    found = [walked(lines, ends(lines), begins=cut, is_cut=True) for lines in (silent, telling, lying)]

    reason = "Lines up to 5 were removed before this one, and no line tells of it."
    assert [each.broken for each in found] == [[(106, reason)], [], [(106, reason)]]


# --- Files ------------------------------------------------------------------------------------------------


@FORMS
@given(said=st.lists(SAID, max_size=5))
def test_a_file_reads_back_as_it_was_written(form, said):
    written = records(chained(said, team=None))

    read = through_a_file(written, form)

    assert read == written
    assert exports.check(read).valid


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "'", "a\r\nb", "a\rb", '"', "a,b", "\u2028"])
def test_no_cell_is_a_formula_and_none_is_changed(text):
    written = records(chained([plain(text)]))

    row = b"".join(exports.write(written, "csv")).decode()

    assert f",{text}," not in row or text[0] not in "=+-@\t"
    assert exports.check(through_a_file(written, "csv")).valid


FORGED = chained([plain("Forged")], begins=ends(five()[:2]))[0]
TAMPERED = {
    "a changed field": lambda told: [*told[:3], {**told[3], "action": "x"}, *told[4:]],
    "a removed line": lambda told: told[:3] + told[4:],
    "the first line removed": lambda told: told[:1] + told[2:],
    "two swapped lines": lambda told: [*told[:2], told[3], told[2], *told[4:]],
    "an inserted line": lambda told: [*told[:3], exports.line_record(FORGED), *told[3:]],
    "a line twice": lambda told: [*told[:3], told[2], *told[3:]],
    "a cut-off tail": lambda told: told[:4] + told[-1:],
    "a cut-off tail with the end": lambda told: told[:4],
    "another end": lambda told: [*told[:-1], exports.end_record(Point(5, "f" * 64))],
    "another beginning": lambda told: [exports.begin_record("atelier", Point(2, told[2]["hash"])), *told[3:]],
}  # fmt: skip


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
@FORMS
def test_a_file_that_was_tampered_with_is_found_out(form, change):
    told = records(five())
    assert exports.check(through_a_file(told, form)).valid

    tampered = change(told)

    assert not exports.check(through_a_file(tampered, form)).valid


@pytest.mark.parametrize("named", [("note", "x"), ("reason", None)])
def test_a_field_too_many_or_too_few_is_found_out(named):
    told = records(five())
    name, value = named
    changed = {field: kept for field, kept in told[3].items() if field != name} | ({name: value} if value else {})

    found = exports.check(through_a_file([*told[:3], changed, *told[4:]], "jsonl"))

    assert found.broken == [(103, "The line was changed: its hash does not fit what it says.")]


@FORMS
@given(data=st.data())
def test_no_single_changed_byte_of_a_file_stays_unseen(form, data):
    written = b"".join(exports.write(records(five()), form))
    place = data.draw(st.integers(0, len(written) - 1))
    byte = data.draw(st.integers(32, 126).filter(lambda byte: byte != written[place]))
    told = records(five())

    tampered = (written[:place] + bytes([byte]) + written[place + 1 :]).decode()

    try:
        read = list(exports.read(io.StringIO(tampered, newline=""), form))
        is_seen = not exports.check(read).valid
    except exports.NotAnExport:
        is_seen = True
    # The id of a line is the database's handle for it, and the name of the chain a label: no hash covers them.
    assert is_seen or [strip(each) for each in read] == [strip(each) for each in told]


def strip(record):
    return {name: value for name, value in record.items() if name not in ("id", "chain")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "The file is empty."),
        ("nonsense", "Line 1 of the file is not JSON."),
        ("[1]", "Line 1 of the file is no JSON object."),
        ('{"kind": "line"}', "The file does not begin as an export of an audit trail does."),
        ('{"kind": "begin", "format": "2"}', "The file was written in another form than this version reads."),
        ('{"kind": "begin", "format": "tunehouse-audit-1"}', "Record 1 has no sequence that an export has."),
        ('{"kind": "begin", "format": "tunehouse-audit-1", "sequence": true, "hash": ""}', "Record 1 has no sequence that an export has."),
        ("[" * 100_000, "Line 1 of the file is not JSON."),
    ],
)
def test_what_is_no_export_is_told_from_one_that_was_tampered_with(text, says):
    with pytest.raises(exports.NotAnExport, match=says.replace(".", r"\.")):
        exports.check(exports.read(io.StringIO(text, newline=""), "jsonl"))


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", ",".join(exports.AUDIT.columns) + "\nline,1\n", ",".join(exports.AUDIT.columns) + '\n"line']
)
def test_what_is_no_csv_export_says_so(text):
    with pytest.raises(exports.NotAnExport):
        exports.check(exports.read(io.StringIO(text, newline=""), "csv"))


def test_a_record_behind_the_end_is_refused():
    told = records(five())

    with pytest.raises(exports.NotAnExport, match="Record 8 stands behind the end"):
        exports.check([*told, told[1]])
