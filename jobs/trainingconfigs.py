"""A SimpleTuner training config as people write it: brought to one spelling, and checked before it costs anything.

The trainer reads the config on a rented GPU and stops at the first key or value that it does not know, so that we
say it beforehand. We are as lenient as SimpleTuner is: it turns a config into command-line arguments, so that "1e-4"
is a number and "true" a switch, and an empty value or null is the same as leaving the key out.
Source: SimpleTuner docs, OPTIONS.md, "JSON Configuration file format".
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from jobs.trainingkeys import (
    BEGINNINGS,
    FILES,
    HARMLESS_WHEN_OFF,
    NO_BEGINNING,
    NOT_ALLOWED,
    OTHER_NAMES,
    PLACES,
    SECRET_KEY,
    SECRET_VALUE,
    SETTINGS,
    SHIPPED,
    Setting,
)

ON = {"1", "true", "yes", "y", "on"}
OFF = {"0", "false", "no", "n", "off"}

WHOLE = re.compile(r"[+-]?[0-9]+")
# Some digits, a point anywhere among them, an exponent: no "nan", no "inf", no 1_000.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# What SimpleTuner pushes to the Hub by.
PUSHES = frozenset({"push_to_hub", "push_checkpoints_to_hub"})
LARGEST = 2**31 - 1  # what fits into the integers of the trainer's inputs and of the database
OWN_DISK = re.compile(r"/|~|\.{1,2}[/\\]|file:|[A-Za-z]:[/\\]")


@dataclass(frozen=True)
class KeyProblem:
    """One thing that is wrong with a config. `message` is a whole sentence or more: what is wrong, where, what to do."""

    key: str
    message: str
    kind: Literal["unknown", "wrong_type", "not_allowed", "out_of_range", "unknown_word", "missing"]


class ConfigProblems(ValueError):
    """The config cannot even be brought to one spelling. The text names each key that stands in it twice."""

    def __init__(self, problems: list[KeyProblem]) -> None:
        super().__init__(" ".join(problem.message for problem in problems))
        self.problems = problems


def normalise(config: Mapping[str, Any]) -> dict[str, Any]:
    """Spell each key as `learning_rate`, whether it came as `--learning_rate`, `--learning-rate` or so; values stay.

    Raises ConfigProblems when a key stands there twice, in two spellings and with two values.
    """
    found: dict[str, Any] = {}
    twice: dict[str, KeyProblem] = {}
    for written, value in config.items():
        key = re.sub(r"^[\s-]+|\s+$", "", str(written)).replace("-", "_")
        if key in found and not _same(found[key], value):
            message = f"The config gives '{_shown(key)}' twice, in two spellings and with two values. Leave one of them out."
            twice[key] = KeyProblem(_shown(key), message, "not_allowed")
        found[key] = value
    if twice:
        raise ConfigProblems(list(twice.values()))
    return found


def problems(config: Mapping[str, Any]) -> list[KeyProblem]:
    """Everything that is wrong with a normalised config, in its own order; what is missing comes last.

    No message repeats a value that looks like a secret. The functions below that read a value want a config without problems.
    """
    found = [problem for key, value in config.items() if (problem := _problem_of(key, value))]
    # How long it trains can be told only from values that are right.
    return [*found, *_missing(config), *([] if found else _length_problems(config))]


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with what SimpleTuner's parser insists on and people leave out, at the values that its pages offer.

    It wants `model_type` and `optimizer`, and it refuses a number of steps beside a number of epochs, which is 1
    unless the config says 0.
    """
    full = {key: value for key, value in config.items() if not _is_empty(value)}
    full.setdefault("model_type", "lora")
    full.setdefault("optimizer", "adamw_bf16")
    if max_train_steps(full):
        full.setdefault("num_train_epochs", 0)
    return full


def portable(config: Mapping[str, Any], *, goes_to_hub: bool = False) -> tuple[dict[str, Any], list[str]]:
    """A normalised config without what only has a meaning on the machine where it was written, and the keys left out.

    Every config that trains locally names its dataloader's file and an output folder, and many name a repository on
    the Hub without pushing to it. These say nothing about a hosted run, and the rest of such a config is good. Where the
    job itself goes to the Hub, the trainer pushes by its own input, so that a config that wants it too says nothing new.
    """
    local = {"data_backend_config", "output_dir"}
    if goes_to_hub:
        local |= {"hub_model_id", *PUSHES}
    elif not asks_for_hub(config):
        local |= {"hub_model_id"}
    left_out = [key for key in config if key in local]
    return {key: value for key, value in config.items() if key not in local}, [key for key in left_out if key not in PUSHES]


def asks_for_hub(config: Mapping[str, Any]) -> bool:
    """Whether a normalised config wants its result pushed to the Hub."""
    return any(not _is_off(config.get(key)) for key in PUSHES)


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """A normalised config without the entries that hold a secret, or may: for what others wrote and we only show."""
    return {key: value for key, value in config.items() if not _may_be_secret(key, value) and is_storable({key: value})}


def is_storable(value: Any) -> bool:
    """Whether JSON in the database can hold it: see `_unstorable`."""
    return _unstorable("", value) is None


def _may_be_secret(key: str, value: Any) -> bool:
    return bool(SECRET_KEY.search(key.lower()) or SECRET_VALUE.search(key)) or holds_secret(value)


def max_train_steps(config: Mapping[str, Any]) -> int:
    """How many optimiser steps the config asks for; 0 where its length is given in epochs."""
    return _whole(config, "max_train_steps", 0)


def train_batch_size(config: Mapping[str, Any]) -> int:
    """How many images a step looks at on one GPU."""
    return _whole(config, "train_batch_size", 4)


def resolution(config: Mapping[str, Any]) -> float:
    """The resolution to train at: pixels along an edge, or megapixels where `resolution_type` is `area`."""
    value: Any = config.get("resolution")
    return 1024.0 if _is_empty(value) else float(value)


def resolution_type(config: Mapping[str, Any]) -> str:
    """What `resolution` counts: `pixel`, `area` or `pixel_area`."""
    return str(config.get("resolution_type") or "").strip() or "pixel_area"


def resolution_words(config: Mapping[str, Any]) -> str:
    """The resolution and what it counts, such as "1024 pixel_area": runs with the same words are alike in it."""
    return f"{resolution(config):g} {resolution_type(config)}"


def images_a_step(config: Mapping[str, Any]) -> int:
    """How many images an optimiser step looks at on one GPU: the batch, as often as its gradients are gathered."""
    return train_batch_size(config) * _whole(config, "gradient_accumulation_steps", 1)


def model_family(config: Mapping[str, Any]) -> str:
    """The architecture that is trained, such as `flux`; empty where the config does not say."""
    return str(config.get("model_family") or "").strip().lower()


def model_kind(config: Mapping[str, Any]) -> Literal["lora", "full"]:
    """Whether a LoRA or the whole model is trained. SimpleTuner's documented default is a LoRA."""
    return "full" if str(config.get("model_type") or "").strip() == "full" else "lora"


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: to Python alone, true and 1 and 1.0 would be one value."""
    return json.dumps(one, sort_keys=True, default=str) == json.dumps(other, sort_keys=True, default=str)


def _whole(config: Mapping[str, Any], key: str, default: int) -> int:
    value: Any = config.get(key)
    return default if _is_empty(value) else int(value)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_off(value: Any) -> bool:
    return _is_empty(value) or str(value).strip().lower() in OFF


def _problem_of(key: str, value: Any) -> KeyProblem | None:
    """The first thing that is wrong with one entry; secrets come first, so that nothing below repeats one."""
    setting = SETTINGS.get(key)
    is_ours = setting is not None or key in NOT_ALLOWED
    if (not is_ours and (SECRET_KEY.search(key.lower()) or SECRET_VALUE.search(key))) or holds_secret(value):
        return _secret(key)
    if key in NOT_ALLOWED:
        return _not_allowed(key, value)
    if setting is None:
        return _unknown(key)
    if _is_empty(value):
        return None
    return CHECKS[setting.kind](key, value, setting) or _place_problem(key, value) or _unstorable(key, value)


def _not_allowed(key: str, value: Any) -> KeyProblem | None:
    if _is_empty(value) or (key in HARMLESS_WHEN_OFF and _is_off(value)):
        return None
    return KeyProblem(key, f"'{key}' cannot be set in the config of a hosted job. {NOT_ALLOWED[key]}", "not_allowed")


def _secret(key: str) -> KeyProblem:
    shown = _shown(SECRET_VALUE.sub("…", key))
    message = (
        f"'{shown}' holds a secret, and everybody who may see the job at the provider can read its config. "
        "Leave it out, and give tokens and keys to the team's credentials."
    )
    return KeyProblem(shown, message, "not_allowed")


def holds_secret(value: Any) -> bool:
    """Whether a token stands anywhere in a value, or a text under a name such as `aws_secret_access_key`."""
    return any(
        SECRET_VALUE.search(name)
        or (isinstance(leaf, str) and leaf.strip() and (SECRET_VALUE.search(leaf) or SECRET_KEY.search(name.lower())))
        for name, leaf in _leaves(value)
    )


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """What stands at the ends of a value, with the name nearest above it; JSON written as a text is looked into too."""
    waiting = [("", value)]
    while waiting:
        name, inner = waiting.pop()
        if isinstance(inner, str) and inner.strip().startswith(("{", "[")):
            with suppress(ValueError, RecursionError):  # then it is an ordinary text, and looked at as it stands
                waiting.append((name, json.loads(inner)))
        if isinstance(inner, Mapping):
            waiting += [(str(key), entry) for key, entry in inner.items()]
        elif isinstance(inner, (list, tuple)):
            waiting += [(name, entry) for entry in inner]
        else:
            yield name, inner


def _unstorable(key: str, value: Any) -> KeyProblem | None:
    """Refuse what JSON in the database cannot hold: NUL, half of a surrogate pair, NaN and the infinities."""
    for name, leaf in _leaves(value):
        if UNSTORABLE.search(name) or (isinstance(leaf, str) and UNSTORABLE.search(leaf)):
            return KeyProblem(key, f"'{key}' holds a character that cannot be stored. Take control characters out of it.", "wrong_type")
        if isinstance(leaf, float) and not math.isfinite(leaf):
            return KeyProblem(key, f"'{key}' holds {leaf}, which is not a number that JSON knows. Give an ordinary number.", "wrong_type")
    return None


def _unknown(key: str) -> KeyProblem:
    name = key.lower()[:100]
    known = OTHER_NAMES.get(name) or next(iter(get_close_matches(name, SETTINGS, n=1, cutoff=0.7)), None)
    advice = "SimpleTuner has no such option: leave it out, or see OPTIONS.md in SimpleTuner's documentation."
    if known:
        advice = f"Did you mean '{known}'?"
    return KeyProblem(_shown(key), f"Unknown config key '{_shown(key)}'. {advice}", "unknown")


def _shown(text: str) -> str:
    """A piece of somebody's input, fit to stand in a sentence and to be stored."""
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:60])
    return printable if len(text) <= 60 else f"{printable}…"


def _wrong_type(key: str, value: Any, wanted: str) -> KeyProblem:
    return KeyProblem(key, f"'{key}' must be {wanted}, but {_described(value)} was given.", "wrong_type")


def _described(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the text "{_shown(value)}"'
    if isinstance(value, (int, float)):
        return f"the number {value}" if abs(value) < 10**12 else "a number"
    return "an object" if isinstance(value, Mapping) else "a list"


def _flag(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    is_right = isinstance(value, (bool, int, str)) and str(value).strip().lower() in ON | OFF
    return None if is_right else _wrong_type(key, value, "true or false")


def _whole_number(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return _range_problem(key, value, setting)
    if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        # Python makes no number of a text of more than 4300 digits; as a decimal it is infinite, and out of range.
        return _range_problem(key, int(value) if len(value) < 100 else float(value), setting)
    return _wrong_type(key, value, "a whole number such as 100")


def _number(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _range_problem(key, value, setting)
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        return _range_problem(key, float(value), setting)
    return _wrong_type(key, value, "a number such as 0.0001")


def _range_problem(key: str, value: float, setting: Setting) -> KeyProblem | None:
    low, high = setting.low, LARGEST if setting.high is None else setting.high
    if (-LARGEST if low is None else low) <= value <= high:  # which NaN never is
        return None
    if low is not None and setting.high is not None:
        wanted = f"{low:.12g}" if low == high else f"between {low:.12g} and {high:.12g}"
    else:
        wanted = (
            f"at least {low:.12g}" if low is not None and value < low else f"between {-LARGEST if low is None else low:.12g} and {high}"
        )
    # A whole number may be too large to become a decimal.
    given = f"{value:.12g}" if isinstance(value, float) or abs(value) < 10**12 else "a far larger number"
    return KeyProblem(key, f"'{key}' must be {wanted}, but {given} was given.", "out_of_range")


def _word(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    may_be_a_number = isinstance(value, int) and not isinstance(value, bool) and setting.words[0].isdigit()
    if not isinstance(value, str) and not may_be_a_number:
        return _wrong_type(key, value, f"one of {', '.join(setting.words)}")
    # SimpleTuner lowers the family's name itself; all other words it takes as they are.
    word = str(value).strip().lower() if key == "model_family" else str(value).strip()
    return None if word in setting.words else _unknown_word(key, word, setting)


def _unknown_word(key: str, word: str, setting: Setting) -> KeyProblem:
    by_lower = {known.lower(): known for known in setting.words}
    near = get_close_matches(word.lower(), by_lower, n=1)
    guess = f"Did you mean '{by_lower[near[0]]}'? " if near else ""
    return KeyProblem(key, f"'{key}' cannot be '{_shown(word)}'. {guess}It takes one of: {', '.join(setting.words)}.", "unknown_word")


def _several_words(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return _wrong_type(key, value, f"one or more of {', '.join(setting.words)}")
    strange = [word.strip() for word in words if word.strip().lower() not in {"", *setting.words}]
    return _unknown_word(key, strange[0], setting) if strange else None


def _text(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    return None if isinstance(value, str) else _wrong_type(key, value, "a text")


def _text_or_number(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    is_right = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return None if is_right else _wrong_type(key, value, "a text or a number")


def _flag_or_text(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    return None if isinstance(value, (bool, str)) else _wrong_type(key, value, "a text, or true or false")


def _object(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    is_right = isinstance(value, Mapping) or (isinstance(value, str) and value.strip().startswith(("{", SHIPPED)))
    return None if is_right else _wrong_type(key, value, "a JSON object")


def _list(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    return None if isinstance(value, (list, str)) else _wrong_type(key, value, "a list")


def _anything(key: str, value: Any, setting: Setting) -> KeyProblem | None:
    return None


CHECKS: dict[str, Callable[[str, Any, Setting], KeyProblem | None]] = {
    "flag": _flag,
    "whole": _whole_number,
    "number": _number,
    "word": _word,
    "words": _several_words,
    "text": _text,
    "text or number": _text_or_number,
    "flag or text": _flag_or_text,
    "object": _object,
    "list": _list,
    "anything": _anything,
}


def _place_problem(key: str, value: Any) -> KeyProblem | None:
    """Refuse what names a file of the writer's own machine, which the trainer's container cannot reach."""
    if key in BEGINNINGS:
        return None if str(value).strip().lower() in NO_BEGINNING[key] else KeyProblem(key, BEGINNINGS[key], "not_allowed")
    if key in FILES and not str(value).startswith(SHIPPED):
        advice = f"Leave it out, or name one of the files that SimpleTuner ships below {SHIPPED}."
    elif PLACES.search(key) and OWN_DISK.match(str(value).strip()):
        advice = "Name a repository on the Hugging Face Hub instead, such as 'black-forest-labs/FLUX.1-dev'."
    else:
        return None
    return KeyProblem(key, f"'{key}' names a file that the trainer's container does not have. {advice}", "not_allowed")


def _missing(config: Mapping[str, Any]) -> list[KeyProblem]:
    if model_family(config):
        return []
    return [KeyProblem("model_family", "The config does not say what to train: set 'model_family', for instance to 'flux'.", "missing")]


def _length_problems(config: Mapping[str, Any]) -> list[KeyProblem]:
    """SimpleTuner wants steps or epochs: never both, and not neither."""
    steps, epochs = max_train_steps(config), _whole(config, "num_train_epochs", 0)
    if steps and epochs:
        message = f"The config asks for {steps} steps and for {epochs} epochs. Set 'num_train_epochs' to 0, or leave 'max_train_steps' out."
        return [KeyProblem("num_train_epochs", message, "out_of_range")]
    if not steps and not epochs and not _is_empty(config.get("num_train_epochs")):
        message = "The config asks for no steps and no epochs. Set 'max_train_steps' to how many steps to train."
        return [KeyProblem("max_train_steps", message, "out_of_range")]
    return []
