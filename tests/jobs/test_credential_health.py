"""A credential that the provider refuses holds the jobs that would use it, at the first refusal; a good check lets them go."""

import pytest
from django.utils import timezone

from accounts import credentials
from accounts.models import Credential
from jobs import tasks
from jobs.models import Job
from jobs.replicate.gateway import Rejected
from jobs.services import cancelling, launching, polling, provider, results
from jobs.services.dispatch import dispatch
from tests.factories import CredentialFactory, MembershipFactory, TeamFactory
from tests.signing_in import sign_in
from webhooks import external_check

GOOD = "r8_" + "g" * 37


@pytest.fixture
def at_once(monkeypatch):
    """Bells ring at once."""
    monkeypatch.setattr(tasks.dispatch, "delay", lambda: dispatch())
    monkeypatch.setattr(
        tasks.launch, "delay", lambda *, job_pk: launching.launch(Job.objects.select_related("team", "credential").get(pk=job_pk))
    )


@pytest.fixture
def running(at_provider, account, fresh):
    """A job that is at the provider."""
    account.rule(queue_seconds=1_000_000)
    job = at_provider.submit(max_seconds=3600)
    dispatch()
    launching.launch(fresh(job))
    return fresh(job)


@pytest.fixture
def waiting(at_provider, running):
    """Another of the same team, whose turn has not come."""
    return at_provider.submit(max_seconds=3600)


def health(job):
    return Credential.objects.get(pk=job.credential_id).health


def poll(job, ready, fresh):
    polling.poll(fresh(job))


def cancel(job, ready, fresh):
    cancelling.send(fresh(job))


def signing_secret(job, ready, fresh):
    # As if the last time were long ago: at most once a minute it is fetched anew.
    Credential.objects.filter(pk=job.credential_id).update(signing_keys_fetched_at=None)
    provider.signing_keys(team=job.team, credential=job.credential, refetch=True)


def delete_upload(job, ready, fresh):
    results._delete_copy(fresh(job), now=timezone.now())


def validate(job, ready, fresh):
    provider.validate(ready.caller)


def versions(job, ready, fresh):
    with pytest.raises(Rejected):
        provider.versions(ready.caller, "simpletuner/advanced-trainer")


@pytest.mark.parametrize(("status", "said", "reason"), [(401, "refused", "credential"), (402, "no_credit", "no_credit")])
@pytest.mark.parametrize("call", [poll, cancel, signing_secret, delete_upload, validate, versions], ids=lambda call: call.__name__)
def test_any_call_that_is_refused_holds_the_queue_and_says_why(at_provider, account, fresh, running, waiting, call, status, said, reason):
    assert health(waiting) == "unchecked"
    account.rule(account_status=status)

    call(running, at_provider, fresh)

    kept = fresh(waiting)
    assert (health(waiting), kept.state, kept.waiting_reason) == (said, "pending", reason)
    assert dispatch() == []
    row = next(row for row in at_provider.get("/api/cloud/jobs").json()["jobs"] if row["job_id"] == waiting.job_id)
    assert row["waiting_reason"] == reason


@pytest.mark.parametrize(
    ("rule", "said", "reason"),
    [
        ({"account_status": 401}, "refused", "credential"),
        ({"account_status": 402}, "no_credit", "no_credit"),
        ({"create_status": 402}, "no_credit", "no_credit"),
    ],
    ids=["upload_401", "upload_402", "create_402"],
)
def test_a_launch_that_is_refused_holds_the_others(at_provider, account, fresh, running, waiting, rule, said, reason):
    dispatch()
    other = at_provider.submit(max_seconds=3600)
    account.rule(**rule)

    launching.launch(fresh(waiting))

    assert (health(waiting), fresh(waiting).state) == (said, "uploading")
    assert [fresh(job).waiting_reason for job in (waiting, other)] == [reason, reason]
    assert dispatch() == []


def test_a_test_of_the_webhook_that_is_refused_holds_the_queue(at_provider, account, fresh, running, waiting):
    account.rule(account_status=401)

    with provider.gateway(team=waiting.team, credential=waiting.credential) as replicate, pytest.raises(provider.Unauthorized):
        replicate.latest_version(external_check.MODEL)

    assert fresh(waiting).waiting_reason == "credential"


@pytest.mark.parametrize("status", [401, 402])
def test_a_good_check_lets_waiting_jobs_go_with_one_dispatch(
    at_provider, account, fresh, running, waiting, status, at_once, django_capture_on_commit_callbacks
):
    begun = waiting
    dispatch()
    account.rule(account_status=status)
    launching.launch(fresh(begun))
    late = at_provider.submit(max_seconds=3600)
    dispatch()
    assert [(job.state, job.prediction_id) for job in (fresh(begun), fresh(late))] == [("uploading", None), ("pending", None)]
    account.rule(account_status=None)

    with django_capture_on_commit_callbacks(execute=True):
        assert provider.validate(at_provider.caller).valid

    assert health(begun) == "good"
    assert [(fresh(job).state, fresh(job).waiting_reason) for job in (begun, late)] == [("queued", ""), ("queued", "")]


def test_a_token_that_is_saved_in_a_refused_ones_place_takes_the_waiting_jobs(
    at_provider, account, fresh, running, waiting, at_once, django_capture_on_commit_callbacks
):
    former = running.credential
    account.rule(account_status=401)
    polling.poll(fresh(running))
    account.rule(account_status=None)
    second = f"r8_{account.name}second".ljust(40, "0")
    account.sandbox.control("tokens", token=second, account=account.name)

    with django_capture_on_commit_callbacks(execute=True):
        assert provider.save_token(at_provider.caller, second).valid

    assert fresh(waiting).state == "queued"
    assert (fresh(waiting).credential != former, fresh(running).credential) == (True, former)


def test_a_job_keeps_the_credential_that_it_was_admitted_with(at_provider, account, fresh, running, waiting, settings):
    """Created, polled, cancelled and verified with the first token, though the team has another by now, and the installation one, too."""
    first = running.credential
    settings.REPLICATE_API_TOKEN = GOOD
    credentials.save(team=running.team, kind="replicate", secret=GOOD, by=at_provider.member.user)

    dispatch()
    launching.launch(fresh(waiting))
    polling.poll(fresh(waiting))
    keys = provider.signing_keys(team=waiting.team, credential=fresh(waiting).credential)
    cancelling.send(fresh(waiting))

    ours = fresh(waiting)
    assert (ours.credential, ours.state) == (first, "cancelled")
    assert keys == [account.http.get("/v1/webhooks/default/secret").json()["key"]]
    assert credentials.find(team=ours.team, user=None, kind="replicate").reveal() == GOOD


def test_a_refused_job_never_goes_over_to_anothers_token(at_provider, account, fresh, running, waiting, settings):
    """Not to the installation's where the team's was removed, nor to the team's where a person's was."""
    elsewhere = CredentialFactory(team=TeamFactory(), secret=GOOD)
    settings.REPLICATE_API_TOKEN = account.token
    own = credentials.save(
        team=running.team, kind="replicate", secret=f"r8_{'o' * 37}", by=at_provider.member.user, user=at_provider.member.user
    )
    persons = at_provider.submit(max_seconds=3600)
    for credential in (waiting.credential, own):
        credentials.mark(credential, health="refused", now=timezone.now())
        credentials.remove(credential, by=at_provider.member.user)
    assert credentials.find(team=running.team, user=None, kind="replicate").is_from_environment

    gone = dispatch()

    assert gone == []
    assert [fresh(job).credential for job in (waiting, persons)] == [waiting.credential, own]
    assert elsewhere.health == "unchecked"


def test_who_left_the_team_pays_for_nothing_any_more(at_provider):
    own = credentials.save(team=at_provider.team, kind="replicate", secret=GOOD, by=at_provider.member.user, user=at_provider.member.user)
    assert provider.credential_for(at_provider.caller) == own

    caller = at_provider.caller
    at_provider.member.delete()

    assert provider.credential_for(caller) == at_provider.credential


def test_pages_say_that_the_queue_is_held(at_provider, account, fresh, running, waiting, client):
    sign_in(client, at_provider.member.user)
    owner = MembershipFactory(team=at_provider.team)
    account.rule(account_status=401)

    polling.poll(fresh(running))

    page = client.get(f"/t/{waiting.team.slug}/jobs/{waiting.job_id}/").content.decode()
    assert "Replicate refuses the token" in page
    sign_in(client, owner.user)
    assert "refused by the provider" in client.get(f"/t/{waiting.team.slug}/settings/credentials/").content.decode()


def test_a_person_saves_checks_and_removes_a_token_of_their_own(at_provider, account, client):
    member, url = at_provider.member, f"/t/{at_provider.team.slug}/settings/my-credentials/"
    sign_in(client, member.user)
    before = client.get(url).content.decode()

    saved = client.post(f"{url}replicate/save/", {"secret": account.token}, follow=True).content.decode()

    own = Credential.objects.in_use().get(user=member.user)
    assert "Your jobs use the team" in before
    assert f"It belongs to {account.name}." in saved
    assert (own.team, own.health, account.token in saved) == (at_provider.team, "good", False)
    assert at_provider.submit().credential == own
    assert "It belongs to" in client.post(f"{url}validate/", follow=True).content.decode()
    client.post(f"{url}{own.pk}/remove/")
    assert at_provider.submit().credential == at_provider.credential


def test_a_persons_page_shows_and_removes_nobody_elses(at_provider, client):
    colleague = MembershipFactory(team=at_provider.team)
    theirs = credentials.save(team=at_provider.team, kind="replicate", secret=GOOD, by=colleague.user, user=colleague.user)
    sign_in(client, at_provider.member.user)
    url = f"/t/{at_provider.team.slug}/settings/my-credentials/"

    answers = [client.post(f"{url}{credential.pk}/remove/").status_code for credential in (theirs, at_provider.credential)]

    assert answers == [404, 404]
    assert GOOD[-4:] not in client.get(url).content.decode()
    assert Credential.objects.in_use().count() == 2
    assert client.get(f"{url}ftp/save/").status_code == 404


def test_a_token_that_cannot_be_one_is_refused_at_its_field(ready, client):
    sign_in(client, ready.member.user)

    response = client.post(f"/t/{ready.team.slug}/settings/my-credentials/replicate/save/", {"secret": f" {GOOD}"})

    assert "has a blank or a line break in it" in str(response.context["form"].errors["secret"])
    assert GOOD not in response.content.decode()


@pytest.mark.parametrize("path", ["replicate/save/", "{}/remove/"])
def test_who_signed_in_long_ago_confirms_first(ready, client, path):
    own = credentials.save(team=ready.team, kind="replicate", secret=GOOD, by=ready.member.user, user=ready.member.user)
    sign_in(client, ready.member.user, seconds_ago=3600)
    url = f"/t/{ready.team.slug}/settings/my-credentials/{path.format(own.pk)}"

    answers = [client.get(url), client.post(url, {"secret": GOOD + "x"})]

    assert [answer["Location"].startswith("/accounts/reauthenticate/") for answer in answers] == [True, True]
    assert Credential.objects.in_use().filter(user=ready.member.user).get() == own


def test_a_cookie_that_is_old_saves_no_token_by_the_api(ready, client):
    owner = MembershipFactory(team=ready.team)
    answers = []
    for seconds in (3600, 0):
        sign_in(client, owner.user, seconds_ago=seconds)
        answers.append(client.put("/api/cloud/providers/replicate/token", {"api_token": GOOD}, content_type="application/json"))

    assert [answer.status_code for answer in answers] == [403, 200]
    assert answers[0].json()["code"] == "confirmation_required"
