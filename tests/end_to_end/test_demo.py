"""`manage.py demo --once`: the promise of the first screen, and that its checks can fail."""

import os
import subprocess
import sys
import time

import pytest

from tests.config.processes import BASE_DIR, wait_until
from tests.end_to_end.house import MANAGE, processes_of

SAME_BYTES = "artifact is what the trainer wrote"
NO_SECRET = "no secret in the logs"


@pytest.fixture
def demo(tmp_path):
    """Run the demo in one and the same fresh folder; returns its exit code and what it printed."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}

    def run() -> tuple[int, str]:
        program = [sys.executable, MANAGE, "demo", "--once", "--speed", "300"]
        environment = kept | {"TUNEHOUSE_DATA": str(tmp_path)}
        done = subprocess.run(program, cwd=BASE_DIR, env=environment, capture_output=True, text=True, timeout=600, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_demo_shows_one_job_from_dataset_to_delivered_lora_again_and_again_and_leaves_nothing_running(demo, tmp_path):
    first, first_said = demo()
    began = time.monotonic()
    second, second_said = demo()
    seconds = time.monotonic() - began

    assert (first, second) == (0, 0), first_said + second_said
    assert first_said.count("✓") == second_said.count("✓") == 4
    # Half a minute where nothing else goes on.
    assert seconds < 180
    assert len(list((tmp_path / "artifacts").rglob("pytorch_lora_weights.safetensors"))) == 2
    wait_until(lambda: not processes_of(tmp_path))


@pytest.fixture
def proven(house):
    """A job that came home; returns what the demo proves of it with this file and this log."""
    job_id = house.submit()
    house.assert_came_home(job_id)
    [path] = (house.data / "artifacts" / "atelier" / job_id).glob("*.safetensors")

    def proofs(*, file=path, log=house.said / "up"):
        return house.inside("proofs", job_id, str(file), house.sandbox_url, str(log))

    return path, proofs


def test_every_proof_of_the_demo_fails_on_what_it_is_to_find(proven, tmp_path):
    path, proofs = proven
    altered = tmp_path / path.name
    altered.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    leaky, silent = tmp_path / "leaky.log", tmp_path / "silent.log"
    leaky.write_text("GET /?token=th_a-token-of-the-demo\n")
    silent.touch()

    true = proofs()

    assert set(true.values()) == {True}
    assert proofs(file=altered) == true | {SAME_BYTES: False}
    assert proofs(log=leaky) == true | {NO_SECRET: False}
    assert proofs(log=silent) == true | {NO_SECRET: False}
