"""The fields of a body, each checked for its type. A field that is null is as one that is not there."""

from collections.abc import Mapping
from typing import Any

from accounts.errors import InvalidInput

LONGEST_ID = 2**63 - 1


def text(given: Mapping[str, Any], name: str, *, most: int, least: int = 0, default: str = "") -> str:
    """Text of `least` to `most` characters, without blanks at its ends. Raises InvalidInput."""
    value = given.get(name)
    if value is None:
        value = default
    if not isinstance(value, str) or not least <= len(value.strip()) <= most:
        raise InvalidInput(f"{name} must be text of {least} to {most} characters.", field=name)
    return value.strip()


def secret(given: Mapping[str, Any], name: str, *, most: int = 4096) -> str:
    """Text as it is, blanks and all; at least one character. Raises InvalidInput, which never repeats it."""
    value = given.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise InvalidInput(f"{name} must be text of 1 to {most} characters.", field=name)
    return value


def flag(given: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be true or false.", field=name)
    return value


def whole(given: Mapping[str, Any], name: str, *, least: int, most: int, default: int | None = None) -> int:
    value = given.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(f"{name} must be a whole number between {least} and {most}.", field=name)
    return value


def one_of(given: Mapping[str, Any], name: str, words: list[str], *, default: str = "") -> str:
    value = given.get(name)
    if value is None and default:
        return default
    if value not in words:
        raise InvalidInput(f"{name} must be one of {', '.join(words)}.", field=name)
    return str(value)


def texts(given: Mapping[str, Any], name: str) -> list[str] | None:
    """A list of texts, or None where there is none. Raises InvalidInput."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"{name} must be a list of texts.", field=name)
    return value


def ids(given: Mapping[str, Any], name: str) -> list[int]:
    value = given.get(name)
    if not isinstance(value, list) or not all(
        isinstance(item, int) and not isinstance(item, bool) and abs(item) < LONGEST_ID for item in value
    ):
        raise InvalidInput(f"{name} must be a list of whole numbers.", field=name)
    return value


def only_empty(given: Mapping[str, Any], name: str, sentence: str) -> None:
    """Refuse what would be dropped without a word."""
    if given.get(name):
        raise InvalidInput(sentence, field=name)
