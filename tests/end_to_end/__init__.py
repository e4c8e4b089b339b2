"""The product as a whole: real processes, real HTTP, no Django in the tests' own process."""

import pytest

pytest.register_assert_rewrite("tests.end_to_end.house")
