"""`manage.py replicate_sandbox`: our stand-in for Replicate and the Hub, in this very process."""

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Run the stand-in for Replicate and the Hub. It costs nothing, needs no database, and describes itself under /control/help."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, required=True, help="the port to listen on")
        parser.add_argument("--hub-port", type=int, help="serve a stand-in for the Hugging Face Hub there, too")
        parser.add_argument("--speed", type=float, default=60, help="simulated seconds a second (default 60)")
        parser.add_argument("--data", default="", help="its own folder (default: sandbox, in the data folder)")
        parser.add_argument("--profile", default="realistic", help="realistic, sparse or strict; the sandbox's own --help tells them apart")

    def handle(self, *, port: int, hub_port: int | None, speed: float, data: str, profile: str, **_: Any) -> None:
        folder = data or str(settings.DATA_DIR / "sandbox")
        program = [sys.executable, "-m", "jobs.sandbox", "--port", str(port), "--speed", f"{speed:g}", "--data", folder]
        program += ["--profile", profile]
        if hub_port is not None:
            program += ["--hub-port", str(hub_port)]
        os.execv(sys.executable, program)  # noqa: S606 - no shell is wanted
