"""Reading Replicate's prediction object."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.replicate.predictions import MalformedPrediction, parse

WHOLE = {
    "id": "k3m8v0b5t1rgm0cqy7nsd2w4ez",
    "model": "simpletuner/advanced-trainer-h100",
    "version": "6efa1ec4a274b6a1566cb19ea9ccbfc983c9c565e4c157b0b8d60effd088f5bd",
    "input": {"config_json": '{"--max_train_steps": 100}', "hf_token": "[REDACTED]"},
    "logs": "[COG] Webhook receiver started on http://127.0.0.1:40123/webhook\n",
    "output": "https://huggingface.co/acme/my-lora",
    "data_removed": False,
    "error": None,
    "source": "api",
    "status": "succeeded",
    "created_at": "2026-08-01T10:00:01.329000Z",
    "started_at": "2026-08-01T10:03:10.100000Z",
    "completed_at": "2026-08-01T10:33:40.600000Z",
    "deadline": "2026-08-01T12:00:01.329000Z",
    "metrics": {"predict_time": 1830.5, "total_time": 2019.271},
    "webhook": "https://app.example.com/hooks/replicate?team=7",
    "webhook_events_filter": ["start", "completed"],
    "urls": {"get": "https://api.replicate.com/v1/predictions/k3m8v0b5t1rgm0cqy7nsd2w4ez"},
}


def test_a_finished_prediction_is_read_whole():
    prediction = parse(json.dumps(WHOLE).encode())

    assert prediction.id == "k3m8v0b5t1rgm0cqy7nsd2w4ez"
    assert (prediction.status, prediction.state, prediction.is_terminal) == ("succeeded", "completed", True)
    assert prediction.created_at == datetime(2026, 8, 1, 10, 0, 1, 329000, tzinfo=UTC)
    assert prediction.started_at == datetime(2026, 8, 1, 10, 3, 10, 100000, tzinfo=UTC)
    assert prediction.completed_at == datetime(2026, 8, 1, 10, 33, 40, 600000, tzinfo=UTC)
    assert prediction.deadline == datetime(2026, 8, 1, 12, 0, 1, 329000, tzinfo=UTC)
    assert (prediction.seconds, prediction.total_seconds) == (Decimal("1830.5"), Decimal("2019.271"))
    assert prediction.output_urls == ["https://huggingface.co/acme/my-lora"]
    assert prediction.input == WHOLE["input"]
    assert prediction.logs == WHOLE["logs"]
    assert prediction.webhook == "https://app.example.com/hooks/replicate?team=7"
    assert prediction.model == "simpletuner/advanced-trainer-h100"
    assert prediction.data_removed is False
    assert prediction.raw == WHOLE


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("starting", "queued"),
        ("processing", "running"),
        ("succeeded", "completed"),
        ("failed", "failed"),
        ("error", "failed"),
        ("canceled", "cancelled"),
        ("aborted", "cancelled"),
        (" Succeeded ", "completed"),
    ],
)
def test_replicates_words_become_ours(word, state):
    prediction = parse({"id": "a", "status": word})

    assert prediction.state == state
    assert prediction.is_aborted == (word == "aborted")


@pytest.mark.parametrize("word", ["paused", "queued", "", None, 7])
def test_an_unknown_word_is_kept_with_all_that_came_with_it(word):
    prediction = parse({"id": "a", "status": word, "logs": "so far"})

    assert (prediction.state, prediction.is_known, prediction.is_terminal) == (None, False, False)
    assert prediction.raw == {"id": "a", "status": word, "logs": "so far"}
    assert prediction.logs == "so far"


def test_missing_keys_are_nothing_and_not_empty():
    prediction = parse({"id": "a", "status": "starting"})

    assert (prediction.logs, prediction.output, prediction.error, prediction.seconds, prediction.started_at) == (None,) * 5
    assert (prediction.input, prediction.data_removed, prediction.output_urls) == ({}, False, [])


def test_empty_logs_are_not_missing_logs():
    assert parse({"id": "a", "status": "processing", "logs": ""}).logs == ""
    assert parse({"id": "a", "status": "canceled", "logs": None}).logs is None


@pytest.mark.parametrize(
    ("said", "microsecond"),
    [("01Z", 0), ("01.329Z", 329000), ("01.329123Z", 329123), ("01.329123456Z", 329123), ("01.329123+00:00", 329123), ("01.3", 300000)],
)
def test_time_stamps_have_any_number_of_digits(said, microsecond):
    prediction = parse({"id": "a", "status": "starting", "created_at": f"2026-08-01T10:00:{said}"})

    assert prediction.created_at == datetime(2026, 8, 1, 10, 0, 1, microsecond, tzinfo=UTC)


@pytest.mark.parametrize("said", [None, "", "soon", 7, [], "9999-12-31T23:59:59-12:00"])
def test_what_is_no_time_stamp_is_no_time(said):
    assert parse({"id": "a", "status": "starting", "created_at": said}).created_at is None


def test_billed_seconds_never_pass_through_a_float():
    prediction = parse(b'{"id": "a", "status": "failed", "metrics": {"predict_time": 0.1234567890123456789, "total_time": 3}}')

    assert (prediction.seconds, prediction.total_seconds) == (Decimal("0.1234567890123456789"), Decimal(3))
    assert prediction.raw["metrics"] == {"predict_time": 0.12345678901234568, "total_time": 3}
    assert type(prediction.raw["metrics"]["predict_time"]) is float


def test_seconds_of_an_object_that_was_read_before_are_as_written():
    assert parse({"id": "a", "status": "failed", "metrics": {"predict_time": 0.1}}).seconds == Decimal("0.1")


@pytest.mark.parametrize("said", [b"null", b"-1", b'"12"', b"true", b"NaN", b"Infinity", b"{}"])
def test_what_is_no_time_span_bills_nothing(said):
    assert parse(b'{"id": "a", "status": "failed", "metrics": {"predict_time": %s}}' % said).seconds is None


def test_removed_data_is_said_so():
    prediction = parse({"id": "a", "status": "succeeded", "data_removed": True, "input": {}, "logs": "", "output": None})

    assert (prediction.data_removed, prediction.logs, prediction.input) == (True, "", {})


@pytest.mark.parametrize(
    ("output", "urls"),
    [
        ("Training complete. Output: output/j-abcdefghij", []),
        ("s3://bucket/prefix", []),
        ("https://a.example/x", ["https://a.example/x"]),
        (["https://a.example/1", "https://a.example/2", "https://a.example/1", None], ["https://a.example/1", "https://a.example/2"]),
        ({"url": "https://a.example/x", "files": [{"url": "http://b.example/y"}]}, ["https://a.example/x", "http://b.example/y"]),
        (7, []),
    ],
)
def test_addresses_are_found_in_any_output(output, urls):
    assert parse({"id": "a", "status": "succeeded", "output": output}).output_urls == urls


@pytest.mark.parametrize(
    ("error", "code", "is_retryable"),
    [
        ("Prediction interrupted; please retry (code: PA)", "PA", True),
        ("Director: unexpected error handling prediction (E9828)", "E9828", True),
        ("Director: unexpected error handling prediction (E8765).\n", "E8765", True),
        ("Out of memory (E1001)", "E1001", False),
        ("CUDA error (E1234) in kernel", None, False),
        ("No training config found.", None, False),
        (None, None, False),
    ],
)
def test_a_fault_of_the_platform_is_told_from_one_of_the_run(error, code, is_retryable):
    prediction = parse({"id": "a", "status": "failed", "error": error})

    assert (prediction.platform_fault, prediction.is_retryable_fault) == (code, is_retryable)


def test_only_a_failed_run_has_a_fault():
    assert parse({"id": "a", "status": "succeeded", "error": "please retry (code: PA)"}).platform_fault is None


def test_an_error_that_is_no_text_is_kept_as_json():
    assert parse({"id": "a", "status": "failed", "error": {"detail": "no"}}).error == '{"detail": "no"}'


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"a"', b"{}", b'{"id": ""}', b'{"id": 7}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_prediction_is_refused(body):
    with pytest.raises(MalformedPrediction):
        parse(body)


def test_texts_are_made_fit_for_the_database():
    prediction = parse(rb'{"id": "a", "status": "processing", "logs": "a\u0000b\ud800c", "output": {"\u0000": 1e999}}')

    assert prediction.logs == "a\ufffdb?c"
    assert prediction.raw["output"] == {"\ufffd": None}


def test_a_repr_shows_neither_input_nor_logs_nor_webhook():
    shown = repr(parse({**WHOLE, "input": {"prompt": "hidden"}, "logs": "hidden", "webhook": "https://x/?key=hidden", "error": "hidden"}))

    assert shown.count("k3m8v0b5t1rgm0cqy7nsd2w4ez") == 1
    assert shown.count("hidden") == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


OTHER_KEYS = {key: json_values for key in WHOLE if key not in ("id", "status")}


@given(st.fixed_dictionaries({"id": st.text(min_size=1), "status": json_values}, optional=OTHER_KEYS))
def test_no_shape_of_a_known_key_breaks_the_reader(said):
    prediction = parse(json.dumps(said).encode())

    json.dumps(prediction.raw, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert "\\u0000" not in json.dumps(prediction.raw)
