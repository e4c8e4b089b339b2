"""The API's addresses below /api/cloud/: each with and without a trailing slash, and never by redirect."""

from django.urls import URLPattern, re_path
from rest_framework.views import APIView

from jobs.api import datasets, jobs, provider, submitting

app_name = "jobs_api"

JOB = r"(?P<job_id>[A-Za-z0-9-]{1,64})"
PROVIDER = r"(?P<provider>[a-z_]+)"
DATASET = r"(?P<name>[^/@]+)"


def both(path: str, view: type[APIView], name: str | None = None) -> URLPattern:
    return re_path(rf"^{path}/?$", view.as_view(), name=name)


urlpatterns = [
    both("jobs/submit", submitting.SubmitJob, "submit"),
    both("jobs", jobs.JobList, "jobs"),
    both(f"jobs/{JOB}", jobs.JobDetail, "job"),
    both(f"jobs/{JOB}/logs", jobs.JobLogs, "logs"),
    both(f"jobs/{JOB}/inline-progress", jobs.JobInlineProgress, "inline-progress"),
    both(f"jobs/{JOB}/cancel", jobs.JobCancel, "cancel"),
    both(f"jobs/{JOB}/artifacts", jobs.JobArtifacts, "artifacts"),
    both("datasets", datasets.DatasetList, "datasets"),
    both(f"datasets/{DATASET}", datasets.DatasetDetail, "dataset"),
    both(f"datasets/{DATASET}/versions", datasets.DatasetVersions, "dataset-versions"),
    both(f"providers/{PROVIDER}", provider.ProviderConfig, "provider"),
    both(f"providers/{PROVIDER}/config", provider.ProviderConfig),
    both(f"providers/{PROVIDER}/advanced", provider.ProviderAdvanced, "advanced"),
    both(f"providers/{PROVIDER}/token", provider.ProviderToken, "token"),
    both(f"providers/{PROVIDER}/validate", provider.ProviderValidate, "validate"),
    both("(?P<provider>replicate)/validate", provider.ProviderValidate),
    both("(?P<provider>replicate)/submit", submitting.SubmitJob),
]
