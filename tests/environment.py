"""What the suite's processes are given before Django reads its settings. Loaded by `-p tests.environment`."""

import atexit
import os
import shutil
import tempfile

if "TUNEHOUSE_DATA" not in os.environ:
    folder = tempfile.mkdtemp(prefix="tunehouse-tests-")
    os.environ["TUNEHOUSE_DATA"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
os.environ["TUNEHOUSE_ALLOW_PRIVATE_HOSTS"] = "1"
os.environ["TUNEHOUSE_LOG_FORMAT"] = "text"
# A test may look at something else for long in the middle of its transaction.
os.environ["DATABASE_IDLE_SECONDS"] = "900"
# Tests of the pace switch it on.
os.environ["RATE_LIMIT_CALLS"] = "0"
# Nobody is there: a test that wants a Hub says which.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
for name in ("REPLICATE_API_TOKEN", "HF_TOKEN", "REPLICATE_BASE_URL", "TUNEHOUSE_PUBLIC_URL"):
    os.environ.pop(name, None)
