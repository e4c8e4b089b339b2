"""A user of a Hub: evaluates expressions with the real huggingface_hub, in a process of its own as that reads its environment once.

`python hub_user.py` reads lines of JSON, [token, expression...], and answers each with a line, the list of the values. A refusal
of the Hub is a value, too: [the exception's name, the status, what the server said].
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path


class HubUser:
    """The process; `home` is where the client keeps what it downloads."""

    def __init__(self, hub_url: str, home: Path):
        environment = {"PATH": os.environ["PATH"], "HF_ENDPOINT": hub_url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, __file__], env=environment, text=True, **pipes)

    def ask(self, token: str, *expressions: str) -> list:
        """Evaluate `expressions` one after the other, on behalf of a token's owner or of nobody."""
        self.process.stdin.write(json.dumps([token, *expressions]) + "\n")
        self.process.stdin.flush()
        values = json.loads(self.process.stdout.readline())
        assert isinstance(values, list), values
        return values

    def stop(self) -> None:
        self.process.communicate(timeout=60)


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _answers() -> None:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    for line in sys.stdin:
        token, *expressions = json.loads(line)
        known = {"api": huggingface_hub.HfApi(token=token or False), "huggingface_hub": huggingface_hub, "sha256": sha256}
        values = []
        for expression in expressions:
            try:
                values.append(eval(expression, known))  # noqa: S307 (the tests' own)
            except HfHubHTTPError as error:
                values.append([type(error).__name__, error.response.status_code, error.server_message])
            except Exception as error:  # noqa: BLE001 (the test shows it)
                values = f"{expression}: {error!r}"
                break
        print(json.dumps(values, default=str), flush=True)


if __name__ == "__main__":
    _answers()
