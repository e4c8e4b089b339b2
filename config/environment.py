"""The settings of the environment, as they stand there."""

import os
from collections.abc import Iterator, MutableMapping

import environ


class AsItStands(MutableMapping[str, str]):
    """The environment with each $ marked as one: django-environ takes a value that begins with it for another setting's name.

    Random secrets begin with it now and then, and a server that does not start would not say why.
    """

    def __getitem__(self, name: str) -> str:
        return os.environ[name].replace("$", r"\$")

    def __setitem__(self, name: str, value: str) -> None:
        os.environ[name] = value

    def __delitem__(self, name: str) -> None:
        del os.environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)


class Environment(environ.Env):
    """django-environ's, for which a value is no more than a value."""

    ENVIRON = AsItStands()

    def __init__(self) -> None:
        super().__init__()
        self.escape_proxy = True
