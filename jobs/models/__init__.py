"""The models of jobs, by subject."""

from jobs.models.admission import ApprovalRequest, ApprovalRule, Consent, IdempotencyKey, JobQuota, QueueSettings
from jobs.models.catalogue import ProviderSettings, Trainer, TrainerVersion
from jobs.models.configs import TrainingConfig
from jobs.models.datasets import Blob, Dataset, DatasetFile, DatasetVersion
from jobs.models.job import Job, JobEvent, LaunchIntent, ProviderUpload
from jobs.models.logs import JobProgress, LogChunk, SeriesPoint
from jobs.models.results import Artifact, MultipartPart, MultipartUpload, ResultDelivery, StorageKey

__all__ = [
    "ApprovalRequest",
    "ApprovalRule",
    "Artifact",
    "Blob",
    "Consent",
    "Dataset",
    "DatasetFile",
    "DatasetVersion",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "JobProgress",
    "JobQuota",
    "LaunchIntent",
    "LogChunk",
    "MultipartPart",
    "MultipartUpload",
    "ProviderSettings",
    "ProviderUpload",
    "QueueSettings",
    "ResultDelivery",
    "SeriesPoint",
    "StorageKey",
    "Trainer",
    "TrainerVersion",
    "TrainingConfig",
]
