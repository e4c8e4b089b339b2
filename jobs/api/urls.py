"""The API's addresses below /api/: each with and without a trailing slash, and never by redirect."""

from django.urls import URLPattern, re_path
from rest_framework.views import APIView

from jobs.api import configs, consent, datasets, jobs, offers, provider, publishing, submitting

app_name = "jobs_api"

JOB = r"(?P<job_id>[A-Za-z0-9-]{1,64})"
PROVIDER = r"(?P<provider>[a-z_]+)"
DATASET = r"(?P<name>[^/@]+)"
CONFIG = r"(?P<name>[^/]{1,128})"


def both(path: str, view: type[APIView], name: str | None = None) -> URLPattern:
    return re_path(rf"^{path}/?$", view.as_view(), name=name)


urlpatterns = [
    both("cloud/jobs/submit", submitting.SubmitJob, "submit"),
    both("cloud/jobs/sync", jobs.JobSync, "sync"),
    both("cloud/jobs", jobs.JobList, "jobs"),
    both(f"cloud/jobs/{JOB}", jobs.JobDetail, "job"),
    both(f"cloud/jobs/{JOB}/logs", jobs.JobLogs, "logs"),
    both(f"cloud/jobs/{JOB}/logs/stream", jobs.JobLogStream, "log-stream"),
    both(f"cloud/jobs/{JOB}/retry", jobs.JobRetry, "retry"),
    both(f"cloud/jobs/{JOB}/inline-progress", jobs.JobInlineProgress, "inline-progress"),
    both(f"cloud/jobs/{JOB}/cancel", jobs.JobCancel, "cancel"),
    both(f"cloud/jobs/{JOB}/artifacts", jobs.JobArtifacts, "artifacts"),
    both("cloud/datasets", datasets.DatasetList, "datasets"),
    both(f"cloud/datasets/{DATASET}", datasets.DatasetDetail, "dataset"),
    both(f"cloud/datasets/{DATASET}/versions", datasets.DatasetVersions, "dataset-versions"),
    both("cloud/providers", offers.ProviderList, "providers"),
    both(f"cloud/providers/{PROVIDER}", provider.ProviderConfig, "provider"),
    both(f"cloud/providers/{PROVIDER}/config", provider.ProviderConfig),
    both(f"cloud/providers/{PROVIDER}/advanced", provider.ProviderAdvanced, "advanced"),
    both(f"cloud/providers/{PROVIDER}/token", provider.ProviderToken, "token"),
    both(f"cloud/providers/{PROVIDER}/validate", provider.ProviderValidate, "validate"),
    both(f"cloud/providers/{PROVIDER}/versions", provider.ProviderVersions, "versions"),
    both(f"cloud/providers/{PROVIDER}/billing", provider.ProviderBilling, "billing"),
    both("cloud/(?P<provider>replicate)/validate", provider.ProviderValidate),
    both("cloud/(?P<provider>replicate)/submit", submitting.SubmitJob),
    both("cloud/pre-submit-check", submitting.PreSubmitCheck, "pre-submit-check"),
    both("cloud/polling/status", provider.PollingStatus, "polling"),
    both("cloud/publishing/status", publishing.PublishingStatus, "publishing"),
    both("cloud/publishing-status", publishing.PublishingSummary, "publishing-summary"),
    both("cloud/local-upload/config", publishing.LocalUpload, "local-upload"),
    both("cloud/available-configs", configs.AvailableConfigs, "available-configs"),
    both("configs", configs.ConfigList, "configs"),
    both("configs/validate", configs.InlineValidate, "validate-inline"),
    both(f"configs/{CONFIG}", configs.ConfigDetail, "config"),
    both(f"configs/{CONFIG}/validate", configs.ConfigValidate, "validate-config"),
    both("cloud/data-consent/setting", consent.ConsentSetting, "consent"),
    both("cloud/data-consent/preview", consent.ConsentPreview, "consent-preview"),
    both("cloud/hardware-options", offers.HardwareOptions, "hardware-options"),
    both("cloud/cost-estimate", offers.CostEstimate, "cost-estimate"),
    both("cloud/cost-limit/status", offers.CostLimitStatus, "cost-limit"),
    both("cloud/metrics/cost-limit", offers.CostLimitStatus),
    both("cloud/metrics/cost-limit-status", offers.CostLimitStatus),
    both("metrics/cost-limit/status", offers.CostLimitStatus),
    both("cloud/system-status", provider.SystemStatus, "system-status"),
    both("cloud/replicate/status", provider.SystemStatus),
    both("metrics/replicate/status", provider.SystemStatus),
]
