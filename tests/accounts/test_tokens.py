"""API tokens: their form, who finds them, and when they stop working."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts import audit, tokens
from accounts.callers import Caller
from accounts.errors import Conflict, InvalidInput, NotPermitted
from accounts.models import APIToken, AuditLine, Membership
from accounts.roles import Right, Role, Scope
from tests.factories import MembershipFactory, TeamFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db


def find(plain, **options):
    return tokens.find(plain, **{"address": "192.0.2.1", "now": timezone.now()} | options)


def test_a_token_has_the_documented_form():
    token, plain = make_token()

    assert re.fullmatch(r"th_[0-9A-Za-z]{57}", plain)
    assert (token.key_prefix, len(token.key_prefix)) == (plain[:11], 11)
    assert tokens.well_formed(plain)


@given(position=st.integers(0, 59), character=st.sampled_from(tokens.ALPHABET))
def test_one_wrong_character_is_seen_without_the_database(position, character):
    plain = "th_" + "k3yId000" + "s" * 43
    plain += tokens._check(plain)

    mistyped = plain[:position] + character + plain[position + 1 :]

    assert tokens.well_formed(mistyped) == (mistyped == plain)


@pytest.mark.parametrize("text", ["", "th_", "st_" + "a" * 57, "th_" + "ä" * 57, "th_" + "a" * 57 + "\n"])
def test_what_is_no_token_is_not_looked_up(text, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert find(text) is None


def test_the_text_is_kept_nowhere():
    _, plain = make_token()

    with connection.cursor() as cursor:
        cursor.execute("SELECT t::text FROM accounts_apitoken t UNION ALL SELECT a::text FROM accounts_auditline a")
        rows = [row for (row,) in cursor.fetchall()]

    assert len(rows) == 2
    assert all(plain[11:] not in row for row in rows)


def test_a_token_is_found_with_its_team_and_maker_by_one_indexed_query():
    token, plain = make_token()
    fill(token, 1000)

    with CaptureQueriesContext(
        connection,
    ) as captured:
        found = find(plain)
        who = (found.team.slug, found.made_by.username)

    assert len(captured) == 1
    assert who == (token.team.slug, token.made_by.username)
    with connection.cursor() as cursor:
        # Else the plan depends on when the database last looked at its tables.
        cursor.execute("ANALYZE accounts_apitoken")
        cursor.execute("EXPLAIN " + captured[0]["sql"])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "accounts_apitoken_key_id" in plan


def test_the_id_without_the_secret_opens_nothing():
    token, _ = make_token()
    body = "th_" + token.key_id + "x" * 43

    assert find(body + tokens._check(body)) is None


def test_a_token_works_until_it_expires():
    token, plain = make_token(expires_in=timedelta(days=1))

    assert find(plain, now=token.expires_at - timedelta(microseconds=1)) == token
    assert find(plain, now=token.expires_at) is None


def test_a_token_lasts_ninety_days_unless_said():
    token, _ = make_token()
    endless, plain = make_token(expires_in=None)

    assert token.expires_at - token.created_at == timedelta(days=90)
    assert endless.expires_at is None
    assert find(plain, now=timezone.now() + timedelta(days=9999)) == endless


def test_a_revoked_token_is_refused_at_once_and_revoked_once():
    token, plain = make_token()
    assert find(plain) == token

    first, second = tokens.revoke(token, by=token.made_by), tokens.revoke(token, by=token.made_by)

    assert (first, second) == (True, False)
    assert find(plain) is None
    assert AuditLine.objects.filter(event_type="api_key.revoked", target_id=token.key_prefix).count() == 1


def test_a_rotated_token_works_for_its_overlap_and_can_be_revoked_meanwhile():
    token, plain = make_token()
    APIToken.objects.filter(pk=token.pk).update(revoked_at=timezone.now() + timedelta(days=2))
    assert find(plain) == token

    assert tokens.revoke(token, by=token.made_by)

    assert find(plain) is None


def test_a_token_outlives_the_deactivation_of_its_maker():
    token, plain = make_token()
    token.made_by.is_active = False
    token.made_by.save()

    assert find(plain) == token


def test_a_token_whose_maker_was_deleted_opens_nothing():
    token, plain = make_token()
    token.made_by.delete()

    assert APIToken.objects.filter(pk=token.pk).exists()
    assert find(plain) is None


def test_a_token_is_bound_to_its_addresses():
    token, plain = make_token(allowed_addresses=["192.0.2.0/24", "2001:db8::1"])

    assert find(plain, address="192.0.2.77") == token
    assert find(plain, address="2001:db8::1") == token
    for address in ("198.51.100.1", "2001:db8::2", ""):
        with pytest.raises(tokens.AddressNotAllowed) as refused:
            find(plain, address=address)
        assert (refused.value.status, refused.value.code) == (403, "ip_not_allowed")


def test_rights_are_those_of_the_scopes_as_far_as_the_makers_role_has_them():
    membership = MembershipFactory(role=Role.RESEARCHER)

    token, _ = make_token(membership, scopes=[Scope.SUBMIT, Scope.ADMIN])

    assert token.rights == {Right.READ, Right.SUBMIT, Right.TOKENS_OWN}


def test_a_promotion_of_the_maker_does_not_reach_the_token():
    membership = MembershipFactory(role=Role.VIEWER)
    _, plain = make_token(membership)

    membership.role = Role.OWNER
    membership.save()

    assert find(plain).rights == {Right.READ}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"scopes": ["read", "fly"]}, "scopes"),
        ({"name": "  "}, "name"),
        ({"expires_in": timedelta(0)}, "expires_in"),
        ({"allowed_addresses": ["192.0.2.300"]}, "allowed_addresses"),
    ],
)
def test_a_senseless_token_is_not_made(wrong, field):
    with pytest.raises(InvalidInput) as refused:
        make_token(**wrong)

    assert refused.value.field == field
    assert not APIToken.objects.exists()


def test_a_token_needs_a_scope():
    membership = MembershipFactory()

    with pytest.raises(InvalidInput):
        tokens.create(team=membership.team, by=membership.user, name="ci", scopes=[])


def test_a_stranger_makes_no_token():
    with pytest.raises(NotPermitted):
        tokens.create(team=TeamFactory(), by=UserFactory(), name="ci", scopes=["read"])


def test_last_use_is_written_at_most_once_a_minute():
    token, plain = make_token()
    start = timezone.now()
    with CaptureQueriesContext(connection) as captured:
        for seconds in (0, 1, 59, 60, 61):
            now = start + timedelta(seconds=seconds)
            tokens.mark_used(find(plain, now=now), address=f"192.0.2.{seconds}", endpoint=f"GET /{seconds}", now=now)

    token.refresh_from_db()

    assert sum(query["sql"].startswith("UPDATE") for query in captured) == 2
    assert (token.last_used_at, token.last_used_address, token.last_used_endpoint) == (
        start + timedelta(seconds=60), "192.0.2.60", "GET /60",
    )  # fmt: skip


def test_making_a_token_is_audited_with_what_it_may_do():
    token, _ = make_token(scopes=["read"], allowed_addresses=["192.0.2.1"])

    line = AuditLine.objects.get(team=token.team)

    assert (line.event_type, line.actor, line.target_id) == ("api_key.created", token.made_by.username, token.key_prefix)
    assert (line.after["scopes"], line.after["role"], line.after["allowed_addresses"]) == (["read"], "owner", ["192.0.2.1/32"])
    assert audit.verify(token.team).valid


# --- Rotation ---------------------------------------------------------------------------------------------


def test_a_rotation_gives_a_new_secret_with_the_same_rights_for_as_long_again():
    token, former = make_token(scopes=["read", "cancel"], allowed_addresses=["192.0.2.1"], expires_in=timedelta(days=30))

    successor, plain = tokens.rotate(token, by=token.made_by, overlap=timedelta(days=7))

    kept = APIToken.objects.get(pk=token.pk)
    assert plain != former
    assert find(plain, address="192.0.2.1") == successor
    for name in ("team", "made_by", "name", "role", "scopes", "allowed_addresses"):
        assert getattr(successor, name) == getattr(token, name)
    assert successor.expires_at - successor.created_at == timedelta(days=30)
    assert (kept.replaced_by, successor.origin) == (successor, token)
    assert kept.revoked_at - successor.created_at == timedelta(days=7)


def test_both_secrets_work_until_the_overlap_is_over():
    token, former = make_token()
    _, plain = tokens.rotate(token, by=token.made_by, overlap=timedelta(days=2))
    end = token.revoked_at

    assert [find(text, now=end - timedelta(seconds=1)) is not None for text in (former, plain)] == [True, True]
    assert [find(text, now=end) is not None for text in (former, plain)] == [False, True]


def test_a_rotation_is_audited_without_a_secret():
    token, _ = make_token()

    successor, plain = tokens.rotate(token, by=token.made_by, overlap=timedelta(days=1))

    line = AuditLine.objects.get(event_type="api_key.rotated")
    assert (line.target_id, line.after["replaced_by"]) == (token.key_prefix, successor.key_prefix)
    assert plain[11:] not in str(list(AuditLine.objects.values()))
    assert audit.verify(token.team).valid


@pytest.mark.parametrize("overlap", [timedelta(days=-1), timedelta(days=7, seconds=1)])
def test_an_overlap_is_0_to_7_days(overlap):
    token, _ = make_token()

    with pytest.raises(InvalidInput) as refused:
        tokens.rotate(token, by=token.made_by, overlap=overlap)

    assert (refused.value.field, APIToken.objects.count()) == ("overlap", 1)


@pytest.mark.parametrize("state", ["replaced", "revoked", "expired", "orphaned"])
def test_only_a_token_that_works_and_was_not_replaced_is_rotated(state):
    membership = MembershipFactory()
    token, _ = make_token(membership)
    if state == "replaced":
        tokens.rotate(token, by=membership.user, overlap=timedelta(days=7))
    else:
        past = timezone.now() - timedelta(days=1)
        change = {"revoked": {"revoked_at": past}, "expired": {"expires_at": past}, "orphaned": {"made_by": None}}[state]
        APIToken.objects.filter(pk=token.pk).update(**change)
    before = APIToken.objects.count()

    with pytest.raises(Conflict):
        tokens.rotate(token, by=membership.user)

    assert APIToken.objects.count() == before


def test_whoever_rotates_gives_no_role_and_no_scope_beyond_their_own():
    owner = MembershipFactory()
    token, _ = make_token(owner, scopes=["read", "submit", "admin"])
    lesser, _ = make_token(owner, scopes=["read", "admin"])
    caller = Caller(team=owner.team, user=owner.user, role="owner", rights=lesser.rights, token=lesser, address="")
    Membership.objects.filter(pk=owner.pk).update(role=Role.RESEARCHER)

    with pytest.raises(NotPermitted):
        tokens.rotate(token, by=owner.user, caller=caller)
    with pytest.raises(NotPermitted):
        tokens.rotate(token, by=UserFactory())
    successor, _ = tokens.rotate(token, by=owner.user)

    assert successor.role == Role.RESEARCHER


def test_a_token_made_by_another_works_from_nowhere_else():
    owner = MembershipFactory()
    parent, _ = make_token(owner, allowed_addresses=["192.0.2.0/24"])
    caller = Caller(team=owner.team, user=owner.user, role="owner", rights=parent.rights, token=parent, address="192.0.2.1")

    child, _ = make_token(owner, caller=caller)

    assert (child.allowed_addresses, child.origin) == (["192.0.2.0/24"], parent)


# --- Many tokens ------------------------------------------------------------------------------------------


def test_among_a_hundred_thousand_tokens_one_is_found_by_its_unique_key():
    token, plain = make_token()
    fill(token, 100_000)
    with CaptureQueriesContext(connection) as captured:
        found = find(plain)

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE accounts_apitoken")
        cursor.execute("EXPLAIN (FORMAT JSON) " + captured[0]["sql"])
        plan = cursor.fetchone()[0]

    assert (found, len(captured)) == (token, 1)
    assert [
        (node["Node Type"], node["Index Name"].startswith("accounts_apitoken_key_id")) for node in nodes(plan) if reads_tokens(node)
    ] == [("Index Scan", True)]


def nodes(plan):
    """Every node of a query plan."""
    for node in (step.get("Plan", step) for step in plan):
        yield node
        yield from nodes(node.get("Plans", []))


def reads_tokens(node):
    return node.get("Relation Name") == "accounts_apitoken"


def fill(token, count):
    """So many more tokens of the same team."""
    APIToken.objects.bulk_create(
        (
            APIToken(
                team=token.team,
                made_by=token.made_by,
                name="ci",
                key_id=f"{number:08d}",
                secret_hash="0" * 64,
                role=token.role,
                scopes=["read"],
            )
            for number in range(count)
        ),
        batch_size=5_000,
    )
