"""The inbox as an owner meets it, by page and by API: found, looked into, applied again, let go."""

import html
import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditLine
from accounts.roles import Role
from jobs.models import Job, ProviderSettings
from tests.factories import MembershipFactory, UserFactory, make_token
from tests.pages import INLINE
from tests.webhooks.deliveries import body_of, make_job
from tests.webhooks.test_address_list import OUTSIDE, deliver
from webhooks import applying
from webhooks.models import Delivery

API = "/api/webhooks/deliveries"


@pytest.fixture
def job(db, no_provider):
    job = make_job()
    ProviderSettings.objects.create(team=job.team)
    return job


@pytest.fixture
def owner(client, job):
    member = MembershipFactory(team=job.team, role=Role.OWNER)
    client.force_login(member.user)
    return member


@pytest.fixture
def page(client, job, owner):
    def show(name="inbox", *args, data=None, query=""):
        url = reverse(f"webhooks:{name}", args=[job.team.slug, *args]) + query
        response = client.get(url) if data is None else client.post(url, data, follow=True)
        return response, " ".join(html.unescape(response.content.decode()).split())

    return show


@pytest.fixture
def call(client, owner):
    _, key = make_token(owner)

    def send(method, path, body=None):
        answer = client.generic(method, path, json.dumps(body or {}), content_type="application/json", headers={"X-API-Key": key})
        return answer.status_code, answer.json()

    return send


def some(job, count):
    """So many deliveries of a run that goes on, the last of them its end."""
    for number in range(count - 1):
        deliver(job, body_of("processing", logs="x\n" * number), webhook_id=f"msg_{number}")
    deliver(job, body_of(logs="x\n" * count), webhook_id=f"msg_{count - 1}")
    applying.apply_unapplied()


def held(job):
    ProviderSettings.objects.update(webhook_allowed_ips=["34.82.0.0/16"])
    deliver(job, webhook_id="msg_held")
    return Delivery.objects.get(webhook_id="msg_held")


# --- Pages ------------------------------------------------------------------------------------------------


def test_the_list_tells_of_each_what_it_was_and_did(page, job):
    some(job, 3)
    Delivery.objects.filter(webhook_id="msg_1").update(state="dead", reason="RuntimeError: cannot be")

    _, text = page()

    for words in ("moved the job to: completed", "RuntimeError: cannot be", OUTSIDE, "Apply all again (3)", job.job_id):
        assert words in text
    assert INLINE.findall(text) == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?state=dead", {"msg_1"}),
        ("?event=completed", {"msg_2"}),
        ("?job=j-nothing", set()),
        ("?address=203.0.113.7", {"msg_0", "msg_1", "msg_2"}),
        ("?address=192.0.2.1", set()),
        ("?since=2026-11-20&until=2026-11-21", {"msg_0"}),
        ("?state=nonsense&since=nonsense", {"msg_0", "msg_1", "msg_2"}),
    ],
)
def test_the_list_is_filtered(page, job, query, found):
    some(job, 3)
    Delivery.objects.filter(webhook_id="msg_0").update(received_at="2026-11-20T12:00:00Z")
    Delivery.objects.filter(webhook_id="msg_1").update(state="dead")

    response, _ = page(query=query)

    assert {delivery.webhook_id for delivery in response.context["page"]} == found


def test_one_delivery_shows_what_was_checked_and_no_secret(page, job):
    callback = f"https://tunehouse.example.com/api/webhooks/replicate?job={job.job_id}&callback={job.callback_key}"
    deliver(job, body_of(output={"hf_token": "hf_pLaNtEd", "url": "https://e.x/lora"}, webhook=callback))
    kept = Delivery.objects.get()

    _, text = page("inbox-delivery", kept.pk)

    assert "pLaNtEd" not in text
    assert job.callback_key not in text
    for words in ("Proof: signed by the job's account", "Address: let in", "Run: the job's own", kept.body_sha256, "https://e.x/lora"):
        assert words in text
    assert INLINE.findall(text) == []


def test_one_is_applied_again_from_its_page(page, job, owner):
    some(job, 1)

    _, text = page("inbox-delivery-replay", Delivery.objects.get().pk, data={})

    assert "It was applied again." in text
    line = AuditLine.objects.get(event_type="webhook.replayed")
    assert (line.actor, line.target_id) == (owner.user.username, job.job_id)


def test_one_that_fails_again_says_why(page, job, monkeypatch):
    some(job, 1)

    def fails(*_, **__):
        raise RuntimeError("cannot be")

    monkeypatch.setattr("jobs.services.progress.record", fails)

    _, text = page("inbox-delivery-replay", Delivery.objects.get().pk, data={})

    assert "It could not be applied: RuntimeError: cannot be" in text


def test_a_selection_or_all_that_passes_the_filter_is_applied_again_and_nothing_changes(page, job):
    some(job, 5)
    before = list(Job.objects.values()), list(job.events.values())
    first, second = Delivery.objects.order_by("pk")[:2]

    page("inbox-replay", data={"which": "chosen", "delivery": [first.pk, second.pk, "x", "9" * 30]})
    chosen = set(Delivery.objects.filter(state="received").values_list("pk", flat=True))
    applying.apply_unapplied()
    _, text = page("inbox-replay", data={"which": "all"}, query="?event=completed")
    filtered = list(Delivery.objects.filter(state="received").values_list("event", flat=True))
    applying.apply_unapplied()

    assert (chosen, filtered, "1 delivery is being applied again." in text) == ({first.pk, second.pk}, ["completed"], True)
    assert (list(Job.objects.values()), list(job.events.values())) == before
    lines = AuditLine.objects.filter(event_type="webhook.replayed").order_by("pk")
    assert [line.after for line in lines] == [{"count": 2, "filter": "chosen one by one"}, {"count": 1, "filter": "event=completed"}]


def test_what_is_held_is_let_go_by_one_click_and_its_network_put_on_the_list(page, job):
    kept = held(job)
    _, before = page("inbox-delivery", kept.pk)
    _, settings_page = page("settings")
    job_page = page()[0].client.get(reverse("jobs:detail", args=[job.team.slug, job.job_id])).content.decode()

    page("inbox-delivery-release", kept.pk, data={"allow": "1", "network": "203.0.113.0/24"})
    applying.apply_unapplied()

    assert ("Release, and put it on the list" in before, "1 delivery is held" in settings_page) == (True, True)
    assert "1 webhook of this job is held" in html.unescape(job_page)
    assert (Delivery.objects.get().state, Job.objects.get().state) == ("applied", "completed")
    assert ProviderSettings.objects.get().webhook_allowed_ips == ["34.82.0.0/16", "203.0.113.0/24"]


def test_a_network_that_is_none_is_refused_and_nothing_is_let_go(page, job):
    kept = held(job)

    _, text = page("inbox-delivery-release", kept.pk, data={"allow": "1", "network": "somewhere"})

    assert ("neither an address nor a network" in text, Delivery.objects.get().state) == (True, "held")


def test_a_selection_is_let_go(page, job):
    kept = held(job)

    _, text = page("inbox-replay", data={"which": "release", "delivery": [kept.pk]})

    assert ("1 delivery was released." in text, Delivery.objects.get().state) == (True, "received")


def test_the_list_asks_the_same_number_of_questions_for_any_number(page, job, django_assert_num_queries):
    some(job, 1)
    page()
    with CaptureQueriesContext(connection) as one:
        page()
    asked = len(one)
    some(job, 4)

    with django_assert_num_queries(asked):
        page()


def test_the_settings_say_how_it_goes(page, job):
    some(job, 3)
    deliver(job, webhook_id="msg_9", secret="whsec_bm9ib2R5J3Mgc2VjcmV0")

    _, text = page("settings")

    assert ("75 %" in text, "(3 taken, 1 rejected)" in text) == (True, True)


def test_another_teams_deliveries_are_not_there(page, job, call):
    theirs = make_job(prediction_id="a" * 26)
    deliver(theirs, body_of(id="a" * 26))
    foreign = Delivery.objects.get()

    listed, _ = page()
    page("inbox-replay", data={"which": "chosen", "delivery": [foreign.pk]})

    assert (list(listed.context["page"]), page("inbox-delivery", foreign.pk)[0].status_code) == ([], 404)
    assert page("inbox-delivery-release", foreign.pk, data={})[0].status_code == 404
    assert (call("GET", API)[1]["total"], call("GET", f"{API}/{foreign.pk}")[0], call("POST", f"{API}/replay")[1]["marked"]) == (0, 404, 0)


# --- By API -----------------------------------------------------------------------------------------------


def test_the_api_lists_and_shows(call, job):
    some(job, 3)

    status, listed = call("GET", f"{API}?limit=1")
    _, filtered = call("GET", f"{API}/?state=applied&event=completed&job_id={job.job_id}&address={OUTSIDE}&since=2020-01-01")
    _, one = call("GET", f"{API}/{listed['deliveries'][0]['id']}")

    row = listed["deliveries"][0]
    assert (status, listed["total"], len(listed["deliveries"]), filtered["total"]) == (200, 3, 1, 1)
    assert (row["webhook_id"], row["job_id"], row["event"], row["moved_to"]) == ("msg_2", job.job_id, "completed", "completed")
    assert (row["state"], row["proof"], row["is_outside"], row["attempts"]) == ("applied", "signature", False, 1)
    assert 0 <= row["lag_seconds"] < 60
    assert (one["content"]["status"], {check["name"]: check["passed"] for check in one["checks"]}) == (
        "succeeded",
        {"Proof": True, "Time stamp": True, "Address": True, "Id": True, "Run": True},
    )


@pytest.mark.parametrize(
    ("query", "field"), [("state=x", "state"), ("event=x", "event"), ("address=x", "address"), ("since=x", "since"), ("limit=0", "limit")]
)
def test_a_word_that_there_is_not_is_refused(call, query, field):
    status, said = call("GET", f"{API}?{query}")

    assert (status, said["field"]) == (400, field)


def test_the_api_applies_again_and_lets_go(call, job):
    some(job, 2)
    kept = held(job)
    first = Delivery.objects.get(webhook_id="msg_0")

    one = call("POST", f"{API}/{first.pk}/replay")
    every = call("POST", f"{API}/replay", {"state": "applied"})
    not_held = call("POST", f"{API}/{first.pk}/release")
    not_yet = call("POST", f"{API}/{kept.pk}/replay")
    released = call("POST", f"{API}/{kept.pk}/release", {"allow": True})
    unknown = call("POST", f"{API}/replay", {"sate": "applied"})

    assert (one[0], one[1]["state"], every) == (200, "applied", (200, {"success": True, "marked": 2}))
    assert (not_held[0], not_held[1]["code"], not_yet[0], not_yet[1]["code"]) == (409, "delivery_not_held", 409, "delivery_not_replayable")
    assert (released[0], released[1]["state"]) == (200, "received")
    assert ProviderSettings.objects.get().webhook_allowed_ips == ["34.82.0.0/16", OUTSIDE]
    assert (unknown[0], "Did you mean 'state'?" in unknown[1]["detail"]) == (400, True)


def test_the_api_reports_the_drift(call, job):
    ProviderSettings.objects.update(webhook_allowed_ips=["34.82.0.0/16"], webhook_address_mode="observe")
    deliver(job)

    status, said = call("GET", "/api/webhooks/drift")

    (row,) = said["outside"]
    assert (status, said["mode"], said["allowed"], said["unused"]) == (200, "observe", ["34.82.0.0/16"], ["34.82.0.0/16"])
    assert (row["address"], row["held"], row["passed"]) == (OUTSIDE, 0, 1)


# --- By staff, and by command -----------------------------------------------------------------------------


def test_staff_lets_go_in_the_admin(client, job):
    kept = held(job)
    client.force_login(UserFactory(is_staff=True, is_superuser=True))

    client.post("/admin/webhooks/delivery/", {"action": "release", "_selected_action": [kept.pk]})
    applying.apply_unapplied()

    assert (Delivery.objects.get().state, Job.objects.get().state) == ("applied", "completed")
    assert AuditLine.objects.filter(event_type="webhook.released", team=job.team).count() == 1
    for path in (f"/admin/webhooks/delivery/{kept.pk}/change/", "/admin/webhooks/outsideaddress/"):
        assert client.get(path).status_code == 200


def test_an_operator_applies_again_what_was_put_aside(job, capsys):
    some(job, 3)
    Delivery.objects.filter(webhook_id="msg_0").update(state="dead", received_at=timezone.now() - timedelta(days=3))
    Delivery.objects.filter(webhook_id="msg_1").update(state="dead")

    call_command("replay_deliveries", team=job.team.slug, state="dead", since=(timezone.now() - timedelta(days=1)).isoformat())

    assert list(Delivery.objects.order_by("pk").values_list("state", flat=True)) == ["dead", "received", "applied"]
    assert capsys.readouterr().out == "1 delivery is marked, and the sweep applies it.\n"
