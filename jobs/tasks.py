"""The bells. Each loads a row and calls a service; all of them may be lost, repeated or late."""

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


@shared_task(name="jobs.sweep")
def sweep(**_: Any) -> None:
    """Ring again for the bells that were lost."""
    from django.utils import timezone

    from jobs.services import cancelling, launching, results

    now = timezone.now()
    for job in launching.stranded(now=now):
        launch.delay(job_pk=job.pk)
    for job in results.uncleaned(now=now):
        archive.delay(job_pk=job.pk)
    cancelling.send_due()


@shared_task(name="jobs.tidy")
def tidy(**_: Any) -> None:
    from jobs.services import tidying

    tidying.tidy()
