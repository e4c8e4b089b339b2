"""Reading the trainer's log as it grows. The samples are in the formats that the trainer prints."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.replicate.logs import GAP, Lines, Point, ProgressParser, new_text, read, whole_lines, without_repaints

SAMPLES = Path(__file__).parent / "samples"


def sample(name):
    return (SAMPLES / name).read_bytes().decode()


def read_in_pieces(pieces):
    """Read piece by piece, each in another process as it were; return the parser and its series."""
    parser, series = ProgressParser(), {}
    for piece in pieces:
        parser = ProgressParser.resume(json.loads(json.dumps(parser.state, allow_nan=False)))
        series |= {point.step: point for point in parser.feed(piece)}
    series |= {point.step: point for point in parser.finish()}
    return parser, series


def test_a_whole_run_is_read():
    parser, series = read_in_pieces([sample("flux_lora.log")])

    assert (parser.step, parser.total_steps, parser.percent, parser.stage) == (200, 200, 100.0, "Training")
    assert (parser.loss, parser.learning_rate, parser.rate, parser.seconds_left) == (0.187, 0.0001, 1.94, 0)
    assert (parser.checkpoints, parser.validations, parser.errors) == ([100], [100, 200], [])
    assert parser.last_log == "Model published to: https://huggingface.co/acme/my-lora"
    assert list(series.values()) == [
        Point(1, 0.512, 1e-06),
        Point(10, 0.444, 1e-05),
        Point(100, 0.31, 0.0001),
        Point(101, None, 0.0001),  # the loss was no number
        Point(200, 0.187, 0.0001),
    ]


def test_stages_follow_the_run():
    parser = ProgressParser()
    stages = []
    for line in sample("flux_lora.log").splitlines(keepends=True):
        parser.feed(line)
        if not stages or stages[-1] != parser.stage:
            stages.append(parser.stage)

    assert stages == [
        *("Training", "Preprocessing", "Training", "Saving checkpoint", "Training"),
        *("Validation", "Training", "Saving checkpoint", "Training", "Validation", "Training"),
    ]


def test_other_bars_are_no_progress():
    parser = read(sample("flux_lora.log").partition("Epoch 1/17")[0])

    assert (parser.stage, parser.step, parser.total_steps, parser.percent) == ("Training", None, 200, None)


def test_the_percentage_stays_through_other_stages():
    parser = read(sample("flux_lora.log").partition("[STAGE] ✓ Running Validation")[0])

    assert (parser.stage, parser.percent, parser.step) == ("Validation", 50.0, 100)


def test_an_older_trainer_names_its_steps_itself():
    parser, series = read_in_pieces([sample("older_trainer.log")])

    assert (parser.step, parser.total_steps, parser.percent) == (120, 400, 30.0)
    assert parser.stage == "Saving checkpoint"
    assert list(series.values()) == [Point(50, 0.41, 0.0002)]


def test_errors_are_kept():
    parser = read(sample("out_of_memory.log"))

    assert parser.errors == [
        "Fatal Error: Failed to run training: CUDA out of memory. Tried to allocate 2.25 GiB.",
        "Training failed: CUDA out of memory. Tried to allocate 2.25 GiB.",
    ]
    assert (parser.step, parser.seconds_left) == (40, 345)


def test_errors_are_few_and_short():
    parser = read("".join(f"[ERROR] {number} {'x' * 1000}\n" for number in range(50)) + "[ERROR]\n")

    assert [(error[:2], len(error)) for error in parser.errors] == [(str(number), 500) for number in range(45, 50)]


def test_a_carriage_return_ends_a_line_and_the_later_figures_of_a_step_count():
    parser, series = read_in_pieces([sample("carriage_returns.log")])

    assert list(series.values()) == [Point(1, 0.5, 0.0001), Point(2, 0.4, 0.0001), Point(3, 0.3, 0.0001)]
    assert parser.percent == 30.0


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("*.log")))
@given(data=st.data())
def test_a_log_reads_the_same_in_any_pieces(name, data):
    text = sample(name)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert read_in_pieces(pieces) == read_in_pieces([text])


def test_half_a_line_is_shown_but_not_believed():
    parser = ProgressParser()

    first = parser.feed("Epoch 1/10 Steps:  12%|█▏        | 120/10")

    assert (first, parser.step, parser.last_log) == ([], None, "Epoch 1/10 Steps:  12%|█▏        | 120/10")
    assert parser.feed("00 [01:02<07:33,  1.94it/s, lr=1e-05, step_loss=0.12]\n") == [Point(120, 0.12, 1e-05)]
    assert (parser.total_steps, parser.percent, parser.seconds_left) == (1000, 12.0, 453)


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("Loading model weights", "Preprocessing"),
        ("Preprocessing dataset", "Preprocessing"),
        ("Downloading and loading checkpoint shards", "Preprocessing"),
        ("Warming up the learning rate", "Warmup"),
        ("Warmup 10/100", "Warmup"),
        ("Saving checkpoint at step 500", "Saving checkpoint"),
        ("[CHECKPOINT] Checkpoint saved", "Saving checkpoint"),
        ("Running validation on 4 prompts", "Validation"),
        ("Validating", "Validation"),
        ("Step 1500/5000 - loss: 0.0234", "Training"),
        ("Epoch 3/10", "Training"),
        ("[STAGE] ⏳ Benchmarking base model", "Preprocessing"),
        ("[STAGE] ⏳ Warmup", "Warmup"),
        ("[STAGE] ⏳ Saving Final Model (12.0%): x", "Saving checkpoint"),
        ("[STAGE] ⏳ Running Final Validations", "Validation"),
    ],
)
def test_each_stage_has_its_words(line, stage):
    other = "Warmup" if stage != "Warmup" else "Validation"

    parser = ProgressParser(stage=other)
    parser.feed(f"{line}\n")

    assert parser.stage == stage


@pytest.mark.parametrize(
    "line",
    [
        "lr_warmup_steps: 100",
        "--lr_warmup_steps=100 --warmup_steps=100",
        "lr warmup steps = 100",
        "gradient_checkpointing: true",
        "--resume_from_checkpoint=latest --checkpoints_total_limit=2",
        "validation_prompt: a fox",
        "--validation_steps=100",
        "[TRAINING] Status: uploading_model",
        "Unloading the text encoder, offloading the rest",
        "The next step or epoch",
        "[WARN] The last validation took long",
        "",
        "   ",
    ],
)
def test_settings_and_side_notes_are_no_stage(line):
    parser = ProgressParser(stage="Validation" if "valid" not in line else "Warmup")
    before = parser.stage

    parser.feed(f"{line}\n")

    assert parser.stage == before


def test_without_a_word_a_run_is_training():
    assert (read("").stage, read("").last_log, read("").percent) == ("Training", "", None)


@pytest.mark.parametrize(
    ("line", "step", "total"),
    [
        ("Step 1500/5000 - loss: 0.0234", 1500, 5000),
        ("step 1 of 2", 1, 2),
        ("[TRAINING] Step 5/10 (50.0%) going well", 5, 10),
        ("`Step 100 of 1000: loss 0.12, lr 1e-5`", 100, 1000),
        ("Epoch 3/10", None, None),
        ("global_step 5/10", None, None),
        ("Step 11/10", None, None),
        ("Step 5/0", None, None),
        ("Step 5", None, None),
        (f"Step {'9' * 30}/{'9' * 31}", None, None),
        (
            "Epoch 1/1 Steps:  10%|█         | 1/10 [00:01<00:09, 1.0it/s]Epoch 1/1 Steps:  20%|██        | 2/10 [00:02<00:08, 1.0it/s]",
            2,
            10,
        ),
    ],
)
def test_steps_are_read_from_their_own_words_only(line, step, total):
    parser = read(line)

    assert (parser.step, parser.total_steps) == (step, total)


def test_a_step_never_goes_back_and_another_loop_does_not_change_the_total():
    parser = ProgressParser()
    parser.feed("Epoch 1/1 Steps:  50%|█████     | 50/100 [00:50<00:50, 1.0it/s, lr=0.1, step_loss=0.2]\n")

    points = parser.feed("Step 40 of 100: loss 0.9\nDenoising step 3/20\n")

    assert (points, parser.step, parser.total_steps, parser.loss) == ([], 50, 100, 0.2)


@pytest.mark.parametrize(
    ("pace", "rate", "seconds"),
    [
        ("[00:50<00:50, 4.0it/s]", 4.0, 50),
        ("[00:50<1:01:01,  4.00s/it]", 0.25, 3661),
        ("[00:50<?, ?it/s]", None, None),
        ("[00:50<00:00, 0.0it/s]", None, 0),
    ],
)
def test_pace_and_time_left_come_from_the_bar(pace, rate, seconds):
    parser = read(f"Epoch 1/1 Steps:  50%|█████     | 50/100 {pace}")

    assert (parser.rate, parser.seconds_left) == (rate, seconds)


@pytest.mark.parametrize(
    ("figures", "point"),
    [
        ("lr=1e-05, step_loss=0.12", Point(7, 0.12, 1e-05)),
        ("step_loss=1.2e-2, lr=3", Point(7, 0.012, 3.0)),
        ("lr=1e-05, loss=inf", Point(7, None, 1e-05)),
        ("lr=1e999, step_loss=0.12", Point(7, 0.12, None)),
        ("grad_norm=0.5", None),
        ("ema_decay=0.5, lossless=1", None),
    ],
)
def test_points_hold_finite_numbers_only(figures, point):
    points = ProgressParser().feed(f"Epoch 1/1 Steps:   7%|▋         | 7/100 [00:01<00:09, 1.0it/s, {figures}]\n")

    assert points == ([point] if point else [])


@pytest.mark.parametrize(("length", "shown"), [(79, "x" * 79), (80, "x" * 80), (81, "x" * 77 + "..."), (9000, "x" * 77 + "...")])
def test_the_last_line_is_shown_in_80_characters(length, shown):
    assert read(f"first\n  {'x' * length}  \n\n").last_log == shown


def test_a_line_without_end_does_not_grow_the_state():
    parser = ProgressParser()
    for _ in range(20):
        parser.feed("x" * 10_000)

    assert len(json.dumps(parser.state)) < 5000


def test_a_state_of_another_release_is_resumed():
    parser = ProgressParser.resume({"step": 5, "total_steps": 10, "colour": "green"})

    assert (parser.percent, ProgressParser.resume(None).step) == (50.0, None)


@given(st.text(), st.text(alphabet="0123456789/:%|[]<, stepEpochSlosr=.e-\n\r█?it"))
def test_no_text_breaks_the_parser(text, near):
    parser, _ = read_in_pieces([text, near])

    assert parser.percent is None or 0 <= parser.percent <= 100


LOG = "".join(f"line {number}\n" for number in range(200))


@pytest.mark.parametrize(
    ("length", "text", "new"),
    [
        (0, "abc", "abc"),
        (2, "abc", "c"),
        (3, "abc", ""),
        (9, "abc", ""),
        (3, "", ""),
        (0, "", ""),
    ],
)
def test_only_what_is_longer_is_new(length, text, new):
    assert new_text(length, text) == new


def ends_of(text):
    return {"head": text[:300], "tail": text[-300:]}


def test_a_growing_log_is_appended_by_difference():
    kept = LOG[:1000]

    assert new_text(len(kept), LOG, **ends_of(kept)) == LOG[1000:]
    assert new_text(len(kept), LOG[:700], **ends_of(kept)) == ""
    assert new_text(len(kept), LOG[:100], **ends_of(kept)) == ""
    assert new_text(len(kept), kept, **ends_of(kept)) == ""
    assert new_text(0, LOG, head="", tail="") == LOG


def test_a_log_that_lost_its_front_goes_on_behind_what_is_kept():
    kept = LOG[:1500]
    window = LOG[600:1800]

    assert len(window) < len(kept)
    assert new_text(len(kept), window, **ends_of(kept)) == LOG[1500:1800]


def test_a_log_that_lost_more_than_was_kept_shows_a_gap():
    kept = LOG[:500]
    window = LOG[900:1800]

    assert new_text(len(kept), window, **ends_of(kept)) == GAP + window


def test_an_emptied_log_takes_nothing_away():
    assert new_text(len(LOG), "", **ends_of(LOG)) == ""


@given(st.lists(st.integers(0, len(LOG)), min_size=1))
def test_in_any_order_the_kept_log_is_the_longest_that_was_seen(lengths):
    kept = ""
    for length in lengths:
        kept += new_text(len(kept), LOG[:length], **ends_of(kept))

    assert kept == LOG[: max(lengths)]


# --- Lines ----------------------------------------------------------------------------------------------------


def cut(*pieces):
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)]
    return [(line.number, line.text) for line in found + lines.finish()]


def test_lines_are_counted_whatever_ends_them():
    assert cut("one\ntwo\r\nthree\rfour\n\nsix") == [(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, ""), (6, "six")]
    assert cut("one\r", "\ntwo\r") == [(1, "one"), (2, "two")]
    assert cut("") == []


@given(st.lists(st.text(alphabet="a\r\n%|1", max_size=6), max_size=8))
def test_lines_are_the_same_in_any_pieces(pieces):
    assert cut(*pieces) == cut("".join(pieces))


@given(st.text(alphabet="a\r\n"))
def test_whole_lines_are_those_that_nothing_can_change(text):
    lines = Lines()
    lines.feed(text)

    assert whole_lines(text) == lines.number


def test_of_each_bar_the_last_state_is_left():
    text = (
        "Loading\nFetch:  10%|#  | 1/10\rFetch: 100%|###| 10/10\r\nEpoch 1/2 Steps:  1%|#  | 1/100\nEpoch 1/2 Steps: 50%|## | 50/100\n"
        "Epoch 2/2 Steps: 51%|## | 51/100\nDone 10%\rDone 20%\rEnd\nEnd\n"
    )
    lines = Lines()

    left = list(without_repaints(lines.feed(text)))

    assert [line.number for line in left] == [1, 3, 5, 6, 8, 9, 10]
