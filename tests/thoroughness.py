"""How much properties are tried: a few examples in `make test`, many in `make test FULL=1`."""

import os

FULL = os.environ.get("FULL") == "1"
