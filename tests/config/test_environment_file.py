"""The example of an environment file names what the settings read, and nothing else."""

import re

from django.conf import settings

READERS = ("config/settings.py", "config/directory.py")


def names_in(pattern, *paths):
    return {name for path in paths for name in re.findall(pattern, (settings.BASE_DIR / path).read_text())}


def test_every_variable_that_the_settings_read_stands_in_the_example():
    read = names_in(r"""(?:env\.\w+|environ\.pop)\(\s*"([A-Z_]+)\"""", *READERS)
    told = names_in(r"\b([A-Z][A-Z_]+[A-Z])\b", ".env.example")

    assert len(read) > 20
    assert read - told == set()


def test_the_example_names_no_variable_that_nobody_reads():
    read = names_in(r'"([A-Z_]+)"', *READERS)
    offered = names_in(r"(?m)^#([A-Z_]+)=", ".env.example")

    assert len(offered) > 20
    assert offered - read == set()
