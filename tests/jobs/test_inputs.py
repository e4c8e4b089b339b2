"""Building a run's input against the trainer's own schema, and finding our marker in it again."""

import json
from io import BytesIO
from urllib.request import urlopen
from zipfile import ZipFile

import pytest

from jobs.replicate.inputs import (
    EMPTY_ZIP,
    FieldProblem,
    InputsImpossible,
    S3Target,
    build,
    input_schema,
    is_secret,
    marker_of,
    validate,
)
from jobs.replicate.predictions import parse

JOB = "j-abcdef2345"
SECRET = {"type": "string", "format": "password", "writeOnly": True, "x-cog-secret": True}
S3 = S3Target(
    bucket="tunehouse",
    region="us-east-1",
    endpoint_url="https://tunehouse.example/api/cloud/storage",
    base_path=f"acme/{JOB}",
    access_key="access-of-the-job",
    secret_key="secret-of-the-job",
)


def schema(*, required=("images", "config_json", "dataloader_json", "max_train_steps", "lycoris_config"), without=()):
    """Make the trainer's Input schema as Cog does."""
    text = {"type": "string"}
    properties = {
        "images": {"type": "string", "format": "uri"},
        "config_json": text,
        "dataloader_json": text,
        "max_train_steps": {"type": "integer", "minimum": 1},
        **{f"s3_{name}": {**text, "nullable": True} for name in ("bucket", "region", "endpoint_url", "base_path", "public_base_url")},
        "s3_access_key": {**SECRET, "nullable": True},
        "s3_secret_key": {**SECRET, "nullable": True},
        "hub_model_id": {**text, "nullable": True},
        "hf_token": SECRET,
        "lycoris_config": text,
        "return_logs": {"type": "boolean", "default": True},
    }
    kept = {name: {**declared, "x-order": order} for order, (name, declared) in enumerate(properties.items()) if name not in without}
    return {"type": "object", "title": "Input", "properties": kept, "required": list(required)}


def asked(**changes):
    plain = {"job_id": JOB, "config": {"--learning_rate": 1e-4}, "max_train_steps": 100, "images_url": "https://files.example/1"}
    return plain | changes


def test_the_archive_path_sends_images_and_no_dataloader():
    built = build(schema(required=()), **asked())

    assert built == {
        "config_json": json.dumps({"--learning_rate": 1e-4, "--max_train_steps": 100, "--output_dir": f"output/{JOB}"}),
        "max_train_steps": 100,
        "images": "https://files.example/1",
    }


def test_the_storage_path_sends_a_dataloader_and_an_empty_archive_only_where_it_is_required():
    dataloader = [{"id": "cats", "type": "aws"}]

    some = build(schema(), **asked(images_url=None, dataloader=dataloader))
    none = build(schema(required=()), **asked(images_url=None, dataloader=dataloader))

    assert json.loads(some["dataloader_json"]) == dataloader
    assert (some["images"], some["lycoris_config"]) == (EMPTY_ZIP, "")
    assert set(none) == {"config_json", "dataloader_json", "max_train_steps"}


def test_the_empty_archive_is_one():
    with urlopen(EMPTY_ZIP) as answer:
        assert ZipFile(BytesIO(answer.read())).namelist() == []


@pytest.mark.parametrize("required", [(), ("images", "config_json", "dataloader_json", "max_train_steps", "hf_token", "lycoris_config")])
def test_what_is_built_is_valid_for_every_cog(required):
    built = build(schema(required=required), **asked(dataloader=[{"id": "cats"}]))

    assert validate(schema(required=required), built) == []
    assert None not in built.values()


def test_targets_and_tokens_go_into_their_own_inputs():
    built = build(schema(), **asked(s3=S3, hub_model_id="acme/lora", hf_token="hf_secret_token", lycoris={"algo": "lokr"}))

    assert {name: value for name, value in built.items() if name.startswith("s3_")} == {
        "s3_bucket": "tunehouse",
        "s3_region": "us-east-1",
        "s3_endpoint_url": "https://tunehouse.example/api/cloud/storage",
        "s3_base_path": f"acme/{JOB}",
        "s3_access_key": "access-of-the-job",
        "s3_secret_key": "secret-of-the-job",
    }
    assert (built["hub_model_id"], built["hf_token"]) == ("acme/lora", "hf_secret_token")
    assert json.loads(built["lycoris_config"]) == {"algo": "lokr"}
    assert built["config_json"].count("secret") == 0


def test_config_keys_are_written_as_on_the_command_line():
    built = build(schema(), **asked(config={"learning_rate": 1e-4, "--seed": 42, "output_dir": "elsewhere", "max_train_steps": 7}))

    assert json.loads(built["config_json"]) == {
        "--learning_rate": 1e-4,
        "--seed": 42,
        "--output_dir": f"output/{JOB}",
        "--max_train_steps": 100,
    }


def test_steps_stand_in_the_config_where_there_is_no_input_for_them():
    built = build(schema(required=(), without=["max_train_steps"]), **asked())

    assert set(built) == {"config_json", "images"}
    assert json.loads(built["config_json"])["--max_train_steps"] == 100


@pytest.mark.parametrize(
    ("changes", "without", "field"),
    [
        ({"images_url": None}, [], "images"),
        ({"images_url": None, "dataloader": []}, [], "images"),
        ({"hub_model_id": "acme/lora"}, [], "hf_token"),
        ({"s3": S3}, ["s3_bucket"], "s3_bucket"),
        ({"hf_token": "hf_secret_token"}, ["hf_token"], "hf_token"),
        ({"hf_token": "hf_secret_token", "config": {"--hub_token": "hf_secret_token"}}, [], "config_json"),
        ({"s3": S3, "config": {"--publishing_config": '{"key": "secret-of-the-job"}'}}, [], "config_json"),
        ({"config": {"--learning_rate": float("nan")}}, [], "config_json"),
        ({"config": {"--learning_rate": object()}}, [], "config_json"),
    ],
)
def test_what_a_trainer_cannot_be_given_is_refused(changes, without, field):
    with pytest.raises(InputsImpossible) as refused:
        build(schema(without=without), **asked(**changes))

    assert refused.value.field == field
    assert "secret-of-the-job" not in str(refused.value)


def test_a_secret_is_not_sent_where_replicate_would_show_it():
    open_schema = schema()
    open_schema["properties"]["hf_token"] = {"type": "string"}

    with pytest.raises(InputsImpossible, match="'hf_token' is not a secret one"):
        build(open_schema, **asked(hf_token="hf_secret_token"))


def test_keys_are_not_in_the_repr_of_a_target():
    assert "of-the-job" not in repr(S3)


def test_a_secret_is_recognised_in_a_nullable_one():
    assert is_secret({"anyOf": [SECRET, {"type": "null"}]})
    assert not is_secret({"type": "string"})


def test_the_marker_is_found_in_what_was_built():
    built = build(schema(), **asked())

    assert marker_of(parse({"id": "a", "status": "starting", "input": built})) == JOB


def test_the_marker_is_found_in_the_webhook_where_the_input_is_gone():
    hook = f"https://tunehouse.example/api/webhooks/replicate?job={JOB}&key=x"

    assert marker_of(parse({"id": "a", "status": "starting", "input": {}, "webhook": hook})) == JOB


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"input": {"config_json": "config/config.json"}},
        {"input": {"config_json": "[]"}},
        {"input": {"config_json": 7}},
        {"input": {"config_json": '{"--output_dir": "output/models"}'}},
        {"input": {"config_json": '{"--output_dir": 7}'}},
        {"webhook": "https://elsewhere.example/?job=17"},
        {"webhook": "http://[half?job=j-abcdef2345"},
    ],
)
def test_a_run_of_somebody_else_has_no_marker(said):
    assert marker_of(parse({"id": "a", "status": "starting", **said})) is None


def test_references_are_followed_and_circles_end():
    schemas = {
        "Input": {
            "properties": {"size": {"allOf": [{"$ref": "#/components/schemas/size"}]}, "loop": {"$ref": "#/components/schemas/loop"}}
        },
        "size": {"enum": [1, 2], "type": "integer"},
        "loop": {"items": {"$ref": "#/components/schemas/loop"}},
    }

    resolved = input_schema({"components": {"schemas": schemas}})

    assert resolved["properties"]["size"] == {"allOf": [{"enum": [1, 2], "type": "integer"}]}
    assert input_schema(None) == {}
    assert input_schema({"components": None}) == {}


@pytest.mark.parametrize(
    ("declared", "value", "problem"),
    [
        ({"type": "string"}, None, ("invalid_type", "Invalid type. Expected: string, given: null")),
        ({"type": "string", "nullable": True}, None, None),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, None),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 7, ("invalid_type", "Invalid type. Expected: string, given: integer")),
        ({"type": ["string", "null"]}, 7, ("invalid_type", "Invalid type. Expected: string, null, given: integer")),
        ({"type": "integer"}, True, ("invalid_type", "Invalid type. Expected: integer, given: boolean")),
        ({"type": "integer"}, 3.5, ("invalid_type", "Invalid type. Expected: integer, given: number")),
        ({"type": "integer"}, 3.0, None),
        ({"type": "number"}, 3, None),
        ({"type": "integer", "minimum": 1}, 0, ("number_gte", "Must be greater than or equal to 1")),
        ({"type": "integer", "minimum": 1, "maximum": 4}, 5, ("number_lte", "Must be less than or equal to 4")),
        ({"allOf": [{"enum": ["a", "b"], "type": "string"}]}, "c", ("enum", 'x must be one of the following: "a", "b"')),
        ({"allOf": [{"enum": ["a", "b"], "type": "string"}]}, "b", None),
        ({"type": "string", "format": "uri"}, "cats.zip", ("format", "Does not match format 'uri'")),
        ({"type": "string", "format": "uri"}, EMPTY_ZIP, None),
        ({"type": "array", "items": {"type": "string"}}, ["a", 1], ("invalid_type", "Invalid type. Expected: string, given: integer")),
        ({"type": "object"}, [], ("invalid_type", "Invalid type. Expected: object, given: array")),
    ],
)
def test_values_are_checked_as_replicate_does(declared, value, problem):
    problems = validate({"properties": {"x": declared}}, {"x": value})

    assert problems == ([FieldProblem("x", *problem)] if problem else [])


def test_missing_and_undeclared_inputs_are_named():
    problems = validate(schema(required=["config_json"]), {"hf_tokn": "hf_secret_token"})

    assert problems == [
        FieldProblem("config_json", "required", "config_json is required"),
        FieldProblem("hf_tokn", "undeclared", "hf_tokn is not an input of this trainer"),
    ]
