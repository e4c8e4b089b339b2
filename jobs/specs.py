"""What one layer hands another about a job: what was asked, and what was made of it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from accounts.models import Credential
from billing.estimates import Estimate
from billing.models import PriceLine
from jobs.models import DatasetVersion, Job, Trainer, TrainingConfig
from jobs.models.catalogue import Provider
from jobs.models.job import Link


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What was asked, in the words of SimpleTuner's submit call, nothing looked up yet.

    `config_name` names a stored config, `config` is an inline one with `label` as its name. `dataset` is
    `name` or `name@3`. `max_seconds` is the ceiling that was asked for, `stop_after_seconds` the stop time below it.
    `rerun_of` is the id of the job that is run again, and `link` what the two are to each other then; `is_automatic` where the
    team's rule does it, for whoever submitted the first.
    """

    config_name: str = ""
    config: dict[str, Any] | None = None
    label: str = ""
    dataloader: list[dict[str, Any]] = field(default_factory=list)
    dataset: str = ""
    hardware_profile: str = ""
    destination: str = ""
    hub_model_id: str = ""
    run_name: str = ""
    upload_id: str = ""
    max_seconds: int | None = None
    stop_after_seconds: int | None = None
    provider: str = Provider.REPLICATE
    not_before: datetime | None = None
    snapshot_name: str = ""
    snapshot_message: str = ""
    rerun_of: str = ""
    link: str = Link.RERUN
    is_automatic: bool = False

    @property
    def is_real(self) -> bool:
        """Whether it trains at the provider that is paid, and not on our own sandbox for nothing."""
        return self.provider != Provider.SANDBOX


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a job will be run: everything looked up, checked and priced, nothing written.

    Amounts are micro-dollars, times seconds. `warnings` are sentences for whoever submits.
    """

    config: dict[str, Any]
    named_config: TrainingConfig | None
    config_name: str
    dataloader: list[dict[str, Any]]
    dataset_version: DatasetVersion | None
    packing_path: str
    trainer: Trainer
    version: str
    destination: str
    hub_model_id: str
    credential: Credential
    hub_credential: Credential | None
    s3_credential: Credential | None
    price_line: PriceLine
    estimate: Estimate
    max_train_steps: int
    ceiling_seconds: int
    stop_after_seconds: int
    worst_case: int
    warnings: list[str]
    parent: Job | None = None
