"""`manage.py demo`: the main job of the product, done once before your eyes, on this machine and for free."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.prices import dollars
from jobs.demo import running, seeding
from jobs.demo.running import DemoFailed, Proof

BAR_CHARACTERS = 36
START_SECONDS = 300


class Command(BaseCommand):
    help = "Start everything with the stand-in for Replicate, train one LoRA from dataset to delivered file, then keep serving."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="stop after the table")
        parser.add_argument("--port", type=int, default=0, help="the port of pages and API (default 8000, or any free one)")
        parser.add_argument("--speed", type=float, default=30, help="simulated seconds a second (default 30)")

    def handle(self, *, once: bool, port: int, speed: float, **_: Any) -> None:
        # What the services log while this command seeds is for its log, not for the screen.
        logging.getLogger().setLevel(logging.WARNING)
        log = settings.DATA_DIR / "demo.log"
        port = port or _free_port(8000)
        sandbox_port = _free_port(8001, apart_from=port)
        self.stdout.write(f"Starting Tunehouse with its sandbox; what it says goes to {log}")
        with _product(log, port=port, sandbox_port=sandbox_port, speed=speed) as address:
            seeded = seeding.seed()["teams"]
            slug, team = next(iter(seeded.items()))
            try:
                self._show_one_job(address, f"http://127.0.0.1:{sandbox_port}", seeded, log)
            except DemoFailed as error:
                raise CommandError(f"{error} See {log}.") from error
            if once:
                return
            self.stdout.write(f"\nServing at {address}\n")
            self.stdout.write(f"Sign in as  {team['users']['owner']['email']}  with  {team['users']['owner']['password']}")
            self.stdout.write(f"Team page   {address}/t/{slug}/jobs/")
            self.stdout.write("Everybody   .venv/bin/python manage.py seed_demo")
            self.stdout.write("Ctrl-C stops it.")
            _wait_for_ctrl_c()

    def _show_one_job(self, address: str, sandbox: str, seeded: dict[str, Any], log: Path) -> None:
        team = next(iter(seeded.values()))
        job = running.run(address=address, token=team["tokens"]["researcher"], config=team["config"], show=self._show)
        self._end_of_bar()
        artifact = running.weights(job)
        path = Path(settings.OUTPUTS_DIR) / artifact.stored_as
        written = sorted(settings.DATA_DIR.rglob("*.log"))
        checked = running.proofs(job, path=path, sandbox=sandbox, logs=written, secrets=_secrets_of(seeded))
        seconds = (job.ended_at - job.submitted_at).total_seconds() if job.ended_at else 0
        hold = job.hold.amount if job.hold else 0
        self._table(
            [
                ("job", job.job_id),
                ("duration", f"{seconds:.1f} s here, {job.billed_seconds:.1f} s billed"),
                ("hold", dollars(hold)),
                ("charge", dollars(job.cost or 0)),
                ("artifact", f"{artifact.key} ({artifact.size_bytes:,} bytes)"),
                ("path", str(path)),
                ("SHA-256", running.sha256_of(path)),
            ]
        )
        self._table([(("✓ " if proof.holds else "✗ ") + proof.what, proof.found) for proof in checked])
        _require(checked)

    def _show(self, percent: float, words: str) -> None:
        if self.stdout.isatty():
            filled = round(BAR_CHARACTERS * percent / 100)
            self.stdout.write(f"\r  [{'#' * filled}{'.' * (BAR_CHARACTERS - filled)}] {percent:5.1f} %  {words:<20}", ending="")
            self.stdout.flush()
        elif words != getattr(self, "_last_words", None):
            self.stdout.write(f"  {percent:5.1f} %  {words}")
            self._last_words = words

    def _end_of_bar(self) -> None:
        self.stdout.write("")

    def _table(self, rows: list[tuple[str, str]]) -> None:
        width = max(len(name) for name, _ in rows)
        self.stdout.write("\n".join(f"  {name:<{width}}  {value}" for name, value in rows) + "\n")


def _require(checked: list[Proof]) -> None:
    failed = [proof for proof in checked if not proof.holds]
    if failed:
        raise DemoFailed("Not true: " + "; ".join(f"{proof.what} ({proof.found})" for proof in failed) + ".")


def _secrets_of(seeded: dict[str, Any]) -> list[str]:
    teams = seeded.values()
    passwords = [person["password"] for team in teams for person in team["users"].values()]
    return passwords + [token for team in teams for token in team["tokens"].values()]


@contextmanager
def _product(log: Path, *, port: int, sandbox_port: int, speed: float) -> Iterator[str]:
    """The whole product as `manage.py up` runs it, from its READY line until we are done."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Tethered, so that it does not outlive this command, however that ends.
    program = [sys.executable, "-I", "-S", str(settings.BASE_DIR / "config" / "embedded" / "tether.py"), str(os.getpid())]
    program += [sys.executable, str(settings.BASE_DIR / "manage.py"), "up", "--port", str(port), "--sandbox"]
    program += ["--sandbox-port", str(sandbox_port), "--speed", f"{speed:g}"]
    with log.open("w") as sink:
        up = subprocess.Popen(program, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield _ready_address(up, log)
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(timeout=60)


def _ready_address(up: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while up.poll() is None and time.monotonic() < deadline:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("READY "):
                return line.removeprefix("READY ").strip()
        time.sleep(0.1)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise CommandError("Tunehouse did not start. Its last words:\n  " + "\n  ".join(last))


def _free_port(preferred: int, *, apart_from: int = 0) -> int:
    """The preferred port if nobody has it, else any that is free."""
    for port in (preferred, 0):
        if port and port == apart_from:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CommandError("No port is free on this machine.")


def _wait_for_ctrl_c() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
