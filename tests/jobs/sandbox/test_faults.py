"""What can go wrong with a call, seen from a client's side."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import replicate

from . import servers


def post(account, **options):
    """Create a prediction and take whatever comes."""
    return account.http.post("/v1/predictions", json={"version": account.version()["id"], "input": servers.inputs()}, **options)


def created(account) -> int:
    """Count the predictions behind the API's back."""
    return sum(each["account"] == account.name for each in account.sandbox.control("predictions").json())


@pytest.fixture
def crowded(open_account, shared_sandbox):
    """An account whose predictions wait for ever."""
    account = open_account(shared_sandbox)
    account.rule(queue_seconds=100_000)
    return account


def test_31_with_low_credit_one_create_comes_through_and_the_next_is_throttled(crowded):
    crowded.rule(rate_limits="low_credit")

    first, second = post(crowded), post(crowded)

    assert first.status_code == 201
    assert (second.status_code, second.headers["content-type"]) == (429, "application/problem+json")
    seconds = second.json()["retry_after"]
    assert 1 <= seconds <= 10
    assert second.headers["retry-after"] == str(seconds)
    assert second.json() == {
        "detail": "Request was throttled. Your rate limit for creating predictions is reduced to 6 requests per minute with a burst of 1 "
        f"requests while you have less than $5.0 in credit. Your rate limit resets in ~{seconds}s.",
        "status": 429,
        "retry_after": seconds,
    }
    assert created(crowded) == 1


def test_31_ordinary_answers_tell_what_is_left(account):
    first, second = account.http.get("/v1/account"), account.http.get("/v1/account")

    left = [int(answer.headers["ratelimit-remaining"]) for answer in (first, second)]
    assert 2990 < left[1] <= left[0] < 3000
    assert {first.headers["ratelimit-reset"], second.headers["ratelimit-reset"]} == {"1"}


def test_31_six_hundred_creates_may_come_at_once_and_not_many_more(account):
    wrong = {"version": account.version()["id"], "input": {}}  # refused, and counted all the same
    answers, throttled = [], []
    began = time.monotonic()

    with ThreadPoolExecutor(8) as threads:
        while not throttled:
            answers += threads.map(lambda _: account.http.post("/v1/predictions", json=wrong), range(100))
            throttled = [answer for answer in answers if answer.status_code == 429]

    come_back = 10 * (time.monotonic() - began)  # ten a second
    assert 600 <= len(answers) - len(throttled) <= 600 + come_back + 1
    answer = throttled[0]
    assert answer.json() == {"detail": "Request was throttled. Your rate limit resets in ~1s.", "status": 429, "retry_after": 1}
    assert answer.headers["retry-after"] == "1"
    assert account.http.get("/v1/account").status_code == 200


@pytest.mark.parametrize(
    ("status", "title", "detail"),
    [
        (402, "Insufficient credit", "You have insufficient credit to run this model. "),
        ("402_billing", "Billing required", "You need to set up billing to run this model. "),
    ],
)
def test_32_only_the_creates_of_one_account_need_money(account, open_account, status, title, detail):
    other = open_account(account.sandbox)
    account.rule(create_status=status)

    answer = post(account)

    assert (answer.status_code, answer.json()["title"], answer.json()["status"]) == (402, title, 402)
    assert answer.json()["detail"].startswith(detail)
    assert account.http.get("/v1/predictions").json()["results"] == []
    assert post(other).status_code == 201


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_33_any_call_can_be_answered_by_a_page_of_html(account, status):
    account.rule(call_status=status, times=3)

    answers = [account.http.get("/v1/account"), account.http.get("/v1/predictions"), account.http.post("/v1/files")]

    assert [answer.status_code for answer in answers] == [status] * 3
    assert all(answer.headers["content-type"].startswith("text/html") for answer in answers)
    assert account.http.get("/v1/account").status_code == 200


@pytest.mark.parametrize("status", [429, "429_without_header", 500, 502, 503, 504])
def test_33_only_creates_can_be_made_to_fail_and_create_nothing(account, status):
    account.rule(create_status=status, times=1)

    failed = post(account)

    assert account.http.get("/v1/predictions").json()["results"] == []
    assert post(account).status_code == 201
    if status in (429, "429_without_header"):
        assert (failed.status_code, failed.json()["retry_after"]) == (429, 1)
        assert failed.headers.get("retry-after") == ("1" if status == 429 else None)
    else:
        assert (failed.status_code, failed.headers["content-type"]) == (status, "text/html; charset=utf-8")


def test_33_the_python_client_tries_a_throttled_read_again_and_a_create_never(account):
    client = replicate.Client(api_token=account.token, base_url=account.sandbox.url)
    version = client.models.get("simpletuner/advanced-trainer").latest_version
    account.rule(call_status=503, times=1)

    found = client.accounts.current()
    account.rule(call_status=502, times=1)
    with pytest.raises(replicate.exceptions.ReplicateError) as refusal:
        client.predictions.create(version=version.id, input=servers.inputs())
    client._client.close()

    assert found.username == account.name
    assert refusal.value.status == 502


@pytest.mark.parametrize(("moment", "predictions"), [("reset_before", 0), ("reset_after", 1)])
def test_33_the_connection_can_break_before_or_after_the_effect(crowded, moment, predictions):
    crowded.rule(create_answer=moment, times=1)

    with pytest.raises(httpx.ReadError) as broken:
        post(crowded)

    assert "reset" in str(broken.value).lower()
    assert created(crowded) == predictions
    assert crowded.http.get("/v1/account").status_code == 200


def test_33_any_connection_can_break(account):
    account.rule(call_answer="reset_before", times=1)

    with pytest.raises(httpx.ReadError):
        account.http.get("/v1/account")

    assert account.http.get("/v1/account").status_code == 200


def test_33_half_of_the_json_can_come(crowded):
    crowded.rule(create_answer="truncated", times=1)

    answer = post(crowded)

    assert answer.status_code == 201
    assert answer.text.startswith('{"id":"')
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        answer.json()
    assert created(crowded) == 1


def test_33_the_answer_to_a_create_can_be_held_while_the_prediction_exists(crowded):
    crowded.rule(hold_create_answer_seconds=30)

    with pytest.raises(httpx.ReadTimeout):
        post(crowded, timeout=httpx.Timeout(60, read=0.5))

    servers.until(lambda: created(crowded) == 1)
