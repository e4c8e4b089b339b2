"""Keys that an installation makes for itself on its first start."""

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet
from django.core.management.utils import get_random_secret_key


def secret_key() -> str:
    return get_random_secret_key()


def encryption_key() -> str:
    return Fernet.generate_key().decode()


def from_file(path: Path, *, make: Callable[[], str]) -> str:
    """Read the key kept at `path` (mode 0600); the first caller makes it, and of several at once one wins."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(make())
        draft.chmod(0o600)
        try:
            os.link(draft, path)  # fails if another process was first, and its key stands
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
