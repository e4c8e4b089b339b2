"""The models of jobs, by subject."""

from jobs.models.admission import ApprovalRequest, ApprovalRule, Consent, IdempotencyKey, QueueSettings
from jobs.models.breakers import Breaker
from jobs.models.catalogue import ProviderSettings, Trainer, TrainerVersion
from jobs.models.configs import ActiveConfig, TrainingConfig
from jobs.models.datasets import Blob, Dataset, DatasetFile, DatasetVersion
from jobs.models.job import FaultRetry, Job, JobEvent, LaunchIntent, ProviderEvent, ProviderUpload, UploadProgress
from jobs.models.logs import JobProgress, LogChunk, SeriesPoint
from jobs.models.quotas import JobQuota
from jobs.models.reconciling import AccountWatch, StrayRun
from jobs.models.results import Artifact, MultipartPart, MultipartUpload, ResultDelivery, StorageKey
from jobs.models.status import ProviderStatus

__all__ = [
    "AccountWatch",
    "ActiveConfig",
    "ApprovalRequest",
    "ApprovalRule",
    "Artifact",
    "Blob",
    "Breaker",
    "Consent",
    "Dataset",
    "DatasetFile",
    "DatasetVersion",
    "FaultRetry",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "JobProgress",
    "JobQuota",
    "LaunchIntent",
    "LogChunk",
    "MultipartPart",
    "MultipartUpload",
    "ProviderEvent",
    "ProviderSettings",
    "ProviderStatus",
    "ProviderUpload",
    "QueueSettings",
    "ResultDelivery",
    "SeriesPoint",
    "StorageKey",
    "StrayRun",
    "Trainer",
    "TrainerVersion",
    "TrainingConfig",
    "UploadProgress",
]
