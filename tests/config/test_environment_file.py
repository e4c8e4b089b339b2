"""The example of an environment file names what the settings read, and nothing else."""

import re

from django.conf import settings


def names_in(path, pattern):
    return set(re.findall(pattern, (settings.BASE_DIR / path).read_text()))


def test_every_variable_that_the_settings_read_stands_in_the_example():
    read = names_in("config/settings.py", r"""(?:env\.\w+|environ\.pop)\(\s*"([A-Z_]+)\"""")
    told = names_in(".env.example", r"\b([A-Z][A-Z_]+[A-Z])\b")

    assert len(read) > 20
    assert read - told == set()


def test_the_example_names_no_variable_that_nobody_reads():
    read = names_in("config/settings.py", r'"([A-Z_]+)"')
    offered = names_in(".env.example", r"(?m)^#([A-Z_]+)=")

    assert len(offered) > 20
    assert offered - read == set()
