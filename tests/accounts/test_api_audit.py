"""The audit trail by API: who may read which chain, and what the answers say."""

import json
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import audit, events, exports, retention, teams
from accounts.models import AuditForwarding, AuditHead, AuditLine
from accounts.roles import Role, Scope
from tests.accounts.test_audit import ids, tamper
from tests.factories import MembershipFactory, TeamFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db

AUDIT = "/api/audit"
READABLE = [f"{AUDIT}{rest}" for rest in ("", "/stats", "/types", "/verify", "/security", "/export", "/export-config")]


@pytest.fixture
def lead():
    return MembershipFactory(role=Role.LEAD)


@pytest.fixture
def team(lead):
    return lead.team


@pytest.fixture
def get(lead):
    _, key = make_token(lead)

    def send(path=AUDIT, *, status=200, key=key, **query):
        answer = Client().get(path, query, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == status, answer.content
        return b"".join(answer.streaming_content) if answer.streaming else answer.json()

    return send


@pytest.fixture
def post(team):
    _, key = make_token(MembershipFactory(team=team, role=Role.OWNER))

    def send(status=200, /, **body):
        headers = {"Authorization": f"Bearer {key}"}
        answer = Client().post(f"{AUDIT}/export-config", body, content_type="application/json", headers=headers)
        assert answer.status_code == status, answer.content
        return answer.json()

    return send


def note(team, event_type="config.changed", **more):
    return audit.record(team=team, event_type=event_type, action=more.pop("action", "x"), **more)


def signed_in(user):
    client = Client()
    client.force_login(user)
    return client


# --- Who may ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", READABLE)
def test_every_path_answers_with_and_without_a_slash_to_leads_alone(path, get, lead):
    low = {role: make_token(MembershipFactory(team=lead.team, role=role))[1] for role in (Role.VIEWER, Role.RESEARCHER)}
    _, narrow = make_token(lead, scopes=[Scope.READ, Scope.SUBMIT, Scope.BILLING])

    get(path)
    get(f"{path}/")
    for key in (*low.values(), narrow):
        refused = get(path, key=key, status=403)
        assert refused["details"] == {"required_permission": "admin.audit"}
    assert Client().get(path).status_code == 401


@pytest.mark.parametrize("path", READABLE)
def test_another_teams_trail_is_not_in_any_answer(path, get):
    foreign = TeamFactory()
    note(foreign, action="FOREIGN", target_id="FOREIGN")
    note(None, action="FOREIGN")

    said = get(path)

    assert "FOREIGN" not in str(said)


def test_a_cookie_names_its_team(lead):
    other = MembershipFactory(user=lead.user, role=Role.RESEARCHER)
    note(lead.team, action="ours")
    client = signed_in(lead.user)

    answers = {slug: client.get(AUDIT, {"team": slug}).status_code for slug in (lead.team.slug, other.team.slug, "elsewhere")}

    assert answers == {lead.team.slug: 200, other.team.slug: 403, "elsewhere": 404}
    assert client.get(AUDIT, {"team": lead.team.slug}).json()["entries"][0]["action"] == "ours"


@pytest.mark.parametrize("path", READABLE)
def test_staff_name_the_platform_and_nobody_else_can(path, lead):
    staff = UserFactory(is_staff=True)
    _, key = make_token(MembershipFactory(user=staff, role=Role.OWNER))

    assert signed_in(staff).get(path, {"team": "platform"}).status_code == 200
    assert signed_in(lead.user).get(path, {"team": "platform"}).status_code == 404
    # A token is a team's, whoever made it.
    said = Client().get(f"{AUDIT}/stats", {"team": "platform"}, headers={"Authorization": f"Bearer {key}"}).json()
    assert "auth.login.success" not in said["by_type"]


def test_the_platforms_chain_is_what_staff_see(lead):
    note(None, "user.created", action="platform's")
    note(lead.team, action="team's")

    said = signed_in(UserFactory(is_staff=True)).get(AUDIT, {"team": "platform"}).json()

    assert [entry["event_type"] for entry in said["entries"]] == ["auth.login.success", "user.created"]


def test_no_team_can_be_called_platform():
    made = teams.create(name="Platform", owner=UserFactory())

    assert made.slug == "platform-2"
    made.slug = "platform"
    with pytest.raises(ValidationError, match="taken by the platform"):
        made.full_clean()


# --- Lists ------------------------------------------------------------------------------------------------


def test_an_entry_says_everything_that_the_line_does(get, lead, team):
    line = note(
        team, by=lead.user, address="192.0.2.1", target_type="config", target_id="flux", before={"rank": 8}, after={"rank": 16}, reason="r"
    )

    entry = get(target_type="config")["entries"][0]

    assert entry == {
        "id": line.pk, "timestamp": line.at.isoformat(), "event_type": "config.changed", "actor_id": lead.user.pk,
        "actor_username": lead.user.username, "actor_ip": "192.0.2.1", "target_type": "config", "target_id": "flux", "action": "x",
        "details": {"before": {"rank": 8}, "after": {"rank": 16}, "reason": "r"}, "token_prefix": None,
        "correlation_id": line.correlation_id or None,
        "sequence": line.sequence, "hash": line.hash, "previous_hash": line.previous_hash,
    }  # fmt: skip


def test_a_page_is_a_part_and_the_total_is_all(get, team):
    for number in range(5):
        note(team, "job.submitted", action=f"Job {number}")

    first = get(event_type="job.submitted", limit=2)
    last = get(event_type="job.submitted", limit=2, offset=4)

    assert [entry["action"] for entry in first["entries"]] == ["Job 4", "Job 3"]
    assert (first["total"], first["has_more"]) == (5, True)
    assert ([entry["action"] for entry in last["entries"]], last["total"], last["has_more"]) == (["Job 0"], 5, False)


@pytest.mark.parametrize(
    ("word", "event"),
    [
        ("webhook.rejected", "webhook.rejected"), ("webhook_rejected", "webhook.rejected"), ("rate_limited", "security.rate_limited"),
        ("SECURITY_RATE_LIMITED", "security.rate_limited"), ("auth_login_failed", "auth.login.failed"),
    ],
)  # fmt: skip
def test_an_event_is_known_by_its_name_and_by_short_words(get, team, word, event):
    note(team, event)

    assert [entry["event_type"] for entry in get(event_type=word)["entries"]] == [event]


def test_filters_narrow_by_person_target_and_time(get, lead, team):
    old, new = note(team, by=lead.user, target_id="a"), note(team, target_id="b")

    def found(**query):
        return [entry["id"] for entry in get(event_type="config.changed", **query)["entries"]]

    assert found(actor_id=lead.user.pk) == [old.pk]
    assert found(target_id="b") == [new.pk]
    assert found(since=new.at.isoformat()) == [new.pk]
    assert found(until=new.at.isoformat()) == [old.pk]
    assert found(until="2026-01-01") == []


@pytest.mark.parametrize(
    "query",
    [
        {"event_type": "nonsense"}, {"since": "yesterday"}, {"until": "2026-13-01"}, {"limit": "0"}, {"limit": "501"}, {"offset": "-1"},
        {"actor_id": "x"}, {"actor_id": str(2**64)},
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(get, query):
    said = get(status=400, **query)

    assert (said["code"], said["field"]) == ("invalid_input", next(iter(query)))


def test_a_persons_lines(get, lead, team):
    note(team, by=lead.user, action="theirs")
    note(team, action="nobody's")
    gone = UserFactory()
    note(team, by=gone, action="left since")

    assert get(f"{AUDIT}/user/{lead.user.pk}")["entries"][0]["action"] == "theirs"
    assert get(f"{AUDIT}/user/{gone.pk}", limit=1)["total"] == 1
    assert get(f"{AUDIT}/user/{UserFactory().pk}", status=404)["code"] == "not_found"


def test_security_is_what_concerns_it(get, team):
    for event in ("job.submitted", "security.rate_limited", "webhook.rejected", "auth.login.failed"):
        note(team, event)

    said = get(f"{AUDIT}/security", limit=2)

    assert ([entry["event_type"] for entry in said["entries"]], said["total"]) == (["auth.login.failed", "webhook.rejected"], 3)


def test_figures(get, team):
    before = get(f"{AUDIT}/stats")["total_entries"]
    note(team, "job.submitted")
    line = note(team, "job.submitted")

    said = get(f"{AUDIT}/stats")

    assert (said["total_entries"], said["last_24h"], said["by_type"]["job.submitted"]) == (before + 2, before + 2, 2)
    assert (said["first_entry"] < said["last_entry"], said["last_entry"]) == (True, line.at.isoformat())


def test_every_event_has_a_value_and_a_name(get):
    types = get(f"{AUDIT}/types")["event_types"]

    assert {"value": "auth.login.success", "name": "AUTH_LOGIN_SUCCESS"} in types
    assert {each["value"] for each in types} == set(events.ALL) > set(events.DOCUMENTED)


# --- Verify -----------------------------------------------------------------------------------------------


@pytest.fixture
def five():
    """A team with five lines, and a lead's cookie."""
    member = MembershipFactory(role=Role.LEAD)
    for number in range(5):
        note(member.team, action=f"Change {number}")
    return member.team, signed_in(member.user)


def verified(client, **query):
    return client.get(f"{AUDIT}/verify", query).json()


def test_a_whole_chain_verifies(five):
    team, client = five
    head = AuditHead.objects.get(team=team)

    assert verified(client) == {
        "valid": True, "entries_checked": 5, "broken_links": [], "first_id": ids(team)[0], "last_id": ids(team)[4], "last_hash": head.hash,
    }  # fmt: skip


def test_a_broken_link_has_its_line_and_a_reason(five):
    team, client = five
    tamper("UPDATE accounts_auditline SET address = '192.0.2.9' WHERE id = %s", ids(team)[2])

    said = verified(client)

    reason = "The line was changed: its hash does not fit what it says."
    assert (said["valid"], said["broken_links"]) == (False, [{"id": ids(team)[2], "reason": reason}])


def test_a_part_is_verified_by_itself(five):
    team, client = five
    first, second, third, fourth, fifth = ids(team)
    tamper("UPDATE accounts_auditline SET action = 'x' WHERE id = %s", second)

    assert verified(client, start_id=third) | {"last_hash": ""} == {
        "valid": True, "entries_checked": 3, "broken_links": [], "first_id": third, "last_id": fifth, "last_hash": "",
    }  # fmt: skip
    assert verified(client, end_id=first)["valid"]
    assert [link["id"] for link in verified(client, start_id=first, end_id=fourth)["broken_links"]] == [second]


def test_a_cut_off_tail_shows_behind_a_start_too(five):
    team, client = five
    start = ids(team)[2]
    tamper("DELETE FROM accounts_auditline WHERE team_id = %s AND sequence > 3", team.pk)

    said = verified(client, start_id=start)

    assert said["broken_links"] == [{"id": start, "reason": "The chain ends here, and 2 lines after it are missing."}]


def test_a_part_without_lines_is_not_found(five):
    team, client = five

    assert client.get(f"{AUDIT}/verify", {"start_id": ids(team)[4] + 1}).status_code == 404


# --- Export -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_export_proves_itself(five, form):
    team, client = five
    retention.cut(team, before=timezone.now() + timedelta(days=1))
    note(team, action="=after the cut")

    answer = client.get(f"{AUDIT}/export", {"format": form})

    assert answer["Content-Disposition"] == f'attachment; filename="{team.slug}-audit.{form}"'
    text = b"".join(answer.streaming_content).decode()
    found = exports.check(exports.read(text.splitlines(keepends=True), form))
    assert (found.valid, found.checked, found.ends.hash) == (True, 2, AuditHead.objects.get(team=team).hash)


def test_an_unknown_format_is_refused(get):
    assert get(f"{AUDIT}/export", status=400, format="xml")["field"] == "format"


# --- Where new lines go -----------------------------------------------------------------------------------

NOTHING = {"format": "json", "webhook_url": None, "auth_token": None, "has_auth_token": False, "security_only": False}
SIEM = {"format": "csv", "webhook_url": "https://siem.example.com/in", "auth_token": "s3cret", "security_only": True}


def documented(said):
    return {name: said[name] for name in NOTHING}


def test_who_only_reads_the_trail_sends_it_nowhere(lead, get):
    _, key = make_token(lead)

    answer = Client().post(f"{AUDIT}/export-config", SIEM, content_type="application/json", headers={"Authorization": f"Bearer {key}"})

    assert (answer.status_code, documented(get(f"{AUDIT}/export-config"))) == (403, NOTHING)


def test_at_first_nothing_is_pushed(get):
    assert documented(get(f"{AUDIT}/export-config")) == NOTHING


def test_what_is_set_is_kept_without_the_token_coming_out(get, post, team):
    said = post(**SIEM)

    kept, line = AuditForwarding.objects.get(), team.audit_lines.order_by("-sequence").first()
    assert documented(said) == SIEM | {"auth_token": None, "has_auth_token": True}
    assert get(f"{AUDIT}/export-config") == said
    assert (kept.auth_token, kept.sent_sequence) == ("s3cret", line.sequence - 1)
    assert (line.event_type, line.before["sent_to"], line.after["sent_to"]) == ("config.changed", None, "https://siem.example.com")
    assert "s3cret" not in json.dumps([said, line.chained_fields()])


def test_the_token_is_encrypted_at_rest(post):
    post(**SIEM)

    with connection.cursor() as cursor:
        cursor.execute("SELECT auth_token FROM accounts_auditforwarding")
        assert "s3cret" not in cursor.fetchone()[0]


def test_what_is_read_can_be_sent_back_unchanged(get, post):
    post(**SIEM)

    said = post(**documented(get(f"{AUDIT}/export-config")))

    assert (said["has_auth_token"], AuditForwarding.objects.get().auth_token) == (True, "s3cret")


def test_another_host_does_not_get_the_token_of_the_first(post):
    post(**SIEM)

    same = post(webhook_url="https://siem.example.com/other")
    other = post(webhook_url="https://elsewhere.example.com/in")

    assert (same["has_auth_token"], other["has_auth_token"]) == (True, False)


def test_pushing_is_turned_off_and_the_token_dropped(post):
    post(**SIEM)

    dropped = post(auth_token="")
    off = post(webhook_url=None)

    assert (dropped["has_auth_token"], off["webhook_url"], off["format"]) == (False, None, "csv")


@pytest.mark.parametrize(
    "body",
    [
        {"format": "xml"}, {"format": None}, {"webhook_url": "ftp://x.example.com"}, {"webhook_url": "http://x.example.com"},
        {"webhook_url": "https://10.0.0.1/"}, {"webhook_url": "https://localhost/"}, {"webhook_url": 5}, {"webhook_url": "https://[x/"},
        {"webhook_url": "https://u:p@siem.example.com/"}, {"webhook_url": "https://siem.example.com:99999/"},
        {"webhook_url": "https://siem.example.com/" + "x" * 500}, {"auth_token": 5}, {"auth_token": "a b"}, {"auth_token": "x" * 1001},
        {"security_only": "yes"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_nothing_changed(settings, post, body):
    settings.ALLOW_PRIVATE_HOSTS = False

    said = post(400, **body)

    assert said["field"] == next(iter(body))
    assert not AuditForwarding.objects.exists()


def test_the_platforms_is_changed_by_superusers():
    def send(user):
        return signed_in(user).post(f"{AUDIT}/export-config?team=platform", SIEM, content_type="application/json").status_code

    assert (send(UserFactory(is_staff=True)), send(UserFactory(is_staff=True, is_superuser=True))) == (403, 200)
    assert AuditForwarding.objects.get().team is None
    assert AuditLine.objects.filter(team=None, event_type="config.changed").count() == 1
