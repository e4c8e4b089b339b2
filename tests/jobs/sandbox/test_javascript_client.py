"""The official JavaScript client, unmodified, is the second judge of the sandbox."""

import json
import shutil
import subprocess

import pytest

from . import servers

pytestmark = pytest.mark.npm


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """The tour with the client beside it, which npm checks against the hash in the lock file."""
    folder = tmp_path_factory.mktemp("javascript") / "programs"
    shutil.copytree(servers.ROOT / "tests/jobs/sandbox/javascript", folder)
    install = ["npm", "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    # The only call of the suite to another machine: tried again and again, and not at all where npm has the files already.
    install += ["--prefer-offline", "--fetch-retries=5", "--fetch-retry-mintimeout=2000"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


def test_the_javascript_client_tours_the_whole_api(account, programs):
    archive = programs / "d.zip"
    archive.write_bytes(servers.archive("a_cat.jpg"))
    command = ["node", "tour.mjs", f"{account.sandbox.url}/v1", account.token, archive, json.dumps(servers.inputs())]

    tour = subprocess.run(command, cwd=programs, capture_output=True, text=True, timeout=120, check=False)

    assert tour.returncode == 0, tour.stderr
    seen = json.loads(tour.stdout)
    assert seen["username"] == account.name
    assert seen["newestIsLatest"] is True
    assert "gpu-h100" in seen["skus"]
    assert seen["file"] == {"name": "d.zip", "size": archive.stat().st_size, "metadata": {"job": "j-1"}, "isTheSame": True}
    assert seen["trained"]["status"] == "succeeded"
    assert seen["trained"]["output"].startswith("Training complete. Output: output/cog/cog-")
    assert seen["webhook"] == {"signed": True, "forged": False, "status": "succeeded"}
    assert seen["canceled"] == "canceled"
    assert (seen["pages"], seen["oldest"]) == ([100, 2], True)
    assert seen["refusal"]["status"] == 422
    assert "Invalid version or not permitted" in seen["refusal"]["message"]
