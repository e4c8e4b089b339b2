"""A supervisor over small services: `python -m tests.config.supervised '{"NAME": "PYTHON CODE", …}'`.

A service named `never` is never ready. Pauses and grace are short, so that tests are.
"""

import json
import sys

from config.embedded.services import Service
from config.embedded.supervisor import Supervisor


def service(name: str, code: str) -> Service:
    return Service(name, [sys.executable, "-I", "-S", "-u", "-c", code], lambda: name != "never")


services = [service(name, code) for name, code in json.loads(sys.argv[1]).items()]
sys.exit(Supervisor(services, environment={"GREETING": "hello"}, grace=1, longest_pause=0.1).run(ready_line="READY"))
