"""The pace of the API: every row of the table, whose calls count together, the headers, and what is never limited."""

from datetime import UTC, datetime

import pytest
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from accounts.models import AuditLine, PaceCount
from config.pacing import LIMITS, UNLIMITED
from tests.factories import MembershipFactory, make_token

pytestmark = pytest.mark.django_db

JOBS = "/api/cloud/jobs"
SUBMIT = "/api/cloud/jobs/submit"
# Where a window of every length in the table begins.
BEGINNING = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
HEADERS = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]


@pytest.fixture(autouse=True)
def pace_is_on(settings, time_machine):
    settings.RATE_LIMIT_CALLS = 100
    time_machine.move_to(BEGINNING, tick=False)


@pytest.fixture
def member():
    return MembershipFactory()


@pytest.fixture
def token(member):
    return make_token(member, expires_in=None)[1]


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def statuses(times, path=JOBS, *, method="get", client=None, body=None, address="203.0.113.9", headers=None):
    """The status of each of so many calls."""
    call = getattr(client or Client(), method)
    data = {"data": body or {}, "content_type": "application/json"} if method != "get" else {}
    return [call(path, **data, headers=headers or {}, REMOTE_ADDR=address).status_code for _ in range(times)]


def let_through(*args, **options):
    """How many of so many calls were not refused as too many. Once one is, all that follow are."""
    found = [status != 429 for status in statuses(*args, **options)]
    assert found == sorted(found, reverse=True)
    return sum(found)


# --- The table --------------------------------------------------------------------------------------------

ROWS = [
    ("post", "/api/auth/login", 5, 60),
    ("post", "/api/auth/register", 3, 60),
    ("post", "/api/auth/setup/first-admin", 3, 60),
    ("post", "/api/auth/api-keys", 10, 60),
    ("post", "/api/cloud/auth/api-keys", 10, 60),
    ("put", "/api/users/me/password", 5, 300),
    ("post", "/api/auth/change-password", 5, 300),
    ("post", "/api/cloud/jobs/submit", 20, 60),
    ("post", "/api/cloud/replicate/submit", 20, 60),
    ("post", "/api/cloud/jobs/j-0123456789/cancel", 30, 60),
    ("get", "/api/quotas", 30, 60),
    ("post", "/api/quotas/7", 30, 60),
    ("get", "/api/cloud/jobs", 100, 60),
    ("get", "/api/auth/login", 100, 60),
    ("get", "/api/cloud/jobs/j-0123456789/cancel", 100, 60),
    ("get", "/api/nowhere", 100, 60),
]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(("method", "path", "calls", "seconds"), ROWS)
def test_each_row_lets_its_pace_through_and_no_more(method, path, calls, seconds, slash, time_machine):
    passed = let_through(calls - 1, path, method=method) + let_through(2, path + slash, method=method)
    refused = getattr(Client(), method)(path, REMOTE_ADDR="203.0.113.9")
    time_machine.move_to(BEGINNING.timestamp() + 2 * seconds, tick=False)

    assert passed == calls
    assert (refused.status_code, refused["X-RateLimit-Limit"]) == (429, str(calls))
    assert let_through(1, path, method=method) == 1


def test_every_row_of_the_table_is_tested():
    assert {limit.name for limit in LIMITS if any(limit.route.fits(method.upper(), path) for method, path, *_ in ROWS)} == {
        limit.name for limit in LIMITS
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/api/cloud/health"),
        ("get", "/api/cloud/health/live"),
        ("get", "/api/cloud/health/ready"),
        ("get", "/api/metrics/health/live"),
        ("get", "/api/events"),
        ("get", "/api/events/stream"),
        ("get", "/api/cloud/hints"),
        ("post", "/api/cloud/hints/dismiss/git"),
        ("get", "/api/users/me"),
        ("get", "/api/auth/me"),
        ("get", "/api/cloud/providers"),
        ("get", "/api/auth/setup/status"),
        ("get", "/api/auth/check"),
        ("get", "/api/cloud/jobs/j-0123456789/logs/stream"),
        ("get", "/accounts/login/"),
        ("get", "/health"),
        ("get", "/"),
        ("get", "/t/team/"),
    ],
)
def test_what_is_not_limited_counts_for_nothing_and_says_nothing(settings, method, path):
    settings.RATE_LIMIT_CALLS = 1

    answers = [getattr(Client(), method)(path) for _ in range(3)]

    assert {answer.status_code for answer in answers} & {429} == set()
    assert [name for answer in answers for name in HEADERS if name in answer] == []
    assert not PaceCount.objects.exists()


def test_the_routes_of_the_storage_and_of_the_webhooks_count_in_their_own_views():
    own = ["/api/cloud/storage", "/api/cloud/storage/outputs/j-1/a\nb", "/api/webhooks/replicate", "/api/cloud/webhook/replicate/"]

    assert [path for path in own if not any(route.fits("POST", path) for route in UNLIMITED)] == []


# --- Who --------------------------------------------------------------------------------------------------


def test_whoever_is_signed_in_may_do_ten_times_as_much(settings, member, token):
    settings.RATE_LIMIT_CALLS = 2
    browser = Client()
    browser.force_login(member.user)

    passed = [let_through(22, headers=bearer(token)), let_through(22, client=browser), let_through(4)]

    assert passed == [20, 20, 2]


@pytest.mark.parametrize("header", ["X-API-Key", "Bearer", "ApiKey"])
def test_a_token_counts_in_whichever_header_and_from_wherever_it_comes(settings, token, header):
    settings.RATE_LIMIT_CALLS = 1
    named = {"X-API-Key": token} if header == "X-API-Key" else {"Authorization": f"{header} {token}"}

    passed = let_through(6, headers=named, address="203.0.113.1") + let_through(6, headers=bearer(token), address="203.0.113.2")

    assert passed == 10


@pytest.mark.parametrize("wrong", ["anything", "", "th_" + "a" * 57, "revoked"])
def test_a_wrong_token_has_the_allowance_of_its_address(settings, member, wrong):
    settings.RATE_LIMIT_CALLS = 3
    if wrong == "revoked":
        key, wrong = make_token(member)
        key.revoked_at = timezone.now()
        key.save()

    answers = statuses(5, headers={"X-API-Key": wrong})

    assert answers == [401, 401, 401, 429, 429]
    assert let_through(2) == 0


def test_a_token_from_an_address_where_it_may_not_be_used_counts_by_the_address(settings, member):
    settings.RATE_LIMIT_CALLS = 2
    _, token = make_token(member, allowed_addresses=["198.51.100.0/24"], expires_in=None)

    assert statuses(3, headers=bearer(token)) == [403, 403, 429]
    assert let_through(3, headers=bearer(token), address="198.51.100.7") == 3


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "X-Client-IP", "Forwarded"])
@pytest.mark.parametrize("address", ["203.0.113.9", "127.0.0.1"])
def test_no_header_makes_an_address_another(settings, name, address):
    settings.RATE_LIMIT_CALLS = 3

    passed = [let_through(1, address=address, headers={name: forged}) for forged in ["127.0.0.1", "::1", "192.0.2.1", "192.0.2.2"]]

    assert passed == [1, 1, 1, 0]


def test_a_trusted_proxy_speaks_for_its_clients(settings):
    settings.RATE_LIMIT_CALLS = 2
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]

    passed = [
        let_through(3, address="10.0.0.1", headers={"X-Forwarded-For": f"127.0.0.1, {client}"}) for client in ["192.0.2.1", "192.0.2.2"]
    ]

    assert passed == [2, 2]


def test_a_cookie_that_nobody_gave_is_a_stranger(settings):
    settings.RATE_LIMIT_CALLS = 2
    client = Client()
    client.cookies["sessionid"] = "a" * 32

    assert let_through(4, client=client) == 2
    assert not Session.objects.exists()


# --- Sign-in, cancelling ----------------------------------------------------------------------------------


def test_many_addresses_cannot_guess_one_persons_password():
    def guess(number, name):
        return let_through(1, "/api/auth/login", method="post", body={"username": name}, address=f"203.0.113.{number}")

    passed = sum(guess(number, ["ada", "Ada", " ada "][number % 3]) for number in range(8))

    assert passed == 5
    assert guess(99, "grace") == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"username": 7}', b"[" * 10_000, b'{"username": "ada", "x": "' + b"x" * 70_000 + b'"}']
)
def test_bodies_that_name_nobody_count_together(body):
    def guess(number):
        return Client().post("/api/auth/login", body, content_type="application/json", REMOTE_ADDR=f"203.0.113.{number}").status_code

    assert [guess(number) for number in range(7)].count(429) == 2


def test_whoever_is_refused_by_the_address_uses_up_nobodys_name():
    let_through(20, "/api/auth/login", method="post", body={"username": "grace"}, address="203.0.113.1")
    for _ in range(5):
        let_through(2, "/api/auth/login", method="post", body={"username": "ada"}, address="203.0.113.1")

    assert let_through(1, "/api/auth/login", method="post", body={"username": "ada"}, address="203.0.113.2") == 1


def test_all_jobs_may_be_cancelled_in_one_go_and_one_not_all_the_time(token):
    every = sum(let_through(1, f"{JOBS}/j-{number:010}/cancel", method="post", headers=bearer(token)) for number in range(120))

    assert every == 120
    assert let_through(40, f"{JOBS}/j-0000000007/cancel", method="post", headers=bearer(token)) == 29


def test_cancels_count_for_the_general_pace_as_well(settings, token):
    settings.RATE_LIMIT_CALLS = 5

    passed = sum(let_through(1, f"{JOBS}/j-{number:010}/cancel", method="post", headers=bearer(token)) for number in range(60))

    assert passed == 50


# --- Answers ----------------------------------------------------------------------------------------------


def test_every_limited_answer_says_where_the_caller_stands(token):
    first = Client().get(JOBS, headers=bearer(token))
    second = Client().get(JOBS, headers=bearer(token))
    third = Client().get("/api/nowhere", headers=bearer(token))

    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 404]
    end = str(int(BEGINNING.timestamp()) + 60)
    assert [[answer[name] for name in HEADERS] for answer in (first, second, third)] == [
        ["1000", "999", end],
        ["1000", "998", end],
        ["1000", "997", end],
    ]


def test_a_refusal_has_the_error_body_and_says_how_long_to_wait(token, time_machine):
    let_through(20, SUBMIT, method="post", headers=bearer(token))

    answer = Client().post(SUBMIT, {}, content_type="application/json", headers=bearer(token) | {"X-Request-ID": "mine"})

    wait = int(answer["Retry-After"])
    assert (answer.status_code, answer["Content-Type"], answer["X-Request-ID"]) == (429, "application/json", "mine")
    assert answer.json() == {
        "detail": "Rate limit exceeded. Please try again later.",
        "error": "Rate limit exceeded. Please try again later.",
        "code": "rate_limit_exceeded",
        "hint": f"Wait {wait} seconds.",
        "field": None,
        "success": False,
        "status_code": 429,
        "request_id": "mine",
        "errors": [],
        "details": {"retry_after": wait},
    }
    assert [answer[name] for name in HEADERS] == ["20", "0", str(int(BEGINNING.timestamp()) + wait)]
    time_machine.move_to(BEGINNING.timestamp() + wait, tick=False)
    assert let_through(1, SUBMIT, method="post", headers=bearer(token)) == 1


def test_a_submission_that_is_refused_is_not_looked_at(token, django_assert_num_queries):
    let_through(21, SUBMIT, method="post", headers=bearer(token))

    with django_assert_num_queries(2):  # the token, the count
        assert let_through(1, SUBMIT, method="post", headers=bearer(token)) == 0


def test_the_pace_costs_one_query_and_the_token_is_looked_up_once(settings, token, django_assert_num_queries):
    settings.RATE_LIMIT_CALLS = 0
    Client().get(JOBS, headers=bearer(token))
    with django_assert_num_queries(3) as off:  # the token, and what is asked for
        Client().get(JOBS, headers=bearer(token))
    settings.RATE_LIMIT_CALLS = 100

    with django_assert_num_queries(4) as on:
        Client().get(JOBS, headers=bearer(token))

    assert [sum('FROM "accounts_apitoken"' in query["sql"] for query in ran.captured_queries) for ran in (off, on)] == [1, 1]


def test_off_is_without_a_query_and_a_header(settings, django_assert_num_queries):
    settings.RATE_LIMIT_CALLS = 0

    with django_assert_num_queries(0):
        answers = [Client().get("/api/nowhere") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [404] * 3
    assert [name for answer in answers for name in HEADERS if name in answer] == []


def test_the_period_is_a_setting(settings, time_machine):
    settings.RATE_LIMIT_CALLS, settings.RATE_LIMIT_PERIOD = 2, 10

    passed = [let_through(3)]
    for seconds in (20, 40):
        time_machine.move_to(BEGINNING.timestamp() + seconds, tick=False)
        passed.append(let_through(3))

    assert passed == [2, 2, 2]


def test_a_database_that_is_away_is_told_as_elsewhere(monkeypatch):
    def fail(*_, **__):
        raise OperationalError("gone")

    monkeypatch.setattr("accounts.pacing.count", fail)

    answer = Client().get("/api/nowhere")

    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "not_ready", "5")


# --- The audit trail --------------------------------------------------------------------------------------


def lines():
    found = AuditLine.objects.filter(event_type="security.rate_limited").order_by("pk")
    return [(line.team, line.actor, line.token_prefix, line.address, line.target_id) for line in found]


def test_one_line_for_each_caller_and_window(settings, member, token, time_machine):
    settings.RATE_LIMIT_CALLS = 1
    let_through(15, headers=bearer(token))
    let_through(4)
    let_through(4, address="203.0.113.10")
    time_machine.move_to(BEGINNING.timestamp() + 120, tick=False)
    let_through(4)

    assert lines() == [
        (member.team, member.user.username, token[:11], "203.0.113.9", "api"),
        (None, "", "", "203.0.113.9", "api"),
        (None, "", "", "203.0.113.10", "api"),
        (None, "", "", "203.0.113.9", "api"),
    ]


@pytest.mark.parametrize("names_a_team", [True, False])
def test_a_person_in_several_teams_stands_in_the_chain_of_the_one_they_name(settings, member, names_a_team):
    settings.RATE_LIMIT_CALLS = 1
    MembershipFactory(user=member.user)
    browser = Client()
    browser.force_login(member.user)

    let_through(12, f"{JOBS}?team={member.team.slug}" if names_a_team else JOBS, client=browser)

    assert lines() == [(member.team if names_a_team else None, member.user.username, "", "203.0.113.9", "api")]
