"""The bells. Each loads a row and calls a service; all of them may be lost, repeated or late."""

from collections.abc import Callable
from typing import Any

from celery import shared_task


@shared_task(name="jobs.dispatch")
def dispatch(**_: Any) -> None:
    from jobs.services import dispatch as dispatching

    dispatching.dispatch()


@shared_task(name="jobs.launch")
def launch(*, job_pk: int, **_: Any) -> None:
    from jobs.models import Job
    from jobs.services import launching

    launching.launch(Job.objects.select_related("team", "credential").get(pk=job_pk))


@shared_task(name="jobs.poll")
def poll(**_: Any) -> None:
    from jobs.services import polling

    polling.poll_due()


@shared_task(name="jobs.poll_job")
def poll_job(*, job_pk: int, **_: Any) -> None:
    from jobs.models import Job
    from jobs.services import polling

    polling.poll(Job.objects.select_related("team", "credential").get(pk=job_pk))


@shared_task(name="jobs.reconcile")
def reconcile(*, team_pk: int, credential_pk: int, job_pks: list[int], **_: Any) -> None:
    from accounts.models import Credential, Team
    from jobs.models import Job
    from jobs.services import reconciling

    jobs = Job.objects.select_related("team", "credential", "progress").filter(pk__in=job_pks).order_by("pk")
    reconciling.reconcile(Team.objects.get(pk=team_pk), Credential.objects.get(pk=credential_pk), jobs)


@shared_task(name="jobs.end_stray")
def end_stray(*, stray_pk: int, **_: Any) -> None:
    from jobs.models import StrayRun
    from jobs.services import strays

    strays.end(StrayRun.objects.select_related("job__team", "credential").get(pk=stray_pk))


@shared_task(name="jobs.cancel")
def cancel(*, job_pk: int, **_: Any) -> None:
    from jobs.models import Job
    from jobs.services import cancelling

    cancelling.send(Job.objects.select_related("team", "credential").get(pk=job_pk))


@shared_task(name="jobs.archive")
def archive(*, job_pk: int, **_: Any) -> None:
    from jobs.models import Job
    from jobs.services import results

    results.archive(Job.objects.select_related("team", "credential").get(pk=job_pk))


@shared_task(name="jobs.deliver")
def deliver(*, delivery_pk: int, **_: Any) -> None:
    from jobs.models import ResultDelivery
    from jobs.services import deliveries

    known = ResultDelivery.objects.select_related("job__team", "job__hub_credential", "job__s3_credential")
    deliveries.check(known.get(pk=delivery_pk))


@shared_task(name="jobs.retry_fault")
def retry_fault(*, fault_pk: int, **_: Any) -> None:
    from jobs.models import FaultRetry
    from jobs.services import retrying

    retrying.decide(FaultRetry.objects.get(pk=fault_pk))


@shared_task(name="jobs.sweep")
def sweep(**_: Any) -> None:
    """Keep the stop times, and ring again for the bells that were lost."""
    from django.utils import timezone

    from jobs.services import apart, cancelling, deliveries, launching, rescuing, results, retrying, stopping, strays

    now = timezone.now()
    steps: dict[str, Callable[[], object]] = {
        # Ahead of everything else: a job that runs too long costs money, and what the provider forgets is gone.
        "stop": lambda: stopping.watch(now=now),
        "cancel": cancelling.send_due,
        "archive": lambda: [archive.delay(job_pk=job.pk) for job in results.uncleaned(now=now)],
        "rescue": lambda: rescuing.watch(now=now),
        "launch": lambda: [launch.delay(job_pk=job.pk) for job in launching.stranded(now=now)],
        "end strays": lambda: [end_stray.delay(stray_pk=stray.pk) for stray in strays.due(now=now)],
        "look for strays": lambda: strays.ring_due(now=now),
        "deliver": lambda: [deliver.delay(delivery_pk=delivery.pk) for delivery in deliveries.due(now=now)],
        "retry": lambda: [retry_fault.delay(fault_pk=fault.pk) for fault in retrying.due()],
    }
    apart.each("sweep", steps, lambda step: steps[step]())


@shared_task(name="jobs.find_stuck")
def find_stuck(**_: Any) -> None:
    from django.utils import timezone

    from jobs.services import stuck

    stuck.tell(now=timezone.now())


@shared_task(name="jobs.expire_approvals")
def expire_approvals(**_: Any) -> None:
    from django.utils import timezone

    from jobs.services import approving

    approving.expire(now=timezone.now())


@shared_task(name="jobs.read_status_page")
def read_status_page(**_: Any) -> None:
    from jobs.services import statuspage

    statuspage.refresh()


@shared_task(name="jobs.tidy")
def tidy(**_: Any) -> None:
    from jobs.services import tidying

    tidying.tidy()
