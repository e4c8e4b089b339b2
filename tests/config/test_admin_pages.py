"""The administration of jobs, money and the inbox: every page opens with data, shows no secret, and asks the same number of questions."""

from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.admin.base import ReadOnlyAdmin
from accounts.models import AuditLine
from billing.models import Invoice, InvoiceLine, SpendAlert, TopUp
from jobs import models as jobs_models
from jobs import tasks
from jobs.models import Job, QueueSettings, StorageKey, Trainer, TrainerVersion
from jobs.models.results import KeyPurpose
from jobs.services import datasets
from jobs.states import State
from jobs.storage import keys
from tests.billing.factories import SpendLimitFactory
from tests.factories import MembershipFactory, UserFactory
from tests.jobs.factories import ArtifactFactory, JobFactory, hold_for
from tests.jobs.ready import caller_of, files
from tests.jobs.sandbox.servers import picture
from webhooks.models import Delivery, OutsideAddress

pytestmark = pytest.mark.django_db

PLANTED = "pLaNtEd0SeCrEt"
# Kept beside rows that have a page, or of no use to anybody by themselves.
WITHOUT_A_PAGE = {
    "jobs.blob", "jobs.datasetfile", "jobs.faultretry", "jobs.jobevent", "jobs.jobprogress", "jobs.logchunk", "jobs.multipartpart",
    "jobs.multipartupload", "jobs.providerevent", "jobs.providerupload", "jobs.seriespoint", "jobs.activeconfig", "jobs.uploadprogress",
    "billing.ledgerhead",
}  # fmt: skip
EDITED = {
    *("jobs.trainer", "jobs.trainerversion", "jobs.queuesettings", "jobs.jobquota", "jobs.approvalrule"),
    *("billing.priceline", "billing.spendlimit", "billing.topup"),
}
REGISTERED = sorted(model._meta.label_lower for model in admin.site._registry if model._meta.app_label in {"jobs", "billing", "webhooks"})


@pytest.fixture
def superuser(client):
    user = UserFactory(is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def fill():
    """A row of everything, with a secret wherever one can be."""
    member = MembershipFactory()
    team, now = member.team, timezone.now()
    version = datasets.create(caller_of(member), name="houses", files=files({"a.jpg": picture(), "a.txt": b"red"}))
    dataloader = [{"id": "x", "type": "aws", "aws_secret_access_key": PLANTED}]
    config = jobs_models.TrainingConfig.objects.create(
        team=team, name="flux", config={"model_family": "flux"}, dataloader=dataloader, dataset=version.dataset, created_by=member.user
    )
    job = JobFactory(
        team=team, submitted_by=member.user, dataset_version=version, dataloader=dataloader, callback_key=PLANTED,
        prediction_id=f"p{Job.objects.count():025d}", created_at_provider=now, config_name=config.name,
    )  # fmt: skip
    SpendLimitFactory(team=team, amount=10_000_000)
    hold_for(job, micros=9_600_000)
    SpendAlert.objects.get_or_create(period=job.hold.periods.get(), threshold_percent=95, defaults={"reached_at": now})
    TopUp.objects.create(period=job.hold.periods.get(), amount=1_000_000, reason="one more")
    invoice = Invoice.objects.create(
        account="acme", name=str(job.pk), sha256=f"{job.pk:064d}", first_on=now, last_on=now, total=1_000_000, imported_by=member.user
    )
    InvoiceLine.objects.create(invoice=invoice, row=2, provider_reference="abc", billed_on=now, amount=1_000_000, digest=invoice.sha256)
    job.credential.secret = f"r8_{PLANTED}"
    job.credential.save()
    job.events.create(state=State.RUNNING, cause="webhook")
    ArtifactFactory(job=job)
    jobs_models.ProviderStatus.objects.create(source=f"https://status.test/{jobs_models.ProviderStatus.objects.count()}", read_at=now)
    jobs_models.Breaker.objects.create(address="https://provider.test", credential=job.credential, last_failure_at=now)
    TrainerVersion.objects.get_or_create(trainer=job.trainer, version="v" * 64)
    pair = keys.issue(job=job, purpose=KeyPurpose.RESULTS, expires_at=now + timedelta(hours=1))
    StorageKey.objects.filter(pk=pair.pk).update(secret=PLANTED)
    jobs_models.LaunchIntent.objects.create(job=job, version="v", first_call_at=now, called_at=now)
    jobs_models.AccountWatch.objects.create(team=team, credential=job.credential, failures=1, error="away", try_after=now)
    jobs_models.StrayRun.objects.create(job=job, credential=job.credential, prediction_id=f"s{job.pk:025d}", settled_at=now, charge=1)
    jobs_models.ProviderUpload.objects.create(job=job, archive_sha256="a" * 64, archive_bytes=1, url=f"https://e.x/{PLANTED}")
    jobs_models.ResultDelivery.objects.create(job=job, destination="local")
    jobs_models.ProviderSettings.objects.create(team=team, proxy_url=f"http://me:{PLANTED}@proxy", preferences={"key": PLANTED})
    jobs_models.IdempotencyKey.objects.create(team=team, key="ci-1", body={"config": PLANTED}, job=job)
    rule = jobs_models.ApprovalRule.objects.create(team=team, name="big", condition="cost_exceeds", threshold="10")
    jobs_models.ApprovalRequest.objects.create(job=job, rule=rule, reason="big", expires_at=now, reviewed_by=member.user)
    jobs_models.JobQuota.objects.create(team=team, scope="person", user=member.user, kind="jobs_per_day", limit_value=3)
    jobs_models.Consent.objects.create(team=team, user=member.user, statement_sha256="a" * 64)
    QueueSettings.objects.create(team=team)
    OutsideAddress.objects.create(team=team, address=f"203.0.113.{job.pk % 250}")
    Delivery.objects.create(webhook_id=f"msg_{job.pk}", job=job, body_sha256="a" * 64, body_bytes=2, content={"id": job.prediction_id})
    return job


@pytest.fixture
def job():
    return fill()


def page(label, name, *args):
    return reverse(f"admin:{label.replace('.', '_')}_{name}", args=args)


def row_of(label):
    return apps.get_model(label)._default_manager.order_by("-pk").first()


def test_every_model_has_a_page_or_a_reason_to_have_none():
    ours = {model._meta.label_lower for app in ("jobs", "billing", "webhooks") for model in apps.get_app_config(app).get_models()}

    assert ours - set(REGISTERED) == WITHOUT_A_PAGE


@pytest.mark.parametrize("label", REGISTERED)
def test_every_page_opens_with_data_and_shows_no_secret(client, superuser, job, label):
    row = row_of(label)
    options = admin.site._registry[type(row)]
    pages = [page(label, "changelist"), page(label, "changelist") + "?q=e", page(label, "change", row.pk), page(label, "history", row.pk)]
    if options.date_hierarchy:
        pages.append(page(label, "changelist") + f"?{options.date_hierarchy}__year=2026")
    for name in options.list_filter:
        pages.append(page(label, "changelist") + (f"?{name[0]}__isempty=1" if isinstance(name, tuple) else f"?{name}__exact=1"))
    if label in EDITED and options.has_add_permission(client.get("/admin/").wsgi_request):
        pages.append(page(label, "add"))

    answers = [client.get(address) for address in pages]

    # A filter's value that does not exist leads to ?e=1, never to an error.
    assert [answer.status_code for answer in answers[:4]] == [200] * 4
    assert {answer.status_code for answer in answers} <= {200, 302}
    assert [answer for answer in answers if PLANTED in answer.content.decode()] == []


def test_the_secrets_were_there_to_be_shown(job):
    pair = StorageKey.objects.get()

    assert PLANTED in f"{job.callback_key}" and PLANTED in job.credential.reveal() and PLANTED in pair.secret  # noqa: PT018
    assert PLANTED in str(job.dataloader) + jobs_models.ProviderSettings.objects.get().proxy_url


@pytest.mark.parametrize("label", sorted(set(REGISTERED) - EDITED))
def test_what_services_write_cannot_be_edited(client, superuser, job, label):
    row = row_of(label)

    statuses = [
        client.get(page(label, "add")).status_code,
        client.post(page(label, "change", row.pk), {}).status_code,
        client.post(page(label, "delete", row.pk), {"post": "yes"}).status_code,
    ]

    assert isinstance(admin.site._registry[type(row)], ReadOnlyAdmin)
    assert statuses == [403, 403, 403]


@pytest.mark.parametrize(
    "label", [label for label in REGISTERED if label not in {"jobs.trainer", "jobs.trainerversion", "billing.priceline"}]
)
def test_a_list_costs_as_many_queries_with_three_rows_as_with_one(client, superuser, django_assert_num_queries, label):
    fill()
    before = row_of(label).__class__.objects.count()
    client.get(page(label, "changelist"))
    with CaptureQueriesContext(connection) as one:
        client.get(page(label, "changelist"))
    fill()
    fill()
    assert row_of(label).__class__.objects.count() >= before + 2

    with django_assert_num_queries(len(one)):
        client.get(page(label, "changelist"))


@pytest.mark.parametrize("how", ["job_id", "prediction_id", "email", "slug"])
def test_support_finds_a_job_by_what_it_is_told(client, superuser, job, how):
    fill()
    told = {"job_id": job.job_id, "prediction_id": job.prediction_id, "email": job.submitted_by.email, "slug": job.team.slug}

    found = client.get(page("jobs.job", "changelist"), {"q": told[how]}).context["cl"].result_list

    assert job in found


def test_a_jobs_page_leads_to_what_others_know_of_it(client, superuser, job):
    shown = client.get(page("jobs.job", "change", job.pk)).content.decode()

    for label in ("webhooks.delivery", "jobs.artifact", "accounts.auditline"):
        assert f"{page(label, 'changelist')}?q={job.job_id}" in shown
        assert client.get(page(label, "changelist"), {"q": job.job_id}).status_code == 200
    lines = client.get(page("billing.ledgerline", "changelist"), {"q": job.reference}).context["cl"].result_list
    assert [line.reference for line in lines] == [job.reference]


# --- Actions ----------------------------------------------------------------------------------------------


def act(client, label, action, *rows):
    return client.post(page(label, "changelist"), {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True)


def test_chosen_jobs_are_cancelled_by_the_same_service(client, superuser, job):
    waiting = JobFactory(state=State.PENDING, started_at=None)
    ended = JobFactory(state=State.COMPLETED, ended_at=timezone.now())

    answer = act(client, "jobs.job", "cancel", job, waiting, ended)

    states = [Job.objects.get(pk=each.pk).state for each in (job, waiting, ended)]
    assert states == ["running", "cancelled", "completed"]
    assert Job.objects.get(pk=job.pk).cancel_requested_by == superuser
    assert [str(message) for message in answer.context["messages"]] == [
        f"Job {ended.job_id} is completed and cannot be cancelled.", "2 jobs are being cancelled.",
    ]  # fmt: skip
    assert AuditLine.objects.filter(event_type="job.cancelled", actor=superuser.username).count() == 2


def test_chosen_jobs_are_asked_about_now(client, superuser, job, monkeypatch, django_capture_on_commit_callbacks):
    rung = []
    monkeypatch.setattr(tasks.poll_job, "delay", lambda *, job_pk: rung.append(job_pk))
    never_sent = JobFactory(state=State.PENDING)

    with django_capture_on_commit_callbacks(execute=True):
        act(client, "jobs.job", "poll_now", job, never_sent)

    line = AuditLine.objects.get(event_type="job.polled")
    assert (rung, line.actor, line.target_id, line.team) == ([job.pk], superuser.username, job.job_id, job.team)


def test_deliveries_are_applied_again_and_those_in_quarantine_are_not(client, superuser, job):
    delivery = Delivery.objects.get()
    Delivery.objects.filter(pk=delivery.pk).update(content={"id": job.prediction_id, "status": "failed"}, state="dead")
    apart = Delivery.objects.create(webhook_id="msg_x", job=job, body_sha256="b" * 64, body_bytes=2, state="quarantined")

    answer = act(client, "webhooks.delivery", "apply_again", delivery, apart)

    assert [str(message) for message in answer.context["messages"]] == ["1 delivery was applied."]
    assert (Job.objects.get(pk=job.pk).state, Delivery.objects.get(pk=apart.pk).state) == ("failed", "quarantined")
    assert AuditLine.objects.get(event_type="webhook.replayed").target_id == job.job_id


def test_staff_without_more_may_look_and_not_act(client, job):
    client.force_login(UserFactory(is_staff=True))

    act(client, "jobs.job", "cancel", job)

    assert client.get(page("jobs.job", "change", job.pk)).status_code == 200
    assert Job.objects.get(pk=job.pk).cancel_requested_at is None


# --- What is edited ---------------------------------------------------------------------------------------


def test_what_a_run_has_shown_of_a_version_is_noted_and_audited(client, superuser, job):
    version = TrainerVersion.objects.get(version="v" * 64)

    answer = client.post(page("jobs.trainerversion", "change", version.pk), {"unpacks_archives": "true", "version": "forged"})

    version.refresh_from_db()
    assert (answer.status_code, version.unpacks_archives, version.version) == (302, True, "v" * 64)
    assert AuditLine.objects.get(event_type="trainer_version.updated").after == {"unpacks_archives": True}


def test_the_queue_is_paused_here_and_audited(client, superuser, job):
    own = QueueSettings.objects.get(team=job.team)

    client.post(page("jobs.queuesettings", "change", own.pk), {"mode": "paused", "max_concurrent": "", "user_max_concurrent": "2"})

    own.refresh_from_db()
    assert (own.mode, own.max_concurrent, own.user_max_concurrent) == ("paused", None, 2)
    assert AuditLine.objects.get(event_type="queue_settings.updated").team == job.team


def test_staff_set_the_platforms_quotas_here_and_take_them_away(client, superuser):
    asked = {"scope": "each", "team": "", "user": "", "role": "", "kind": "concurrent_jobs", "limit_value": "5", "action": "block"}

    wrong = client.post(page("jobs.jobquota", "add"), asked | {"scope": "team"})
    made = client.post(page("jobs.jobquota", "add"), asked)
    row = jobs_models.JobQuota.objects.get()
    client.post(page("jobs.jobquota", "change", row.pk), {"limit_value": "7", "action": "warn"})
    row.refresh_from_db()
    client.post(page("jobs.jobquota", "delete", row.pk), {"post": "yes"})

    assert (wrong.status_code, made.status_code, row.team, row.limit_value, row.action) == (200, 302, None, 7, "warn")
    assert "Name the team, person or role that it applies to" in wrong.content.decode()
    assert not jobs_models.JobQuota.objects.exists()
    events = AuditLine.objects.filter(team=None).order_by("pk").values_list("event_type", flat=True)
    assert [event for event in events if "quota" in event] == ["job_quota.created", "job_quota.updated", "quota.changed"]


def test_a_trainer_is_offered_no_more(client, superuser, job):
    asked = {name: getattr(job.trainer, name) for name in ("profile", "model", "label", "hardware", "hardware_type", "gpu_count")}
    none = {"versions-TOTAL_FORMS": 0, "versions-INITIAL_FORMS": 0}

    answer = client.post(page("jobs.trainer", "change", job.trainer.pk), asked | none)

    assert (answer.status_code, Trainer.objects.get(pk=job.trainer.pk).is_offered) == (302, False)
    assert AuditLine.objects.get(event_type="trainer.updated").before == {"is_offered": True}
