"""The pages of approvals, and the one behind the link in a mail."""

import pytest
from django.core import mail, signing
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import letters, tasks
from accounts.models import AuditLine, Membership
from accounts.roles import Role
from config import logs
from jobs.models import ApprovalRequest, ApprovalRule, Job, ProviderSettings
from jobs.services import approval_links, approval_requests, approving
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import UserFactory
from tests.jobs.approvals import blocked, caller, member, rule
from tests.jobs.ready import NAMED, make_ready
from tests.mail import link_in
from tests.pages import INLINE


@pytest.fixture(autouse=True)
def mail_server(settings):
    settings.EMAIL_BACKEND = "tests.mail.EmailBackend"


@pytest.fixture
def lead(client, ready):
    """A lead who is signed in."""
    lead = member(ready, Role.LEAD)
    client.force_login(lead.user)
    return lead


@pytest.fixture
def asked(ready):
    return blocked(ready, max_seconds=3600, run_name="spring")


def url(name, ready, *args):
    return reverse(f"jobs:{name}", args=[ready.team.slug, *args])


def page_of(client, address):
    response = client.get(address)
    assert response.status_code == 200
    page = response.content.decode()
    assert INLINE.findall(page) == []
    return page


# --- Looking ----------------------------------------------------------------------------------------------------


def test_the_rail_counts_what_waits_for_the_person(client, ready, lead, asked):
    blocked(ready)
    page = page_of(client, url("approvals", ready))

    assert ("2 wait for you" in page, "spring" in page, "waits for you" in page) == (True, True, True)


def test_the_rail_does_not_count_ones_own_nor_what_asks_for_a_higher_role(client, ready, lead):
    rule(ready.team, required_role=Role.OWNER)
    blocked(ready)

    assert "for you" not in page_of(client, url("approvals", ready))


@pytest.mark.parametrize("rows", [1, 3])
def test_the_list_asks_as_often_for_three_requests_as_for_one(client, ready, lead, rows, django_assert_num_queries):
    other = caller(ready)
    for _ in range(rows):
        approving.reject(other, blocked(ready))
        blocked(ready)

    with django_assert_num_queries(11):
        client.get(url("approvals", ready))


def test_what_was_decided_stands_below(client, ready, lead, asked):
    approving.reject(caller(ready), asked, notes="Too dear")

    page = page_of(client, url("approvals", ready))

    assert ("Nothing waits for approval" in page, "Too dear" in page, "Decided" in page) == (True, True, True)


def test_a_request_says_all_that_is_needed_to_decide(client, ready, lead, asked):
    SpendLimitFactory(team=ready.team, name="month")
    page = page_of(client, url("approval", ready, asked.pk))

    for words in (
        "The rule &#x27;Ask&#x27; asks",
        "$3.57",
        str(ready.member.user),
        "flux-lora",
        "month",
        "train_batch_size",
        "Approve for at most $3.57",
    ):
        assert words in page, words
    assert "Take the request back" not in page


def test_whoever_asked_sees_the_request_and_cannot_decide_it(client, ready, asked):
    client.force_login(ready.member.user)

    page = page_of(client, url("approval", ready, asked.pk))
    refused = client.post(url("approve", ready, asked.pk))

    assert ("Take the request back" in page, "Approve for at most" in page, refused.status_code) == (True, False, 403)
    assert "spring" in page_of(client, url("own_approvals", ready))
    assert client.get(url("approvals", ready)).url == url("own_approvals", ready)


def test_a_colleague_does_not_see_it(client, ready, asked):
    client.force_login(member(ready, Role.RESEARCHER).user)

    assert client.get(url("approval", ready, asked.pk)).status_code == 403


def test_the_job_page_says_why_it_waits_for_whom_and_until_when(client, ready, asked):
    lead = member(ready, Role.LEAD)
    client.force_login(ready.member.user)

    page = page_of(client, url("detail", ready, asked.job.job_id))
    approving.reject(caller(ready), asked, notes="Too dear")
    after = page_of(client, url("detail", ready, asked.job.job_id))

    assert ("The rule &#x27;Ask&#x27; asks" in page, str(lead.user) in page, url("approval", ready, asked.pk) in page) == (True, True, True)
    assert ("Too dear" in after, "No one" in after) == (True, False)


def test_where_nobody_else_may_approve_the_job_page_says_so(client, db, no_provider):
    ready = make_ready(role=Role.OWNER)
    asked = blocked(ready)
    client.force_login(ready.member.user)

    assert "Nobody else in the team may approve it" in page_of(client, url("detail", ready, asked.job.job_id))


def test_the_submit_form_says_beforehand_that_the_job_will_wait_and_afterwards_that_it_does(client, ready):
    rule(ready.team, required_role=Role.OWNER)
    client.force_login(ready.member.user)
    ProviderSettings.objects.update_or_create(team=ready.team, defaults={"data_consent": "allow"})

    before = page_of(client, url("new", ready))
    after = client.post(url("new", ready), {"config_name": NAMED, "agreed": 1_000_000_000}, follow=True).content.decode()

    assert "whose role is at least: Owner." in before
    assert "The job was submitted and waits for approval." in after


# --- Deciding ---------------------------------------------------------------------------------------------------


def test_a_lead_approves_with_one_button(client, ready, lead, asked):
    page = client.post(url("approve", ready, asked.pk), {"notes": "Fine"}, follow=True).content.decode()

    asked.refresh_from_db()
    assert ("The job is approved" in page, asked.state, asked.review_notes, Job.objects.get().state) == (
        True,
        "approved",
        "Fine",
        "pending",
    )


def test_a_lead_rejects_with_the_other(client, ready, lead, asked):
    page = client.post(url("reject", ready, asked.pk), {"notes": ""}, follow=True).content.decode()

    asked.refresh_from_db()
    assert ("The job is rejected" in page, asked.review_notes) == (True, "No reason given")


def test_what_does_not_fit_any_more_says_so_and_waits_on(client, ready, lead, asked):
    SpendLimitFactory(team=ready.team, amount=1 * USD)

    page = client.post(url("approve", ready, asked.pk), follow=True).content.decode()

    assert ("Cost limit exceeded" in page, ApprovalRequest.objects.get().state) == (True, "pending")


def test_opening_the_address_of_a_decision_decides_nothing(client, ready, lead, asked):
    assert [client.get(url(name, ready, asked.pk)).status_code for name in ("approve", "reject", "approval_cancel")] == [405] * 3


def test_a_note_that_is_too_long_is_refused(client, ready, lead, asked):
    client.post(url("approve", ready, asked.pk), {"notes": "x" * 501})

    assert ApprovalRequest.objects.get().state == "pending"


def test_whoever_asked_takes_it_back(client, ready, asked):
    client.force_login(ready.member.user)

    client.post(url("approval_cancel", ready, asked.pk))
    again = client.post(url("approval_cancel", ready, asked.pk), follow=True).content.decode()

    assert (ApprovalRequest.objects.get().state, "does not wait any more" in again) == ("cancelled", True)


# --- Rules ------------------------------------------------------------------------------------------------------


@pytest.fixture
def owner(client, ready):
    owner = member(ready, Role.OWNER)
    client.force_login(owner.user)
    return owner


FORM = {"name": "Dear", "condition": "cost_exceeds", "threshold": "50", "required_role": "lead", "priority": "0", "is_active": "on"}


def test_an_owner_sets_changes_and_deletes_a_rule(client, ready, owner):
    client.post(url("approval_rule_new", ready), FORM | {"exempt_roles": ["owner", "lead"]})
    made = ApprovalRule.objects.get()
    listed = page_of(client, url("approval_rules", ready))
    client.post(url("approval_rule", ready, made.pk), FORM | {"threshold": "75", "is_active": ""})
    changed = ApprovalRule.objects.get()
    asked = page_of(client, url("approval_rule_delete", ready, made.pk))
    client.post(url("approval_rule_delete", ready, made.pk))

    assert (made.team, made.exempt_roles, made.created_by) == (ready.team, ["lead", "owner"], owner.user)
    assert ("Jobs that can cost more than $50.00" in listed, "Lead, Owner" in listed) == (True, True)
    assert (changed.threshold, changed.is_active, changed.exempt_roles) == ("75", False, [])
    assert ("Delete Dear?" in asked, ApprovalRule.objects.count()) == (True, 0)


@pytest.mark.parametrize(("wrong", "words"), [({"threshold": "fifty"}, "must be an amount in US dollars"), ({"name": ""}, "required")])
def test_a_rule_that_cannot_be_shows_the_form_again_with_what_is_wrong(client, ready, owner, wrong, words):
    page = client.post(url("approval_rule_new", ready), FORM | wrong).content.decode()

    assert (words in page, ApprovalRule.objects.count()) == (True, 0)


def test_a_rule_about_roles_calls_them_as_the_page_does(client, ready, owner):
    owner.user.language = "es"
    owner.user.save()

    client.post(url("approval_rule_new", ready), FORM | {"condition": "user_level", "threshold": "responsable"})

    made = ApprovalRule.objects.get()
    assert made.threshold == "lead"
    assert 'value="Responsable"' in page_of(client, url("approval_rule", ready, made.pk))


def test_the_suggested_rules_are_set_with_one_click_each(client, ready, owner):
    first = page_of(client, url("approval_rules", ready))
    for name in ("cost", "first", "nonsense"):
        client.post(url("approval_rule_suggested", ready), {"name": name})
    then = page_of(client, url("approval_rules", ready))

    assert ("Ask above $50" in first, "Ask for first jobs" in first, "To begin with" in then) == (True, True, False)
    assert list(ApprovalRule.objects.order_by("pk").values_list("condition", "threshold", "exempt_roles")) == [
        ("cost_exceeds", "50", ["owner"]), ("first_job", "", ["lead", "owner"]),
    ]  # fmt: skip


def test_a_lead_reads_the_rules_and_the_platforms_are_nobodys_here(client, ready, lead):
    theirs = rule(None, name="Everywhere", threshold="5")

    page = page_of(client, url("approval_rules", ready))

    assert ("Everywhere" in page, "Platform's, for all teams" in page, "New rule" in page) == (True, True, False)
    client.force_login(member(ready, Role.OWNER).user)
    assert client.get(url("approval_rule", ready, theirs.pk)).status_code == 404


# --- By the link in a mail ------------------------------------------------------------------------------------


@pytest.fixture
def addressed(ready):
    """A lead who got a mail, the request, and the path of the link in it."""
    reader = member(ready, Role.LEAD)
    asked = blocked(ready, max_seconds=3600)
    tasks.send_mail()
    return reader, asked, link_in(mail.outbox[-1]).removeprefix("http://127.0.0.1:9")


def test_the_link_shows_the_request_without_signing_in_and_changes_nothing(client, addressed):
    reader, asked, link = addressed

    response = client.get(link)

    page = response.content.decode()
    for words in (str(reader.user), "The rule &#x27;Ask&#x27; asks", "Approve for at most $3.57"):
        assert words in page
    assert INLINE.findall(page) == []
    assert (response["Referrer-Policy"], "no-store" in response["Cache-Control"]) == ("strict-origin", True)
    assert ApprovalRequest.objects.get() == asked
    assert ApprovalRequest.objects.get().state == "pending"


def test_the_page_behind_the_link_is_in_its_readers_language(client, addressed):
    reader, _, link = addressed
    reader.user.language = "es"
    reader.user.save()

    page = client.get(link, headers={"Accept-Language": "en"})

    assert ('<html lang="es">' in page.content.decode(), page["Content-Language"]) == (True, "es")


@pytest.mark.parametrize(("decision", "state", "event"), [("approve", "approved", "job.approved"), ("reject", "rejected", "job.rejected")])
def test_the_form_behind_the_link_decides_once_as_its_reader(client, addressed, decision, state, event):
    reader, asked, link = addressed

    done = client.post(link, {"decision": decision, "notes": "By mail"})
    again = [client.post(link, {"decision": "approve"}), client.get(link)]

    asked.refresh_from_db()
    assert (done.status_code, f"The job is {state}" in done.content.decode()) == (200, True)
    assert (asked.state, asked.reviewed_by, asked.review_notes) == (state, reader.user, "By mail")
    assert AuditLine.objects.get(event_type=event).actor == reader.user.username
    assert [answer.status_code for answer in again] == [410, 410]
    assert f"This request does not wait any more: it is {state}." in again[1].content.decode()


@pytest.mark.parametrize("decision", ["", "maybe"])
def test_a_form_without_a_decision_decides_nothing(client, addressed, decision):
    assert client.post(addressed[2], {"decision": decision}).status_code == 200
    assert ApprovalRequest.objects.get().state == "pending"


def test_what_does_not_fit_leaves_the_link_good(client, ready, addressed):
    limit = SpendLimitFactory(team=ready.team, amount=1 * USD)
    refused = client.post(addressed[2], {"decision": "approve"}).content.decode()
    limit.delete()

    assert "Cost limit exceeded" in refused
    assert client.post(addressed[2], {"decision": "approve"}).status_code == 200
    assert ApprovalRequest.objects.get().state == "approved"


def leave(reader, asked):
    Membership.objects.filter(user=reader.user).delete()


def demote(reader, asked):
    Membership.objects.filter(user=reader.user).update(role=Role.RESEARCHER)


def deactivate(reader, asked):
    type(reader.user).objects.filter(pk=reader.user.pk).update(is_active=False)


def expire(reader, asked):
    ApprovalRequest.objects.update(expires_at=timezone.now())


def suspend(reader, asked):
    type(reader.team).objects.update(suspended_at=timezone.now())


def raise_the_role(reader, asked):
    ApprovalRequest.objects.update(required_role=Role.OWNER)


@pytest.mark.parametrize(
    ("happens", "status"), [(leave, 410), (demote, 403), (deactivate, 410), (expire, 410), (suspend, 403), (raise_the_role, 403)]
)
def test_whoever_may_not_decide_any_more_is_told_so_and_decides_nothing(client, addressed, happens, status):
    reader, asked, link = addressed
    happens(reader, asked)

    answers = [client.get(link), client.post(link, {"decision": "approve"})]

    assert [answer.status_code for answer in answers] == [status] * 2
    assert all(b'lang="en"' in answer.content for answer in answers)
    assert ApprovalRequest.objects.get().state == "pending"


def test_a_link_is_for_one_person_and_one_request_and_cannot_be_made_up(client, ready, addressed):
    reader, asked, link = addressed
    stranger, own = UserFactory(), approval_links.path(asked.pk, ready.member.user.pk)
    signed = link.rstrip("/").rpartition("/")[2]
    forged = [
        link.replace(signed, signed[:-3] + "abc"),
        link.replace(signed, "forged"),
        link.replace(signed, signing.dumps([asked.pk, reader.user.pk], salt="another")),
        link.replace(signed, signing.dumps("nonsense", salt=approval_links.SALT)),
        approval_links.path(asked.pk, stranger.pk),
        approval_links.path(asked.pk + 1000, reader.user.pk),
    ]

    assert [client.post(path, {"decision": "approve"}).status_code for path in forged] == [410] * 6
    assert client.post(own, {"decision": "approve"}).status_code == 403
    assert ApprovalRequest.objects.get().state == "pending"


def test_the_form_is_safe_from_other_sites(addressed):
    strict = Client(enforce_csrf_checks=True)
    strict.get(addressed[2])

    assert strict.post(addressed[2], {"decision": "approve"}).status_code == 403
    assert ApprovalRequest.objects.get().state == "pending"


def test_no_row_and_no_log_line_holds_the_link(addressed):
    signed = addressed[2].rstrip("/").rpartition("/")[2]
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(l::text, '') FROM accounts_letter l")
        (letters,) = cursor.fetchone()

    assert (signed in letters, "approval_asked" in letters) == (False, True)
    assert signed not in logs.scrub(f"Gone: {addressed[2]}")


def test_a_mail_without_a_known_address_of_this_server_says_where_to_go(ready, settings):
    asked = blocked(ready)
    settings.PUBLIC_URL = ""
    facts = approval_requests.facts_for_mail(asked) | {"request": asked.pk, "reader": ready.member.user.pk}

    letters.mail(event="approval_asked", to="lead@example.com", language="en", facts=facts)

    assert ("open Approvals to decide" in mail.outbox[0].body, "http" in mail.outbox[0].body) == (True, False)
