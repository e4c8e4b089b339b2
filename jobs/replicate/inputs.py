"""What a training run is given: the prediction's `input`, built for the trainer's own input schema.

Source: SimpleTuner's Cog predictor (simpletuner/cog.py) for the inputs, Replicate docs, topics/models/openapi, for the schema.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jobs.replicate.predictions import Prediction

# A zip without files. Trainers built by some Cog versions demand `images` even where a dataloader makes it unused.
EMPTY_ZIP = "data:application/zip;base64,UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="
HARMLESS = {"images": EMPTY_ZIP, "dataloader_json": "", "lycoris_config": "", "hf_token": ""}

# A run is recognised by its output folder, a key that the trainer already has; an invented key might stop it.
MARKER_KEY = "--output_dir"
_MARKER = re.compile(r"output/(j-[0-9a-z]{10})")
_JOB_ID = re.compile(r"j-[0-9a-z]{10}")


class InputsImpossible(ValueError):
    """This trainer cannot be given what the job needs; `field` names the input."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, kw_only=True)
class S3Target:
    """Where the trainer publishes its output folder, and the keys to do so."""

    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str | None = None
    endpoint_url: str | None = None
    base_path: str | None = None
    public_base_url: str | None = None


@dataclass(frozen=True)
class FieldProblem:
    """One thing that is wrong with one input; `kind` is Replicate's word for it, and no value is quoted."""

    field: str
    kind: str
    description: str


def input_schema(openapi: Mapping[str, Any] | None) -> dict[str, Any]:
    """Take the Input schema out of a version's OpenAPI document, with every local `$ref` replaced by what it names.

    Returns an empty schema where the version has none.
    """
    if not isinstance(openapi, Mapping):
        return {}
    found = _follow(openapi, "#/components/schemas/Input")
    resolved = _resolve(found, openapi, depth=0)
    return resolved if isinstance(resolved, dict) else {}


def marker(job_id: str) -> str:
    """Name the output folder by which a run of this job is recognised."""
    return f"output/{job_id}"


def marker_of(prediction: Prediction) -> str | None:
    """Find the id of our job in a prediction's config, else in its webhook's `?job=`; None where it is not ours.

    Both go away when Replicate removes the prediction's data.
    """
    try:
        config = json.loads(prediction.input.get("config_json") or "")
    except (TypeError, ValueError, RecursionError):
        config = None
    folder = config.get(MARKER_KEY) if isinstance(config, dict) else None
    found = _MARKER.fullmatch(folder) if isinstance(folder, str) else None
    if found:
        return found[1]
    try:
        asked = parse_qs(urlsplit(prediction.webhook or "").query).get("job", [])
    except ValueError:
        return None
    return asked[0] if asked and _JOB_ID.fullmatch(asked[0]) else None


def build(
    schema: Mapping[str, Any],
    *,
    job_id: str,
    config: Mapping[str, Any],
    max_train_steps: int,
    dataloader: Sequence[Mapping[str, Any]] | None = None,
    images_url: str | None = None,
    s3: S3Target | None = None,
    hub_model_id: str | None = None,
    hf_token: str | None = None,
    lycoris: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the input of a run: what the schema declares and the job needs, never null.

    Replicate drops inputs that a trainer does not declare without a word, so that anything needed and not declared is
    an error here. Config keys become CLI-style (`--learning_rate`), and the job's marker goes into the config.
    Secrets go into inputs that the schema marks as secret, and nowhere else.

    Raises InputsImpossible.
    """
    if not dataloader and not images_url:
        raise InputsImpossible("Either an archive of images or a dataloader must be given.", field="images")
    if hub_model_id and not hf_token:
        raise InputsImpossible("hf_token is required when using hub_model_id for HuggingFace Hub publishing.", field="hf_token")

    wanted: dict[str, Any] = {"config_json": _config_json(config, job_id=job_id, max_train_steps=max_train_steps)}
    wanted["max_train_steps"] = max_train_steps
    if dataloader:
        # With a dataloader the trainer never unpacks `images`.
        wanted["dataloader_json"] = json.dumps(list(dataloader), ensure_ascii=False, allow_nan=False)
    else:
        wanted["images"] = images_url
    if lycoris is not None:
        wanted["lycoris_config"] = json.dumps(dict(lycoris), ensure_ascii=False, allow_nan=False)
    wanted |= {"hub_model_id": hub_model_id, "hf_token": hf_token}
    if s3:
        wanted |= {f"s3_{name}": value for name, value in vars(s3).items()}

    wanted = {name: value for name, value in wanted.items() if value is not None and value != ""}
    _refuse_undeclared(schema, wanted)
    _refuse_loose_secrets(schema, wanted)
    for name in schema.get("required", ()):
        if name not in wanted and name in HARMLESS:
            wanted[name] = HARMLESS[name]
    return wanted


def validate(schema: Mapping[str, Any], given: Mapping[str, Any]) -> list[FieldProblem]:
    """Check an input against a version's Input schema, as Replicate would, and name each problem.

    Says also which inputs the trainer does not declare, since Replicate ignores those silently.
    The words for `kind` are those of Replicate's 422 answer.
    """
    declared = schema.get("properties", {})
    problems = [FieldProblem(name, "required", f"{name} is required") for name in schema.get("required", ()) if name not in given]
    for name, value in given.items():
        if name not in declared:
            problems.append(FieldProblem(name, "undeclared", f"{name} is not an input of this trainer"))
        else:
            problems.extend(_check(name, value, declared[name]))
    return problems


def _config_json(config: Mapping[str, Any], *, job_id: str, max_train_steps: int) -> str:
    settings = {f"--{key.lstrip('-')}": value for key, value in config.items()}
    settings |= {"--max_train_steps": max_train_steps, MARKER_KEY: marker(job_id)}
    try:
        return json.dumps(settings, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputsImpossible(f"The config cannot be written as JSON: {error}", field="config_json") from None


def _refuse_undeclared(schema: Mapping[str, Any], wanted: dict[str, Any]) -> None:
    declared = schema.get("properties", {})
    for name in [name for name in wanted if name not in declared]:
        if name == "max_train_steps":
            del wanted[name]  # the config says it as well
        else:
            raise InputsImpossible(f"The trainer has no input '{name}', so Replicate would drop it silently.", field=name)


def _refuse_loose_secrets(schema: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in ("hf_token", "s3_access_key", "s3_secret_key"):
        if name not in wanted:
            continue
        if not is_secret(schema["properties"][name]):
            raise InputsImpossible(f"The trainer's input '{name}' is not a secret one, so Replicate would show it.", field=name)
        if name in ("hf_token", "s3_secret_key") and wanted[name] in wanted["config_json"]:
            raise InputsImpossible(f"The config holds the value of '{name}', which Replicate would show.", field="config_json")


def is_secret(declared: Mapping[str, Any]) -> bool:
    """Say whether Replicate redacts this input. Source: Cog docs, python.md#secret."""
    return any(part.get("x-cog-secret") is True or part.get("format") == "password" for part in _branches(declared))


def _branches(declared: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List a property's schema and all those that it is composed of."""
    parts = [declared]
    for word in ("allOf", "anyOf", "oneOf"):
        for part in declared.get(word, ()):
            parts.extend(_branches(part))
    return parts


def _check(name: str, value: Any, declared: Mapping[str, Any]) -> list[FieldProblem]:
    if value is None and declared.get("nullable") is True:
        return []
    problems = _check_own(name, value, declared)
    for part in declared.get("allOf", ()):
        problems.extend(_check(name, value, part))
    for word in ("anyOf", "oneOf"):
        choices = [_check(name, value, part) for part in declared.get(word, ())]
        if choices and all(choices):
            problems.extend(choices[0])
    return problems


def _check_own(name: str, value: Any, declared: Mapping[str, Any]) -> list[FieldProblem]:
    expected = declared.get("type")
    if expected and not _is_of_type(value, expected):
        words = expected if isinstance(expected, str) else ", ".join(expected)
        return [FieldProblem(name, "invalid_type", f"Invalid type. Expected: {words}, given: {_type_of(value)}")]

    problems = []
    if "enum" in declared and value not in declared["enum"]:
        choices = ", ".join(json.dumps(choice) for choice in declared["enum"])
        problems.append(FieldProblem(name, "enum", f"{name} must be one of the following: {choices}"))
    if _type_of(value) in ("integer", "number"):
        if "minimum" in declared and value < declared["minimum"]:
            problems.append(FieldProblem(name, "number_gte", f"Must be greater than or equal to {declared['minimum']}"))
        if "maximum" in declared and value > declared["maximum"]:
            problems.append(FieldProblem(name, "number_lte", f"Must be less than or equal to {declared['maximum']}"))
    if declared.get("format") == "uri" and isinstance(value, str) and not value.startswith(("https://", "http://", "data:")):
        problems.append(FieldProblem(name, "format", "Does not match format 'uri'"))
    if isinstance(value, list) and isinstance(declared.get("items"), Mapping):
        for item in value:
            problems.extend(_check(name, item, declared["items"]))
    return problems


def _is_of_type(value: Any, expected: str | Sequence[str]) -> bool:
    if not isinstance(expected, str):
        return any(_is_of_type(value, word) for word in expected)
    actual = _type_of(value)
    # JSON Schema counts 3.0 as an integer, and every integer as a number.
    return actual == expected or ({actual, expected} == {"integer", "number"} and (expected == "number" or float(value).is_integer()))


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, list | tuple):
        return "array"
    return {str: "string", int: "integer", float: "number"}.get(type(value), type(value).__name__)


def _resolve(node: Any, document: Mapping[str, Any], *, depth: int) -> Any:
    if depth > 32:  # a schema that names itself
        return {}
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            return _resolve(_follow(document, node["$ref"]), document, depth=depth + 1)
        return {key: _resolve(value, document, depth=depth + 1) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolve(item, document, depth=depth + 1) for item in node]
    return node


def _follow(document: Mapping[str, Any], reference: str) -> Any:
    node: Any = document
    for step in reference.removeprefix("#/").split("/"):
        node = node.get(step, {}) if isinstance(node, Mapping) else {}
    return node
