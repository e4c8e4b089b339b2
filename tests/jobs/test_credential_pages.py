"""The page of credentials: saved, checked and removed, and never shown."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditLine, Credential, Team
from accounts.roles import Role
from tests.factories import CredentialFactory, MembershipFactory
from tests.pages import INLINE
from tests.signing_in import sign_in

SECRET = "r8_" + "x" * 37


@pytest.fixture
def owner(client, db):
    owner = MembershipFactory()
    sign_in(client, owner.user)
    return owner


@pytest.fixture
def team(owner):
    return owner.team


def address(name, team, *args):
    return reverse(f"jobs:{name}", args=[team.slug, *args])


def save(client, team, secret, kind="replicate", **options):
    return client.post(address("credential_save", team, kind), {"secret": secret}, **options)


def test_a_good_token_is_saved_checked_and_never_shown(client, team, account, settings):
    settings.REPLICATE_BASE_URL = account.sandbox.url

    page = save(client, team, account.token, follow=True).content.decode()

    saved = Credential.objects.get()
    assert f"Replicate accepts the token. It belongs to {account.name}." in page
    assert (saved.team, saved.user, saved.reveal(), saved.health) == (team, None, account.token, "good")
    assert (f"…{account.token[-4:]}" in page, account.token in page) == (True, False)
    assert AuditLine.objects.filter(team=team, event_type="token.saved").count() == 1
    assert account.token not in str(list(AuditLine.objects.values()))


def test_a_token_that_replicate_refuses_says_so(client, team, account, settings):
    settings.REPLICATE_BASE_URL = account.sandbox.url

    page = save(client, team, SECRET, follow=True).content.decode()

    assert "Replicate does not accept this token." in page
    assert Credential.objects.get().health == "refused"


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("", "This field is required."),
        ("hf_" + "x" * 37, "A Replicate token begins with r8_."),
        (f"{SECRET} ", "has a blank or a line break in it"),
        (f"{SECRET}\n", "has a blank or a line break in it"),
    ],
)
def test_a_token_that_cannot_be_one_is_refused_at_its_field(client, team, no_provider, secret, says):
    response = save(client, team, secret)

    assert says in str(response.context["form"].errors["secret"])
    assert Credential.objects.count() == 0
    assert not secret or secret not in response.content.decode()


def test_validate_says_what_is_wrong_where_replicate_cannot_be_asked(client, team, no_provider):
    without = client.post(address("credential_validate", team), follow=True).content.decode()
    CredentialFactory(team=team)
    unreachable = client.post(address("credential_validate", team), follow=True).content.decode()

    assert "No Replicate token is saved for this team, and the installation shares none." in without
    assert "Replicate could not be asked" in unreachable


def test_the_installations_token_is_shown_as_such_and_cannot_be_removed(client, team, settings):
    settings.REPLICATE_API_TOKEN = SECRET

    page = client.get(address("credentials", team)).content.decode()

    assert ["installation" in page, "…xxxx" in page, "/remove/" in page, SECRET in page] == [True, True, False, False]
    assert client.post(address("credential_remove", team, Credential.objects.get().pk)).status_code == 404


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("", "This field is required."),
        (SECRET, "A Hugging Face token begins with hf_."),
        ("hf_" + "x" * 34 + " ", "has a blank or a line break in it"),
    ],
)
def test_a_hub_token_that_cannot_be_one_is_refused_at_its_field(client, team, secret, says):
    response = save(client, team, secret, kind="huggingface")

    assert says in str(response.context["form"].errors["secret"])
    assert Credential.objects.count() == 0


def test_a_hub_token_is_asked_about_and_one_that_may_only_read_says_so(client, team, hub, provider_process):
    good = save(client, team, hub.token, kind="huggingface", follow=True).content.decode()
    reader = "hf_reader".ljust(37, "0")
    provider_process.control("tokens", token=reader, account=hub.name, role="read")
    weak = save(client, team, reader, kind="huggingface", follow=True).content.decode()
    bad = save(client, team, "hf_" + "x" * 34, kind="huggingface", follow=True).content.decode()

    assert f"The Hub accepts the token. It belongs to {hub.name}." in good
    assert "The token may only read: nothing can be pushed with it." in weak
    assert "The token is not good as it stands: The Hub does not accept this token." in bad
    assert [credential.health for credential in Credential.objects.order_by("pk")] == ["good", "good", "refused"]


def test_a_hub_token_is_saved_and_removed(client, team):
    save(client, team, "hf_" + "y" * 34, kind="huggingface")
    saved = Credential.objects.get()

    asked = client.get(address("credential_remove", team, saved.pk)).content.decode()
    client.post(address("credential_remove", team, saved.pk))

    saved.refresh_from_db()
    assert (saved.kind, saved.team, saved.removed_at is not None) == ("huggingface", team, True)
    assert "Jobs that were admitted with it keep it" in asked
    assert AuditLine.objects.get(event_type="credential.deleted").team == team


def test_an_old_token_is_marked(client, team):
    credential = CredentialFactory(team=team)
    fresh = client.get(address("credentials", team)).content.decode()

    Credential.objects.filter(pk=credential.pk).update(updated_at=timezone.now() - timedelta(days=91))

    assert ["Older than 90 days" in page for page in (fresh, client.get(address("credentials", team)).content.decode())] == [False, True]


def test_a_team_that_wants_a_hint_gets_one_before_a_token_is_old(client, team):
    Team.objects.update(credential_days=10, warns_of_old_credentials=True)
    credential = CredentialFactory(team=team)
    marks = ("Soon too old", "Older than 10 days")

    def shown(days):
        Credential.objects.filter(pk=credential.pk).update(updated_at=timezone.now() - timedelta(days=days))
        page = client.get(address("credentials", team)).content.decode()
        return [mark in page for mark in marks]

    assert [shown(days) for days in (1, 8, 11)] == [[False, False], [True, False], [False, True]]


def test_who_signed_in_long_ago_confirms_first_and_the_secret_is_not_kept_meanwhile(client, team, owner):
    sign_in(client, owner.user, seconds_ago=3600)

    response = save(client, team, SECRET)

    assert response["Location"].startswith(reverse("account_reauthenticate"))
    assert (Credential.objects.count(), SECRET in str(dict(client.session))) == (0, False)


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.RESEARCHER, 403), (Role.LEAD, 403), (Role.OWNER, 200)])
def test_only_owners_see_credentials(client, team, role, status):
    credential = CredentialFactory(team=team)
    sign_in(client, MembershipFactory(team=team, role=role).user)

    pages = [("credentials",), ("credential_save", "replicate"), ("credential_remove", credential.pk)]
    assert [client.get(address(name, team, *args)).status_code for name, *args in pages] == [status] * 3
    assert client.post(address("credential_validate", team)).status_code == (302 if status == 200 else status)


def test_a_strangers_credentials_do_not_exist(client, team):
    theirs, unknown = CredentialFactory(team=team), address("credential_save", team, "ftp")
    assert client.get(unknown).status_code == 404
    stranger = MembershipFactory()
    sign_in(client, stranger.user)

    pages = [("credentials",), ("credential_save", "replicate"), ("credential_remove", theirs.pk)]
    assert [client.get(address(name, team, *args)).status_code for name, *args in pages] == [404] * 3
    assert client.post(address("credential_remove", stranger.team, theirs.pk)).status_code == 404


def test_the_page_carries_no_scripts_or_styles_of_its_own(client, team):
    CredentialFactory(team=team)

    assert INLINE.findall(client.get(address("credentials", team)).content.decode()) == []
