"""A team that can submit: people, a token, a credential, a config, a dataset, and a catalogue that knows the sandbox's trainer."""

import io
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.test import Client

from accounts.callers import Caller
from accounts.models import Credential, Membership, Team
from accounts.roles import Role
from billing.models import PriceLine
from jobs.demo.seeding import know_the_sandbox
from jobs.models import DatasetVersion, Job, Trainer, TrainingConfig
from jobs.services import datasets, submission
from jobs.specs import JobSpec
from tests.billing.factories import PriceLineFactory
from tests.factories import CredentialFactory, MembershipFactory, make_token
from tests.jobs.sandbox.servers import picture

SUBMIT = "/api/cloud/jobs/submit"
CONFIG = {
    "model_family": "flux",
    "model_type": "lora",
    "lora_rank": 16,
    "learning_rate": 1e-4,
    "train_batch_size": 1,
    "max_train_steps": 20,
    "num_train_epochs": 0,
    "resolution": 512,
    "resolution_type": "pixel",
    "optimizer": "adamw_bf16",
}
NAMED = "flux-lora"
DATASET = "houses"


@dataclass
class Ready:
    """`member` submits as a researcher, `key` is their token with every scope."""

    team: Team
    member: Membership
    key: str
    credential: Credential
    version: DatasetVersion
    config: TrainingConfig

    @property
    def caller(self) -> Caller:
        return caller_of(self.member)

    def post(self, body: Any = None, *, path: str = SUBMIT, key: str | None = None, **headers: str) -> Any:
        """POST as a client does; text and bytes go as they are."""
        return post(path, body, key=self.key if key is None else key, **headers)

    def get(self, path: str, *, key: str | None = None, **query: Any) -> Any:
        return Client().get(path, query, headers={"Authorization": f"Bearer {key or self.key}"})

    def submit(self, **asked: Any) -> Job:
        """Submit through the service, without HTTP: the shortest way to a job as admission leaves it."""
        return submission.submit(self.caller, JobSpec(**{"config_name": NAMED, **asked})).job


def caller_of(member: Membership) -> Caller:
    return Caller(team=member.team, user=member.user, role=member.role, rights=member.rights, token=None, address="127.0.0.1")


def post(path: str, body: Any = None, *, key: str = "", **headers: str) -> Any:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        more["Authorization"] = f"Bearer {key}"
    return Client().post(path, body, content_type="application/json", headers=more)


def catalogue() -> None:
    """The shipped trainers and prices that these tests use, also where an emptied database has lost them."""
    default = {"model": "simpletuner/advanced-trainer", "label": "1x L40S", "hardware": "gpu-l40s", "hardware_type": "L40S (48GB)"}
    Trainer.objects.get_or_create(profile="advanced-trainer", defaults=default | {"is_default": True})
    h100 = {"model": "simpletuner/advanced-trainer-h100", "label": "1x H100", "hardware": "gpu-h100", "hardware_type": "H100 (80GB)"}
    Trainer.objects.get_or_create(profile="h100", defaults=h100)
    for hardware, rate in (("gpu-l40s", "0.000975"), ("gpu-h100", "0.001525")):
        if not PriceLine.objects.filter(hardware=hardware).exists():
            PriceLineFactory(hardware=hardware, usd_per_second=Decimal(rate))
    know_the_sandbox()


def make_ready(*, token: str | None = None, role: str = Role.RESEARCHER) -> Ready:
    """A team with everything that a submission needs; `token` is the credential that it has at the provider."""
    catalogue()
    member = MembershipFactory(role=role)
    _, key = make_token(member)
    credential = CredentialFactory(team=member.team, **({"secret": token} if token else {}))
    version = datasets.create(caller_of(member), name=DATASET, files=files({"a.jpg": picture(), "a.txt": b"a red square"}))
    config = TrainingConfig.objects.create(team=member.team, name=NAMED, config=CONFIG, dataset=version.dataset)
    return Ready(team=member.team, member=member, key=key, credential=credential, version=version, config=config)


def files(contents: dict[str, bytes]) -> list[datasets.Incoming]:
    return [datasets.Incoming(name=name, open=lambda content=content: io.BytesIO(content)) for name, content in contents.items()]
