"""What a training config may say, and in which words it is told that it may not."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.trainingconfigs import (
    ConfigProblems,
    KeyProblem,
    completed,
    max_train_steps,
    model_family,
    model_kind,
    normalise,
    portable,
    problems,
    resolution,
    resolution_type,
    train_batch_size,
    without_secrets,
)
from jobs.trainingexamples import EXAMPLES, Example
from jobs.trainingkeys import NOT_ALLOWED, OTHER_NAMES, SETTINGS

# The configs that SimpleTuner ships as examples come in these shapes: all keys of one kind of training, local names included.
LORA_ON_ONE_MACHINE: dict[str, Any] = {
    "base_model_precision": "int8-quanto",
    "checkpoint_step_interval": 10,
    "controlnet": False,
    "data_backend_config": "config/examples/multidatabackend-small-dreambooth-512px.json",
    "disable_bucket_pruning": True,
    "flow_schedule_shift": 3,
    "fuse_qkv_projections": False,
    "grad_clip_method": "value",
    "gradient_checkpointing": True,
    "gradient_checkpointing_interval": None,
    "hub_model_id": "simpletuner-example-flux-peft-lora",
    "learning_rate": 1e-4,
    "lora_alpha": 16,
    "lora_rank": 16,
    "lora_type": "standard",
    "lr_scheduler": "constant",
    "max_train_steps": 100,
    "mixed_precision": "bf16",
    "model_family": "flux",
    "model_type": "lora",
    "num_eval_images": 25,
    "num_train_epochs": 0,
    "optimizer": "adamw_bf16",
    "output_dir": "output/examples/flux.peft-lora",
    "push_checkpoints_to_hub": False,
    "push_to_hub": False,
    "quantize_via": "cpu",
    "report_to": "none",
    "resume_from_checkpoint": "",
    "seed": 42,
    "skip_file_discovery": False,
    "train_batch_size": 1,
    "use_ema": False,
    "user_prompt_library": "config/examples/flux3_image-prompts.json",
    "validation_guidance": 4.0,
    "validation_negative_prompt": None,
    "validation_prompt_library": False,
    "validation_resolution": "1024x1024",
    "validation_steps": 0,
}
WITH_DASHES = {
    "--model_family": "sdxl",
    "--model_type": "full",
    "--learning_rate": "1e-6",
    "--max_train_steps": "1000",
    "--use-ema": "true",
}
VIDEO = {"model_family": "wan", "framerate": 25, "tread_config": {"routes": [{"selection_ratio": 0.1}]}, "validation_num_video_frames": 81}
LYCORIS = {
    "model_family": "kandinsky5-image",
    "lora_type": "lycoris",
    "lycoris_config": "config/examples/sdxl.lycoris-lokr/lycoris_config.json",
    "validation_guidance_skip_layers": [7, 8, 9],
    "aspect_bucket_alignment": 32,
    "lr_scheduler": "cosine_with_warmup",
    "report_to": ["tensorboard", "wandb"],
}
DISTILLED = {
    "model_family": "ltxvideo2",
    "distillation_method": "dcm",
    "distillation_config": '{"dcm": {"teacher": "self"}}',
    "seed": -1,
    "tokenizer_max_length": 8192,
    "num_processes": 8,
    "resolution": 0.5,
    "resolution_type": "area",
}


def told(**config: Any) -> list[KeyProblem]:
    return problems({"model_family": "flux", **config})


@pytest.mark.parametrize("shape", [LORA_ON_ONE_MACHINE, WITH_DASHES, VIDEO, LYCORIS, DISTILLED, *(example.config for example in EXAMPLES)])
def test_a_config_in_the_shapes_of_simpletuners_examples_passes(shape: dict[str, Any]) -> None:
    config, _ = portable(normalise(shape))

    assert problems(config) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_needs_no_help_to_be_accepted(example: Example) -> None:
    assert problems(normalise(example.config)) == []
    assert completed(example.config) == example.config
    assert max_train_steps(example.config) > 0


def test_a_job_that_goes_to_the_hub_needs_no_config_that_says_so() -> None:
    asked = {"model_family": "flux", "push_to_hub": True, "push_checkpoints_to_hub": True, "hub_model_id": "acme/lora"}

    assert portable(asked, goes_to_hub=True) == ({"model_family": "flux"}, ["hub_model_id"])
    assert [problem.key for problem in problems(portable(asked)[0])] == ["push_to_hub", "push_checkpoints_to_hub", "hub_model_id"]


def test_what_may_be_a_secret_is_left_out_of_what_is_only_shown() -> None:
    token = "hf_" + "x" * 30
    written = {"seed": 1, "hub_token": "x", "validation_prompt": f"a {token}", "tracker": {"api_key": "k"}, token: 1, "lr": math.inf}

    assert without_secrets(written) == {"seed": 1}


@pytest.mark.parametrize("key", ["--learning_rate", "--learning-rate", "learning-rate", " learning_rate ", "learning_rate"])
def test_each_spelling_of_a_key_becomes_one(key: str) -> None:
    assert normalise({key: 1e-4}) == {"learning_rate": 1e-4}


def test_a_key_given_twice_with_one_value_is_given_once() -> None:
    assert normalise({"--seed": 42, "seed": 42}) == {"seed": 42}


@pytest.mark.parametrize(("one", "other"), [(42, 43), (1, True), ([1], [2])])
def test_a_key_given_twice_with_two_values_is_refused_by_name(one: Any, other: Any) -> None:
    with pytest.raises(ConfigProblems, match="'use_ema' twice") as refused:
        normalise({"--use-ema": one, "use_ema": other})

    assert [problem.key for problem in refused.value.problems] == ["use_ema"]


keys = st.one_of(st.text(), st.text(alphabet=" -_\t\nab\xa0\x1c"), st.sampled_from(["--a-b", "a_b", "--seed", "seed"]))


@given(st.dictionaries(keys, st.integers() | st.text() | st.none()))
def test_normalising_twice_is_normalising_once(config: dict[str, Any]) -> None:
    try:
        once = normalise(config)
    except ConfigProblems:
        return

    assert normalise(once) == once


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("learning_rat", "learning_rate"),
        ("Learning_Rate", "learning_rate"),
        ("learningrate", "learning_rate"),
        ("batch_size", "train_batch_size"),
        ("lr", "learning_rate"),
        ("max_training_steps", "max_train_steps"),
        ("flux_schedule_shift", "flow_schedule_shift"),
    ],
)
def test_an_unknown_key_is_told_what_was_probably_meant(written: str, meant: str) -> None:
    [problem] = told(**{written: 1})

    assert problem == KeyProblem(written, f"Unknown config key '{written}'. Did you mean '{meant}'?", "unknown")


def test_an_unknown_key_that_resembles_nothing_is_told_where_to_look() -> None:
    [problem] = told(zzz=1)

    assert problem.kind == "unknown"
    assert problem.message.startswith("Unknown config key 'zzz'. SimpleTuner has no such option: leave it out")


def test_every_name_that_is_suggested_for_another_is_a_setting() -> None:
    assert set(OTHER_NAMES.values()) <= set(SETTINGS)
    assert not set(OTHER_NAMES) & (set(SETTINGS) | set(NOT_ALLOWED))
    assert not set(SETTINGS) & set(NOT_ALLOWED)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("learning_rate", [1e-4], "'learning_rate' must be a number such as 0.0001, but a list was given."),
        ("learning_rate", "fast", "'learning_rate' must be a number such as 0.0001, but the text \"fast\" was given."),
        ("learning_rate", True, "'learning_rate' must be a number such as 0.0001, but true was given."),
        ("learning_rate", "nan", "'learning_rate' must be a number such as 0.0001, but the text \"nan\" was given."),
        ("max_train_steps", 1.5, "'max_train_steps' must be a whole number such as 100, but the number 1.5 was given."),
        ("max_train_steps", "300.0", "'max_train_steps' must be a whole number such as 100, but the text \"300.0\" was given."),
        ("max_train_steps", {}, "'max_train_steps' must be a whole number such as 100, but an object was given."),
        ("use_ema", "maybe", "'use_ema' must be true or false, but the text \"maybe\" was given."),
        ("use_ema", 2, "'use_ema' must be true or false, but the number 2 was given."),
        ("validation_prompt", 5, "'validation_prompt' must be a text, but the number 5 was given."),
        ("model_type", 1, "'model_type' must be one of lora, full, but the number 1 was given."),
        ("tread_config", [1], "'tread_config' must be a JSON object, but a list was given."),
        ("peft_lora_target_modules", 1, "'peft_lora_target_modules' must be a list, but the number 1 was given."),
        ("framerate", True, "'framerate' must be a text or a number, but true was given."),
    ],
)
def test_a_wrong_type_is_named_with_what_is_wanted(key: str, value: Any, sentence: str) -> None:
    assert told(**{key: value}) == [KeyProblem(key, sentence, "wrong_type")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", "1e-4"),
        ("learning_rate", 1),
        ("max_train_steps", " 300 "),
        ("use_ema", "true"),
        ("use_ema", "off"),
        ("use_ema", 1),
        ("lora_rank", None),
        ("lr_scheduler", ""),
        ("irepa_projector_kernel_size", 3),
        ("tread_config", '{"routes": []}'),
        ("validation_resolution", 1024),
        ("report_to", "tensorboard, wandb"),
        ("enable_nsfw_check", False),
        ("__active_tab__", "model"),
    ],
)
def test_what_simpletuner_accepts_in_another_type_is_accepted(key: str, value: Any) -> None:
    assert told(**{key: value}) == []


def test_the_familys_name_may_be_in_capitals_as_simpletuner_lowers_it() -> None:
    assert problems({"model_family": "Flux"}) == []
    assert model_family({"model_family": "Flux"}) == "flux"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("train_batch_size", 0, "'train_batch_size' must be at least 1, but 0 was given."),
        ("learning_rate", 2, "'learning_rate' must be between 0 and 1, but 2 was given."),
        ("learning_rate", math.nan, "'learning_rate' must be between 0 and 1, but nan was given."),
        ("learning_rate", "-1e-4", "'learning_rate' must be between 0 and 1, but -0.0001 was given."),
        ("lora_dropout", 1e400, "'lora_dropout' must be between 0 and 1, but inf was given."),
        ("num_machines", 2, "'num_machines' must be 1, but 2 was given."),
        ("max_train_steps", 2**31, "'max_train_steps' must be between 0 and 2147483647, but 2147483648 was given."),
        ("max_train_steps", 10**400, "'max_train_steps' must be between 0 and 2147483647, but a far larger number was given."),
        ("max_train_steps", "9" * 5000, "'max_train_steps' must be between 0 and 2147483647, but inf was given."),
        ("local_rank", -(2**40), "'local_rank' must be between -2147483647 and 2147483647, but a far larger number was given."),
    ],
)
def test_a_number_out_of_range_is_told_the_range(key: str, value: Any, sentence: str) -> None:
    assert told(**{key: value}) == [KeyProblem(key, sentence, "out_of_range")]


def test_an_unknown_word_is_told_the_nearest_and_all_others() -> None:
    [problem] = told(mixed_precision="bf-16")

    assert problem == KeyProblem(
        "mixed_precision", "'mixed_precision' cannot be 'bf-16'. Did you mean 'bf16'? It takes one of: no, fp16, bf16, fp8.", "unknown_word"
    )


def test_an_unknown_tracker_among_several_is_named() -> None:
    [problem] = told(report_to="tensorboard,wandbb")

    assert problem.kind == "unknown_word"
    assert problem.message.startswith("'report_to' cannot be 'wandbb'. Did you mean 'wandb'?")


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("data_backend_config", "config/multidatabackend.json", "'dataloader_config'"),
        ("webhook_config", {"webhook_url": "https://hooks.example"}, "a receiver of its own"),
        ("output_dir", "output/models", "its own output folder"),
        ("hub_model_id", "acme/lora", "give 'hub_model_id' beside the config"),
        ("push_to_hub", True, "the job's destination"),
        ("push_checkpoints_to_hub", "true", "the job's destination"),
        ("publishing_config", [{"provider": "s3"}], "the job's destination"),
        ("post_upload_script", "/opt/notify.sh", "the script is not in it"),
        ("accelerate_config", "accelerate.yaml", "the file is not in it"),
        ("pretrained_model_name_or_path", "/home/ada/flux", "Name a repository on the Hugging Face Hub"),
        ("init_lora", "~/loras/first.safetensors", "it takes no repository and no address"),
        ("init_lora", "acme/first-lora", "it takes no repository and no address"),
        ("init_lora_ema", "https://example.com/first.safetensors", "it takes no repository and no address"),
        ("resume_from_checkpoint", r"C:\runs\checkpoint-100", "there is no checkpoint in it to go on from"),
        ("resume_from_checkpoint", "checkpoint-100", "can only be 'latest'"),
        ("resume_from_checkpoint", "s3://bucket/lora/checkpoint-100", "can only be 'latest'"),
        ("user_prompt_library", "config/user_prompt_library.json", "below config/examples/"),
        ("lycoris_config", "config/lycoris_config.json", "below config/examples/"),
    ],
)
def test_what_a_hosted_job_cannot_set_is_refused_with_the_reason(key: str, value: Any, advice: str) -> None:
    [problem] = told(**{key: value})

    assert (problem.key, problem.kind) == (key, "not_allowed")
    assert advice in problem.message


@pytest.mark.parametrize(
    ("key", "value"),
    [("resume_from_checkpoint", "latest"), ("resume_from_checkpoint", None), ("resume_from_checkpoint", "None"), ("init_lora", "")],
)
def test_to_begin_at_the_first_step_may_be_said(key: str, value: Any) -> None:
    assert told(**{key: value}) == []


@pytest.mark.parametrize("value", [False, "false", 0, None, ""])
def test_pushing_that_is_switched_off_asks_for_nothing(value: Any) -> None:
    assert told(push_to_hub=value, push_checkpoints_to_hub=value) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hf_token", "xyzzy-plugh"),
        ("wandb_api_key", "xyzzy-plugh"),
        ("s3_secret_access_key", "xyzzy-plugh"),
        ("validation_prompt", "a portrait hf_abcdefghijklmnopqrstuvwxyz of nobody"),
        ("tracker_run_name", "r8_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("learning_rate", "r8_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("distillation_config", {"teacher": [{"api_key": "xyzzy-plugh"}]}),
        ("distillation_config", '{"teacher": {"password": "xyzzy-plugh"}}'),
        ("publishing_config", [{"provider": "s3", "secret_key": "xyzzy-plugh"}]),
    ],
)
def test_a_secret_is_refused_and_never_repeated(key: str, value: Any) -> None:
    [problem] = told(**{key: value})

    assert (problem.key, problem.kind) == (key, "not_allowed")
    assert "the team's credentials" in problem.message
    assert "xyzzy" not in problem.message
    assert "abcdef" not in problem.message


def test_a_token_in_the_place_of_a_key_is_not_repeated_either() -> None:
    [problem] = told(r8_abcdefghijklmnopqrstuvwxyz0123456789="")

    assert problem.kind == "not_allowed"
    assert "abcdef" not in problem.key + problem.message


def test_a_setting_that_only_sounds_like_a_secret_is_none() -> None:
    assert told(tokenizer_max_length=77, validation_prompt="the secret key to a token of love") == []


@pytest.mark.parametrize("value", ["a\0b", "a\ud800b"], ids=["NUL", "half of a pair"])
def test_a_character_that_the_database_cannot_hold_is_refused(value: str) -> None:
    [in_text] = told(validation_prompt=value)
    [inside] = told(tread_config={"routes": [value]})
    [in_key] = told(**{value: 1})

    assert (in_text.kind, inside.kind) == ("wrong_type", "wrong_type")
    assert in_key.key == "a\N{REPLACEMENT CHARACTER}b"


def test_a_number_that_json_does_not_know_is_refused_at_any_depth() -> None:
    [problem] = told(tread_config={"routes": [{"selection_ratio": math.inf}]})

    assert problem.kind == "wrong_type"
    assert "inf" in problem.message


def test_a_config_without_a_family_is_told_to_name_one() -> None:
    [problem] = problems({})

    assert (problem.key, problem.kind) == ("model_family", "missing")
    assert "set 'model_family'" in problem.message


def test_every_problem_of_a_config_is_told_at_once() -> None:
    found = problems({"learning_rat": 1, "train_batch_size": "two"})

    assert [problem.kind for problem in found] == ["unknown", "wrong_type", "missing"]


def test_steps_and_epochs_exclude_each_other_as_they_do_in_simpletuner() -> None:
    [both] = told(max_train_steps=100, num_train_epochs=2)
    [neither] = told(max_train_steps=0, num_train_epochs=0)

    assert (both.key, both.kind) == ("num_train_epochs", "out_of_range")
    assert both.message.startswith("The config asks for 100 steps and for 2 epochs.")
    assert (neither.key, neither.kind) == ("max_train_steps", "out_of_range")
    assert told(num_train_epochs=2) == []


def test_what_simpletuners_parser_insists_on_is_filled_in_and_nothing_else_changed() -> None:
    full = completed({"model_family": "flux", "max_train_steps": "300", "lora_rank": None})

    assert full == {
        "model_family": "flux",
        "max_train_steps": "300",
        "model_type": "lora",
        "optimizer": "adamw_bf16",
        "num_train_epochs": 0,
    }
    assert "num_train_epochs" not in completed({"model_family": "flux"})
    assert completed({"model_type": "full", "optimizer": "prodigy"}) == {"model_type": "full", "optimizer": "prodigy"}


def test_a_config_from_ones_own_machine_leaves_its_places_behind_and_says_so() -> None:
    config, left_out = portable(LORA_ON_ONE_MACHINE)

    assert left_out == ["data_backend_config", "hub_model_id", "output_dir"]
    assert set(LORA_ON_ONE_MACHINE) - set(config) == set(left_out)


def test_a_repository_that_is_to_be_pushed_to_is_not_left_out_silently() -> None:
    config, left_out = portable({"model_family": "flux", "hub_model_id": "acme/lora", "push_to_hub": True})

    assert left_out == []
    assert {problem.key for problem in problems(config)} == {"hub_model_id", "push_to_hub"}


def test_what_a_config_says_is_read_with_simpletuners_defaults() -> None:
    said = {"model_family": "sdxl", "model_type": "full ", "max_train_steps": "1000", "resolution": "0.5", "train_batch_size": 2}

    assert (model_family(said), model_kind(said), max_train_steps(said)) == ("sdxl", "full", 1000)
    assert (resolution(said), train_batch_size(said)) == (0.5, 2)
    assert (model_family({}), model_kind({}), max_train_steps({})) == ("", "lora", 0)
    assert (resolution({}), resolution_type({}), train_batch_size({"train_batch_size": ""})) == (1024, "pixel_area", 4)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted([*SETTINGS, *NOT_ALLOWED])) | st.text(max_size=20), values, max_size=5))
def test_no_config_breaks_the_check_and_what_passes_can_be_stored_and_read(config: dict[str, Any]) -> None:
    found = problems(config)

    assert all(problem.message.endswith((".", "?")) and problem.message.isprintable() for problem in found)
    if not found:
        json.dumps(completed(config), allow_nan=False).encode()
        max_train_steps(config)
        resolution(config)
