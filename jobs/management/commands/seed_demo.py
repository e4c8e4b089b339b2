"""`manage.py seed_demo`: demo teams to look around with."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from jobs.demo import seeding


class Command(BaseCommand):
    help = "Make two demo teams with people of every role, tokens, a config, a dataset and limits. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object with addresses, passwords and tokens")

    def handle(self, *, json: bool, **_: Any) -> None:
        seeded = seeding.seed()
        self.stdout.write(as_json(seeded) if json else as_text(seeded))


def as_json(seeded: dict[str, Any]) -> str:
    return json.dumps(seeded)


def as_text(seeded: dict[str, Any]) -> str:
    lines = []
    for slug, team in seeded["teams"].items():
        lines.append(f"Team {slug}: config {team['config']}, dataset {team['dataset']}")
        lines += [f"  {role:<11} {user['email']:<30} password {user['password']}" for role, user in team["users"].items()]
    return "\n".join(lines)
