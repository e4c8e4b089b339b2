"""One installation of its own: platform, workers and sandbox as processes, spoken to over HTTP and looked into by SQL."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from config.embedded import server, services, tether
from tests.config.processes import BASE_DIR, PATIENCE_SECONDS, free_port, is_alive, wait_until

TRAP = Path(__file__).parent / "trap"
MANAGE = str(BASE_DIR / "manage.py")
ENDED = {"completed", "failed", "cancelled"}
# Steps a simulated second with which CONFIG trains for eight seconds: long enough to be caught running.
SLOW = 0.025
# Small enough to be done within moments.
CONFIG = {
    "model_family": "flux",
    "model_type": "lora",
    "pretrained_model_name_or_path": "black-forest-labs/FLUX.1-dev",
    "lora_rank": 4,
    "optimizer": "adamw_bf16",
    "train_batch_size": 1,
    "max_train_steps": 60,
    "num_train_epochs": 0,
    "resolution": 512,
}


def processes_of(folder: Path, *words: str) -> list[int]:
    """The numbers of all living processes that were started for a data folder, whose command line holds the words."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _belongs(entry, str(folder), words)]


def _belongs(entry: Path, folder: str, words: tuple[str, ...]) -> bool:
    try:
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        signs = [command, (entry / "environ").read_text(errors="replace"), str((entry / "cwd").readlink())]
    except OSError:
        return False
    return any(folder in sign for sign in signs) and all(word in command for word in words) and is_alive(int(entry.name))


class House:
    """The folder of an installation and its processes. What they print is kept in `folder/said`."""

    def __init__(self, folder: Path, *, speed: float = 300, **environment: str) -> None:
        self.data = folder / "data"
        self.said = folder / "said"
        self.traps = folder / "traps"
        for new in (self.data, self.said, self.traps):
            new.mkdir()
        self.speed = speed
        self.port, self.sandbox_port, self.hub_port, self.rehearsal_port = (free_port() for _ in range(4))
        self.url, self.sandbox_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.sandbox_port}"
        self.rehearsal_url = f"http://127.0.0.1:{self.rehearsal_port}"
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
            **services.sandbox_environment(
                host="127.0.0.1", port=self.port, sandbox_port=self.sandbox_port, hub_port=self.hub_port, public_url=""
            ),
            **services.rehearsal_environment(host="127.0.0.1", port=self.port, sandbox_port=self.rehearsal_port),
            "TUNEHOUSE_DATA": str(self.data),
            "TUNEHOUSE_LEASE_SECONDS": "3",
            "TUNEHOUSE_POLL_SECONDS_SILENT": "1",
            "TUNEHOUSE_NOT_FOUND_AFTER_SECONDS": "3",
            "RATE_LIMIT_CALLS": "0",
            "PYTHONPATH": str(TRAP),
            "TRAP_FOLDER": str(self.traps),
            **environment,
        }
        # Whatever ends the tests, nothing outlives them.
        self._tethered = [sys.executable, "-I", "-S", str(Path(tether.__file__)), str(os.getpid())]
        self._start_of: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.seeded: dict[str, Any] = {}

    # Processes

    def start(self) -> None:
        self.start_empty()
        seeded = self.python(MANAGE, "seed_demo", "--json")
        self.seeded = json.loads(seeded.splitlines()[-1])["teams"]
        self.api = self._client(self.url, self.seeded["atelier"]["tokens"]["researcher"])
        # The account that the first demo team has at the sandbox.
        self.account = "team1"
        self.provider = self.account_at_provider(1)

    def start_empty(self) -> None:
        """Start as on the first day: nobody has an account yet."""
        self.start_sandbox()
        self.start_platform()

    def stop(self) -> None:
        """Stop everything in an orderly way, then see that nothing is left."""
        for name in list(self._processes):
            self._end(name)
        for client in (getattr(self, "api", None), getattr(self, "provider", None)):
            if client is not None:
                client.close()
        wait_until(lambda: not self.processes())

    def kill(self) -> None:
        """Leave nothing behind, whatever a failed test left."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start_platform(self) -> None:
        self._start("up", "up", "--port", str(self.port))
        wait_until(lambda: f"READY {self.url}\n" in self._since_start("up"))

    def ask_platform_to_stop(self) -> None:
        self._processes["up"].send_signal(signal.SIGTERM)

    def wait_for_platform_to_stop(self) -> int:
        return self._processes.pop("up").wait(timeout=PATIENCE_SECONDS)

    def start_sandbox(self) -> None:
        ports = ["--port", str(self.sandbox_port), "--hub-port", str(self.hub_port)]
        self._start("sandbox", "replicate_sandbox", *ports, "--speed", str(self.speed))
        wait_until(lambda: f"READY {self.sandbox_url}\n" in self._since_start("sandbox"))

    def start_rehearsal_sandbox(self) -> None:
        """A second sandbox beside the one that is taken for Replicate here."""
        folder = str(self.data / "rehearsals")
        self._start("rehearsals", "replicate_sandbox", "--port", str(self.rehearsal_port), "--speed", str(self.speed), "--data", folder)
        wait_until(lambda: f"READY {self.rehearsal_url}\n" in self._since_start("rehearsals"))

    def stop_sandbox(self) -> None:
        self._end("sandbox")

    def python(self, *command: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Run a program of ours to its end and return what it printed; its exit code must be 0."""
        program = [sys.executable, *command]
        done = subprocess.run(program, cwd=BASE_DIR, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with (self.said / "commands").open("a") as said:
            said.write(done.stderr)
        return done.stdout

    def inside(self, *question: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """What the product itself says, asked in a process of its own; see inside.py for the questions."""
        return json.loads(self.python("-m", "tests.end_to_end.inside", *question, seconds=seconds).splitlines()[-1])

    def _start(self, name: str, *command: str) -> None:
        said = self.said / name
        with said.open("ab") as sink:
            self._start_of[name] = sink.tell()
            program = [*self._tethered, sys.executable, MANAGE, *command]
            self._processes[name] = subprocess.Popen(
                program, env=self.environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
            )

    def _since_start(self, name: str) -> str:
        assert self._processes[name].poll() is None, f"{name} has ended: {self.tail(name)}"
        return (self.said / name).read_bytes()[self._start_of[name] :].decode(errors="replace")

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_SECONDS)

    def tail(self, name: str = "up") -> str:
        return "\n".join((self.said / name).read_text(errors="replace").splitlines()[-25:])

    def processes(self, *words: str) -> list[int]:
        """The processes of this installation whose command line holds the words."""
        return processes_of(self.data, *words)

    def worker_children(self, name: str) -> list[int]:
        """The prefork children of a worker, which run the tasks."""
        return [pid for pid in self.processes(f"{name}@") if pid != self.worker(name)]

    def worker(self, name: str) -> int:
        return int((self.data / "ready" / name).read_text())

    # Traps

    def set_trap(
        self,
        *,
        file: str,
        function: str,
        how: signal.Signals,
        program: str = "packer@",
        call: int = 1,
        name: str = "one",
        **at_line: Any,
    ) -> None:
        """Have the first process of `program` that enters the function be sent a signal, once; `at_line` as the trap describes."""
        (self.traps / f"{name}.sprung").unlink(missing_ok=True)
        trap = {"program": program, "file": file, "function": function, "call": call, "signal": how, **at_line}
        (self.traps / "new").write_text(json.dumps(trap))
        (self.traps / "new").rename(self.traps / f"{name}.trap")

    def trapped(self, name: str = "one") -> int:
        """Wait until the trap has sprung and return the process that stepped on it."""
        sprung = self.traps / f"{name}.sprung"
        wait_until(sprung.exists)
        return int(sprung.read_text())

    # The API and the sandbox

    def _client(self, url: str, token: str) -> httpx.Client:
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False)

    def submit(self, *, provider: str = "replicate", api: httpx.Client | None = None, **given: Any) -> str:
        """Submit a job by API and return its id; `config` is added to CONFIG. Both demo teams have a dataset of that name."""
        body = {"dataset": self.seeded["atelier"]["dataset"], **given, "config": CONFIG | given.get("config", {})}
        answer = (api or self.api).post("/api/cloud/jobs/submit", params={"provider": provider}, json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def submit_slow(self, **given: Any) -> str:
        """Submit a job that is long enough under way to be caught running, and let it live that long."""
        self.rule(step_rate=SLOW)
        return self.submit(max_seconds=6000, **given)

    def owner(self) -> httpx.Client:
        """The API as the first demo team's owner calls it."""
        return self.member("atelier", "owner")

    def member(self, team: str, role: str) -> httpx.Client:
        """The API as the person of this role in a demo team calls it."""
        return self._client(self.url, self.seeded[team]["tokens"][role])

    def account_at_provider(self, number: int) -> httpx.Client:
        """The provider's API as one of its demo accounts calls it."""
        return self._client(self.sandbox_url, f"r8_Sandbox0Sandbox0Sandbox0Sandbox0Team{number}")

    def job(self, job_id: str) -> dict[str, Any]:
        return self.api.get(f"/api/cloud/jobs/{job_id}").raise_for_status().json()["job"]

    def wait_for(self, job_id: str, *wanted: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until the job has one of the states and return it as it is then. Another end than that is a failure at once."""
        found: dict[str, Any] = {}

        def is_there() -> bool:
            with suppress(httpx.HTTPError, KeyError):
                found.update(self.job(job_id))
            state = found.get("status")
            assert state in wanted or state not in ENDED, f"The job ended as {state}: {found['error_message']}\n{self.tail()}"
            return state in wanted

        try:
            wait_until(is_there, seconds=seconds)
        except AssertionError as late:
            raise AssertionError(f"{late} Wanted {wanted}, found {found}\n{self.tail()}") from None
        return found

    def wait_for_delivery(self, job_id: str, *wanted: str) -> dict[str, Any]:
        """Wait until the delivery of the job's result has one of the states, and return it with the files that were seen."""
        found: dict[str, Any] = {}

        def is_there() -> bool:
            answer = self.api.get(f"/api/cloud/jobs/{job_id}/artifacts").raise_for_status().json()
            [delivery] = answer["deliveries"]
            found.update(delivery, artifacts=answer["artifacts"])
            return delivery["state"] in wanted

        try:
            wait_until(is_there)
        except AssertionError as late:
            raise AssertionError(f"{late} Wanted {wanted}, found {found}\n{self.tail()}") from None
        return found

    def wait_until_cleaned_up(self, job_id: str) -> None:
        wait_until(lambda: self.row("SELECT cleaned_up_at FROM jobs_job WHERE job_id = %s", job_id)["cleaned_up_at"])

    def rule(self, **rules: Any) -> None:
        """Tell the sandbox how to treat this house's account, unless another is named."""
        answer = httpx.post(f"{self.sandbox_url}/control/settings", json={"account": self.account, **rules}, trust_env=False)
        assert answer.status_code == 200, answer.text

    def lift_rules(self) -> None:
        httpx.post(f"{self.sandbox_url}/control/reset", json={}, trust_env=False).raise_for_status()

    def predictions(self, job_id: str) -> list[dict[str, Any]]:
        """All predictions of the account that were ever made for the job, as the provider lists them."""
        found, path = [], "/v1/predictions"
        while path:
            page = self.provider.get(path).raise_for_status().json()
            found += [item for item in page["results"] if f"job={job_id}&" in (item.get("webhook") or "")]
            path = page["next"]
        return found

    def evidence(self, prediction_id: str) -> dict[str, Any]:
        """What the sandbox knows of a prediction behind its API: the trainer's own files, the webhooks that it sent."""
        return httpx.get(f"{self.sandbox_url}/control/predictions/{prediction_id}", trust_env=False).raise_for_status().json()

    def uploads(self, job_id: str) -> list[str]:
        """The files that the provider still holds for the job."""
        kept = self.provider.get("/v1/files").raise_for_status().json()["results"]
        return [file["id"] for file in kept if file["metadata"].get("job") == job_id]

    # The database

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Ask the database from outside, past all code of the product."""
        with self._database() as database:
            return database.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> dict[str, Any]:
        [found] = self.rows(query, *values)
        return found

    def change(self, statement: str, *values: Any) -> None:
        with self._database() as database:
            assert database.execute(statement, values).rowcount > 0

    @contextmanager
    def _database(self):
        host = str(server.Layout(self.data).socket_folder)
        with psycopg.connect(host=host, user=server.USER, dbname=server.NAME, autocommit=True, row_factory=dict_row) as database:
            yield database

    @property
    def postmaster(self) -> int:
        return int((server.Layout(self.data).cluster / "postmaster.pid").read_text().split()[0])

    # What must be true of everything that happened here

    def everything_said(self) -> str:
        """All that any process of the installation printed or logged."""
        written = [*self.said.iterdir(), *self.data.rglob("*.log")]
        return "".join(path.read_text(errors="replace") for path in written)

    def secrets(self) -> dict[str, list[str]]:
        """Every secret of this installation, by kind."""
        teams = self.seeded.values()
        return {
            "password": [person["password"] for team in teams for person in team["users"].values()],
            "API token": [token for team in teams for token in team["tokens"].values()],
            **self.inside("secrets"),
        }

    def assert_no_secret_was_said(self) -> None:
        said, secrets = self.everything_said(), self.secrets()
        if not self.rows("SELECT 1 FROM jobs_job WHERE destination = 'local' LIMIT 1"):
            secrets.pop("storage key")  # no job kept its result here, so that no key was made
        assert "job.ended" in said  # the lines that a job causes are among them
        assert all(secrets.values()), f"There was nothing to leak: {[kind for kind, known in secrets.items() if not known]}"
        assert [kind for kind, known in secrets.items() if any(secret in said for secret in known)] == []

    def assert_books_are_right(self) -> None:
        assert self.inside("books") == {"ledgers": [True, True], "audits": [True, True, True], "unbalanced": [], "held": 0, "open": 0}

    # What must be true of every job that came home

    def assert_came_home(self, job_id: str) -> dict[str, Any]:
        """The job is completed, was run exactly once, and all that it made is here; returns its one prediction."""
        job = self.wait_for(job_id, "completed")
        self.wait_until_cleaned_up(job_id)
        [prediction] = self.predictions(job_id)
        prediction = self.provider.get(f"/v1/predictions/{prediction['id']}").json()
        assert prediction["status"] == "succeeded"
        assert job["metadata"]["prediction_id"] == prediction["id"]
        self._assert_result_is_here(job_id, self.evidence(prediction["id"]))
        self._assert_log_is_here(job_id, prediction)
        self._assert_timeline(job_id)
        self.assert_money(job_id, prediction)
        assert self.uploads(job_id) == []
        assert self._packed_here(job_id) == []
        return prediction

    def _assert_result_is_here(self, job_id: str, evidence: dict[str, Any]) -> None:
        listed = self.api.get(f"/api/cloud/jobs/{job_id}/artifacts").json()["artifacts"]
        written = {file["key"]: (file["size"], file["sha256"]) for file in evidence["files"]}
        assert {f"{job_id}/{item['name']}": (item["size_bytes"], item["sha256"]) for item in listed} == written
        assert sum(item["kind"] == "weights" for item in listed) == 1
        for item in listed:
            content = self.api.get(item["url"]).raise_for_status().content
            assert hashlib.sha256(content).hexdigest() == written[f"{job_id}/{item['name']}"][1]

    def _assert_log_is_here(self, job_id: str, prediction: dict[str, Any]) -> None:
        assert self.api.get(f"/api/cloud/jobs/{job_id}/logs").json()["logs"] == prediction["logs"]
        progress = self.row(
            "SELECT p.percent, p.step, p.total_steps FROM jobs_jobprogress p JOIN jobs_job j ON j.id = p.job_id WHERE j.job_id = %s", job_id
        )
        assert progress == {"percent": 100, "step": 60, "total_steps": 60}

    def moves(self, job_id: str) -> list[dict[str, Any]]:
        """The lines of the job's timeline that moved it."""
        return self.rows(
            "SELECT e.at, e.state, e.cause FROM jobs_jobevent e JOIN jobs_job j ON j.id = e.job_id "
            "WHERE j.job_id = %s AND e.state <> '' ORDER BY e.id",
            job_id,
        )

    def _assert_timeline(self, job_id: str) -> None:
        moves = self.moves(job_id)
        states = [move["state"] for move in moves]
        # A run that nobody saw running or queued has no such line; none comes twice or out of order.
        whole = ["pending", "uploading", "queued", "running", "completed"]
        assert states == [state for state in whole if state in states]
        assert (states[:2], states[-1]) == (whole[:2], "completed")
        times = [move["at"] for move in moves]
        assert times == sorted(times)

    def assert_money(self, job_id: str, prediction: dict[str, Any] | None) -> None:
        """Hold = charge + release, and the charge is what the provider billed; nothing without a prediction."""
        reference = f"job:{job_id}"
        hold = self.row("SELECT amount, charge, flag FROM billing_hold WHERE reference = %s", reference)
        lines = self.rows("SELECT kind, amount FROM billing_ledgerline WHERE reference = %s ORDER BY id", reference)
        rate = self.row("SELECT usd_per_second FROM billing_priceline l JOIN jobs_job j ON l.id = price_line_id WHERE job_id = %s", job_id)
        seconds = Decimal(str(prediction["metrics"]["predict_time"])) if prediction else Decimal(0)
        charge = round(rate["usd_per_second"] * seconds * 1_000_000)
        assert [line["kind"] for line in lines] == ["hold", "charge", "release"]
        assert [line["amount"] for line in lines] == [hold["amount"], charge, hold["amount"] - charge]
        assert (hold["charge"], hold["flag"]) == (charge, "")
        assert self.job(job_id)["cost_usd_micros"] == charge

    def _packed_here(self, job_id: str) -> list[Path]:
        """What packing the job's data left on our own disk."""
        return [path for path in (self.data / "packing").rglob("*") if job_id in path.name]

    def deliveries(self, job_id: str) -> list[dict[str, Any]]:
        return self.rows(
            "SELECT d.webhook_id, d.state, d.content->>'status' AS says FROM webhooks_delivery d "
            "JOIN jobs_job j ON j.id = d.job_id WHERE j.job_id = %s ORDER BY d.id",
            job_id,
        )
