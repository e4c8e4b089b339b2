"""The command that verifies the audit trail: with the database, and a file away from it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from accounts import audit, exports, trail
from accounts.models import AuditHead
from tests.accounts.test_audit import ids, tamper
from tests.factories import TeamFactory


@pytest.fixture
def team(db):
    team = TeamFactory(slug="atelier")
    for number in range(3):
        audit.record(team=team, event_type="config.changed", action=f"Change {number}", after={"=1": "naïve"})
    return team


def written(team, folder, form):
    file = folder / f"trail.{form}"
    file.write_bytes(b"".join(exports.write(trail.records(team), form)))
    return file


def test_whole_chains_are_named_with_their_ends(team, capsys):
    audit.record(team=None, event_type="user.created", action="x")

    call_command("verify_audit")

    end, platform = AuditHead.objects.get(team=team), AuditHead.objects.get(team=None)
    assert capsys.readouterr().out == (
        f"atelier: 3 lines, intact\n  ends with line 3, {end.hash}\nplatform: 1 lines, intact\n  ends with line 1, {platform.hash}\n"
    )


def test_the_first_broken_line_is_named_and_fails_the_command(team, capsys):
    _, second, third = ids(team)
    tamper("UPDATE accounts_auditline SET action = 'x' WHERE id IN (%s, %s)", second, third)

    with pytest.raises(CommandError, match="1 of 1 chains are broken"):
        call_command("verify_audit", team="atelier")

    says = f"  line {second}: The line was changed: its hash does not fit what it says.\n  and 1 more places\n"
    assert capsys.readouterr().out == f"atelier: 3 lines, broken\n{says}"
    call_command("verify_audit", "--platform")


def test_an_emptied_chain_is_found_without_a_line_left(team):
    tamper("DELETE FROM accounts_auditline WHERE team_id = %s", team.pk)

    with pytest.raises(CommandError, match="broken"):
        call_command("verify_audit")


def test_an_unknown_team_is_told(db):
    with pytest.raises(CommandError, match="There is no team 'nobody'"):
        call_command("verify_audit", team="nobody")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_is_checked_where_there_is_no_database(team, tmp_path, form):
    file = written(team, tmp_path, form)
    environment = {**os.environ, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "TUNEHOUSE_DATA": str(tmp_path / "elsewhere")}
    manage = [sys.executable, Path(__file__).parents[2] / "manage.py", "verify_audit", "--file", file]

    whole = subprocess.run(manage, env=environment, capture_output=True, text=True, check=False)
    file.write_bytes(file.read_bytes().replace(b"Change 1", b"Change 9"))
    changed = subprocess.run(manage, env=environment, capture_output=True, text=True, check=False)

    end = AuditHead.objects.get(team=team)
    assert (whole.returncode, whole.stdout) == (0, f"{file}: 3 lines, intact\n  ends with line 3, {end.hash}\n")
    assert changed.returncode == 1
    assert f"line {ids(team)[1]}: The line was changed" in changed.stdout


def test_a_script_without_django_can_check_a_file(team, tmp_path):
    file = written(team, tmp_path, "jsonl")
    script = (
        "import sys; from accounts import exports\n"
        "found = exports.check(exports.read(open(sys.argv[1], newline=''), 'jsonl'))\n"
        "print(found.valid, 'django' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", script, file], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)

    assert said.stdout == "True False\n"


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"x", "Line 1 of the file is not JSON")]
)
def test_a_file_that_is_none_is_told(tmp_path, content, says):
    file = tmp_path / "trail.jsonl"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(CommandError, match=says):
        call_command("verify_audit", file=str(file))
