import hashlib
import io
import json
import re
import tarfile
import zipfile

import pytest
from safetensors import safe_open

from jobs.sandbox import trainer

from . import servers


@pytest.fixture
def dataset(account):
    return account.upload(servers.archive("a_red_cat.jpg", "a_red_cat.txt", "folder/a_blue_cat.jpg", "__MACOSX/x.jpg"))["urls"]["get"]


def config(**options) -> str:
    return json.dumps({f"--{name}": value for name, value in options.items()})


def test_a_run_publishes_the_very_files_that_it_wrote(account, dataset, bucket):
    place = bucket.destination("jobs/one")

    done = account.finish(servers.inputs(images=dataset, config_json=config(checkpointing_steps=4), **place))

    assert (done["status"], done["output"]) == ("succeeded", f"{bucket.url}/results/jobs/one")
    stored = {
        path.relative_to(bucket.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (bucket.folder / "jobs/one").rglob("*")
        if path.is_file()
    }
    written = account.sandbox.evidence(done)["files"]
    assert stored == {each["key"]: each["sha256"] for each in written}
    names = {key.removeprefix("jobs/one/") for key in stored}
    assert names == {
        "README.md",
        "simpletuner_config.json",
        "pytorch_lora_weights.safetensors",
        *(f"checkpoint-{step}/{name}" for step in range(4, 21, 4) for name in ("pytorch_lora_weights.safetensors", "training_state.json")),
        "validation_images/step_20_sample_0.png",
        "validation_images/step_20_sample_1.png",
    }


@pytest.mark.parametrize("rank", [4, 16, 64])
def test_the_lora_loads_and_has_the_shapes_of_flux(account, dataset, bucket, rank):
    prefix = f"jobs/rank{rank}"

    done = account.finish(servers.inputs(images=dataset, config_json=config(lora_rank=rank), **bucket.destination(prefix)))

    path = bucket.folder / prefix / "pytorch_lora_weights.safetensors"
    with safe_open(path, "numpy") as weights:
        shapes = {name: weights.get_tensor(name).shape for name in weights.keys()}  # noqa: SIM118 (not a mapping)
        metadata = weights.metadata()
    assert shapes["transformer.transformer_blocks.0.attn.to_out.0.lora_A.weight"] == (rank, 3072)
    assert shapes["transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight"] == (3072, rank)
    assert metadata == {
        "format": "pt",
        "base_model": "black-forest-labs/FLUX.1-dev",
        "steps": "20",
        "rank": str(rank),
        "prediction": done["id"],
    }
    assert path.stat().st_size > 8 * 1024**2 or rank < 16


def test_20_the_log_has_the_trainers_lines(account, dataset, bucket):
    place = bucket.destination("jobs/log")

    done = account.finish(servers.inputs(images=dataset, config_json=config(checkpointing_steps=10), **place))

    lines = done["logs"].splitlines()
    assert re.fullmatch(r"\[COG\] Webhook receiver started on http://127\.0\.0\.1:\d+/webhook", lines[0])
    assert lines[1:3] == ["[STAGE] ⏳ Loading base model", "[STAGE] ✓ Loading base model: black-forest-labs/FLUX.1-dev"]
    assert any(line.endswith("2 images, 2 with captions") for line in lines)
    assert "***** Running training *****" in lines
    bars = [line for line in lines if "%|" in line]
    assert [int(re.search(r"(\d+)/20 \[", bar)[1]) for bar in bars] == list(range(1, 21))
    pattern = r"Epoch \d+/10,? Steps: +\d+%\|.{10}\| \d+/20 \[\d\d:\d\d<\d\d:\d\d,  1\.90it/s, lr=0\.0001, step_loss=(0\.\d{4})\]"
    losses = [float(re.fullmatch(pattern, bar)[1]) for bar in bars]
    assert sum(losses[:5]) > sum(losses[-5:]) * 1.5
    assert lines.count("[CHECKPOINT] Checkpoint saved") == 2
    assert "[TRAINING] Status: uploading_model" in lines
    assert not any(line.startswith("[TRAINING] Step") for line in lines)
    tail = lines.index("=== debug.log tail ===")
    assert all(line.startswith("[RANK 0] ") for line in lines[tail + 1 : -1])
    assert lines[tail - 2] == "[COG] Webhook receiver stopped"
    assert lines[-1] == f"Checkpoints published to: {done['output']}"


def test_the_debug_log_is_left_out_on_demand(account, dataset):
    done = account.finish(servers.inputs(images=dataset, return_logs=False))

    assert "debug.log" not in done["logs"]


@pytest.mark.parametrize(
    ("place", "output"),
    [
        ({"s3_public_base_url": "https://cdn.example.com/"}, "https://cdn.example.com/simpletuner"),
        ({"hub_model_id": "acme/lora", "hf_token": "hf_x"}, "{url}/results/simpletuner"),
    ],
)
def test_21_the_output_names_the_place_and_s3_comes_before_the_hub(account, dataset, bucket, place, output):
    given = {**bucket.destination(""), **place}
    del given["s3_base_path"]

    done = account.finish(servers.inputs(images=dataset, **given))

    assert done["output"] == output.format(url=bucket.url)


def test_21_without_a_destination_the_output_is_a_path_in_the_container(account, dataset):
    done = account.finish(servers.inputs(images=dataset))

    assert re.fullmatch(r"Training complete\. Output: output/cog/cog-[0-9a-f]{10}", done["output"])
    assert done["logs"].splitlines()[-1] == done["output"]


def test_the_input_overrides_the_steps_of_the_configuration(account, dataset):
    done = account.finish(servers.inputs(images=dataset, max_train_steps=7, config_json=config(max_train_steps=3)))

    assert "| 7/7 [" in done["logs"]


def test_the_dataset_may_come_from_buckets(account, bucket):
    for name in ("sets/a/one.jpg", "sets/a/two.jpg", "sets/a/two.txt", "sets/b/three.jpg", "sets/other/no.jpg"):
        bucket.put(name, servers.picture() if name.endswith(".jpg") else b"two cats")
    backends = [
        bucket.backend("first", "sets/a/", caption_strategy="textfile"),
        bucket.backend("second", "sets/b/", caption_strategy="filename"),
        {"id": "text", "type": "local", "dataset_type": "text_embeds", "default": True},
    ]

    done = account.finish(servers.inputs(dataloader_json=json.dumps(backends)))

    assert (done["status"], done["error"]) == ("succeeded", None)
    assert "[INFO] (id=first) 2 images, 1 with captions\n" in done["logs"]
    assert "[INFO] (id=second) 1 images, 1 with captions\n" in done["logs"]
    assert done["input"]["dataloader_json"] == json.dumps(backends)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"config_json": ""}, "No training config found. Provide a config JSON or create config/config.json."),
        ({"config_json": "{}"}, "No training config found. Provide a config JSON or create config/config.json."),
        ({"config_json": "{bad"}, "config_json looks like JSON but failed to parse: Expecting property name"),
        ({"config_json": "config/mine.json"}, "Config file not found: config/mine.json"),
        ({"dataloader_json": "[{]"}, "dataloader_json looks like JSON but failed to parse: "),
        ({"hub_model_id": "acme/lora"}, "hf_token is required when using hub_model_id for HuggingFace Hub publishing."),
        ({"dataloader_json": '[{"id": "mine", "type": "local"}]'}, "No images were discovered by the bucket manager in the dataset: mine."),
        ({"dataloader_json": '[{"id": "mine", "type": "aws"}]'}, "Missing required AWS configuration keys: ['aws_bucket_name', "),
        ({"dataloader_json": "[]"}, "Must provide at least one image dataset in the data backend config file."),
        ({"images": "data:,nonsense"}, "Unsupported dataset archive format. Use .zip or .tar."),
        ({"config_json": '{"--lora_rank": "many"}'}, "argument --lora_rank: invalid value: 'many'"),
    ],
)
def test_22_what_the_trainer_cannot_use_fails_with_its_words(account, dataset, given, error):
    done = account.finish(servers.inputs(**{"images": dataset, **given}))

    assert (done["status"], done["output"]) == ("failed", None)
    assert done["error"].startswith(error)


def test_no_data_at_all_fails(account):
    account.rule(schema_variant="none")

    done = account.finish({"config_json": config(max_train_steps=1)})

    assert (done["status"], done["error"]) == ("failed", "Either dataset_archive or dataloader config must be provided.")


def test_an_empty_archive_fails_late_and_loudly(account):
    done = account.finish(servers.inputs())

    assert re.fullmatch(r"No images were discovered by the bucket manager in the dataset: cog-\w{10}-images\.", done["error"])
    assert done["logs"].splitlines()[-2:] == [
        f"[ERROR] Fatal Error: Failed to run training: {done['error']}",
        "[COG] Webhook receiver stopped",
    ]


def test_unreadable_images_are_skipped_with_a_warning(account):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("good.jpg", servers.picture())
        file.writestr("bad.jpg", b"this is no picture")

    done = account.finish(servers.inputs(images=account.upload(content.getvalue())["urls"]["get"]))

    assert done["status"] == "succeeded"
    assert "Unable to load image 'bad.jpg', skipping." in done["logs"]
    assert "1 images, 1 with captions" in done["logs"]


def test_a_tar_archive_is_read_too(account):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        member = tarfile.TarInfo("a_cat.jpg")
        member.size = len(servers.picture())
        file.addfile(member, io.BytesIO(servers.picture()))

    done = account.finish(servers.inputs(images=account.upload(content.getvalue(), "d.tar.gz")["urls"]["get"]))

    assert "1 images, 1 with captions" in done["logs"]


@pytest.mark.parametrize("name", ["../outside.jpg", "/absolute.jpg", "a/../../b.jpg"])
def test_an_archive_that_reaches_outside_is_refused(account, name):
    images = account.upload(servers.archive("good.jpg", name))["urls"]["get"]

    done = account.finish(servers.inputs(images=images))

    assert (done["status"], done["error"]) == ("failed", f"Unsafe zip path detected: {name}")


def test_22_the_upstream_trainer_refuses_every_archive(account, dataset):
    account.rule(unpack="upstream")

    done = account.finish(servers.inputs(images=dataset))

    assert (done["status"], done["error"]) == ("failed", "Unsafe zip path detected: a_red_cat.jpg")


def test_11_a_deleted_or_foreign_file_is_no_dataset(account, open_account, dataset):
    stranger = open_account(account.sandbox)

    foreign = stranger.finish(servers.inputs(images=dataset))
    account.http.delete(dataset)
    deleted = account.finish(servers.inputs(images=dataset))

    assert [foreign["error"], deleted["error"]] == ["Failed to download input images: File not found"] * 2


def test_an_archive_may_come_from_any_address(account):
    content = servers.archive("a_cat.jpg")
    uploaded = account.upload(content)
    link = account.sandbox.control(f"files/{uploaded['id']}").json()["download_url"].replace("127.0.0.1", "localhost")

    done = account.finish(servers.inputs(images=link))

    assert done["status"] == "succeeded"


def test_a_destination_that_refuses_fails_the_run_without_telling_secrets(account, dataset, bucket):
    place = {**bucket.destination("jobs/refused"), "s3_secret_key": "not-the-secret"}

    done = account.finish(servers.inputs(images=dataset, **place))

    assert done["status"] == "failed"
    assert "SignatureDoesNotMatch" in done["error"] or "AccessDenied" in done["error"] or "403" in done["error"]
    assert "not-the-secret" not in json.dumps(done)


def test_a_destination_without_keys_never_uses_the_machines_own(account, dataset, bucket):
    done = account.finish(servers.inputs(images=dataset, s3_bucket="results", s3_endpoint_url=bucket.url))

    assert (done["status"], done["error"]) == ("failed", "Unable to locate credentials")


@pytest.mark.parametrize(("fault", "error"), [("out_of_memory", "CUDA out of memory."), ("nan_loss", "Encountered NaN values")])
def test_training_can_be_made_to_fail_half_way(account, dataset, fault, error):
    account.rule(fail=fault, times=1)

    failed = account.finish(servers.inputs(images=dataset))
    next_one = account.finish(servers.inputs(images=dataset))

    assert (failed["status"], next_one["status"]) == ("failed", "succeeded")
    assert failed["error"].startswith(error)
    assert "| 10/20 [" in failed["logs"]
    assert "| 11/20 [" not in failed["logs"]
    assert failed["metrics"]["predict_time"] > 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("gated_model", "Access to model black-forest-labs/FLUX.1-dev is restricted"),
        ("nsfw", "NSFW content was detected in the dataset cog-"),
        ("no_images", "No images were discovered by the bucket manager in the dataset: cog-"),
    ],
)
def test_training_can_be_made_to_fail_before_its_first_step(account, dataset, fault, error):
    account.rule(fail=fault)

    failed = account.finish(servers.inputs(images=dataset))

    assert failed["status"] == "failed"
    assert error in failed["error"]
    assert "Steps:" not in failed["logs"]
    assert failed["logs"].endswith(f"[ERROR] Fatal Error: Failed to run training: {failed['error']}\n[COG] Webhook receiver stopped\n")


@pytest.mark.parametrize(
    ("code", "error", "has_started", "has_logs"),
    [
        ("PA", "Prediction interrupted; please retry (code: PA)", True, False),
        ("E1000", "Unknown error (E1000)", True, False),
        ("E1001", "Out of memory (E1001)", True, True),
        ("E6716", "Timeout starting prediction (E6716)", False, False),
        ("E8367", "Prediction stopped in a non-terminal state (E8367)", True, True),
        ("E8765", "Director: unexpected error handling prediction (E8765)", False, False),
        ("E9243", "Error starting prediction (E9243)", False, False),
        ("E9828", "Director: unexpected error handling prediction (E9828)", True, False),
    ],
)
def test_34_the_platform_can_be_made_to_fail(account, dataset, code, error, has_started, has_logs):
    account.rule(fail=code)

    done = account.finish(servers.inputs(images=dataset))

    assert (done["status"], done["error"], done["output"]) == ("failed", error, None)
    assert (done["started_at"] is not None, done["logs"] != "") == (has_started, has_logs)
    assert "Fatal Error" not in done["logs"]
    assert (done["metrics"]["predict_time"] > 0) == has_started


def test_20_step_lines_can_be_switched_on(account, dataset):
    account.rule(step_lines=True)

    done = account.finish(servers.inputs(images=dataset, max_train_steps=4))

    steps = [line for line in done["logs"].splitlines() if line.startswith("[TRAINING] Step")]
    assert [re.match(r"\[TRAINING\] Step \d/4 \(\d+\.\d%\)", line)[0] for line in steps] == [
        "[TRAINING] Step 1/4 (25.0%)",
        "[TRAINING] Step 2/4 (50.0%)",
        "[TRAINING] Step 3/4 (75.0%)",
        "[TRAINING] Step 4/4 (100.0%)",
    ]


def test_checkpoints_are_published_while_the_training_goes_on(account, dataset, bucket):
    account.rule(fail="out_of_memory")
    given = servers.inputs(
        images=dataset, config_json=config(checkpointing_steps=5, validation_steps=5), **bucket.destination("jobs/early")
    )

    failed = account.finish(given)

    stored = {
        path.relative_to(bucket.folder / "jobs/early").as_posix() for path in (bucket.folder / "jobs/early").rglob("*") if path.is_file()
    }
    assert stored == {"checkpoint-5/pytorch_lora_weights.safetensors", "checkpoint-5/training_state.json"}
    assert failed["logs"].count("[TRAINING] Status: model_available") == 1
    assert failed["logs"].count("[STAGE] ✓ Running Validation") == 1


def test_samples_are_drawn_at_their_interval(account, dataset, bucket):
    given = servers.inputs(images=dataset, config_json=config(validation_steps=8), **bucket.destination("jobs/samples"))

    done = account.finish(given)

    drawn = {path.name for path in (bucket.folder / "jobs/samples/validation_images").iterdir()}
    assert drawn == {f"step_{step}_sample_{number}.png" for step in (8, 16, 20) for number in (0, 1)}
    assert done["logs"].count("[STAGE] ✓ Running Validation") == 2


def test_a_refused_checkpoint_is_noted_and_the_training_goes_on(account, dataset, bucket):
    place = {**bucket.destination("jobs/refused"), "s3_secret_key": "not-the-secret"}

    done = account.finish(servers.inputs(images=dataset, config_json=config(checkpointing_steps=5), **place))

    assert done["status"] == "failed"
    assert done["logs"].count("[ERROR] Error uploading checkpoint: ") == 4
    assert "| 20/20 [" in done["logs"]


def test_bars_are_drawn_as_tqdm_draws_them():
    tqdm_says = {0.0: "          ", 0.12: "█▏        ", 0.5: "█████     ", 0.99: "█████████▉", 1.0: "██████████"}

    assert {fraction: trainer._blocks(fraction) for fraction in tqdm_says} == tqdm_says


def test_a_long_run_prints_a_bounded_log():
    day = trainer._ticks(164_160, 1.9)

    assert (len(day), day[-1]) == (400, 164_160)
    assert trainer._ticks(3, 1.9) == [1, 2, 3]
