"""Print what a dependency group of pyproject.toml asks for: as it stands there, or pinned as constraints.txt says.

pip takes hashes from a constraints file only for what others require, not for what it is asked itself. Runs on bare Python,
before anything is installed:

    python config/pins.py [--loose] GROUP...

Without a group it prints the pin of pip, which must be new enough for all this.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent


def names(groups: dict[str, list[str | dict[str, str]]], group: str) -> Iterator[str]:
    """The requirements of a group and of the groups that it includes."""
    for entry in groups[group]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from names(groups, entry["include-group"])


def pinned(requirement: str, pins: dict[str, str]) -> str:
    """`celery[redis]>=5.6` as `celery[redis]==5.7.0` with the hashes of its files."""
    asked = re.split(r"[<>=!~;\s]", requirement, maxsplit=1)[0]
    return f"{asked}{pins[normal(asked.partition('[')[0])]}"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: list[str]) -> None:
    groups = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["dependency-groups"]
    asked = [argument for argument in arguments if argument != "--loose"]
    wanted = sorted({requirement for group in asked for requirement in names(groups, group)})
    if "--loose" not in arguments:
        blocks = re.findall(r"^([A-Za-z0-9._-]+)(==.*(?:\n .*)*)", (HERE / "constraints.txt").read_text(), re.MULTILINE)
        pins = {normal(name): pin for name, pin in blocks}
        wanted = [pinned(requirement, pins) for requirement in wanted or ["pip"]]
    sys.stdout.write("\n".join(wanted) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
