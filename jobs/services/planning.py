"""From what was asked to how it will be run: everything looked up, checked and priced, nothing written."""

import re
from datetime import datetime
from typing import Any

from accounts import credentials
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound, Refusal
from accounts.models import Credential, CredentialKind, Team
from jobs import trainingconfigs
from jobs.models import DatasetVersion, Job, ProviderSettings, Trainer, TrainerVersion, TrainingConfig
from jobs.models.catalogue import DataConsent, Provider
from jobs.models.job import Destination, PackingPath
from jobs.packing import GATE_BYTES
from jobs.services import addresses, pricing, provider, rehearsing
from jobs.specs import JobSpec, Plan


class ConfigNotFound(NotFound):
    code = "config_not_found"


class InvalidConfig(InvalidInput):
    code = "invalid_config"


class NoData(Refusal):
    """The job names no data, or none that can reach the trainer."""

    code = "no_dataset"


class NoDestination(Refusal):
    """The result has nowhere to go: the trainer's container is gone when the run ends."""

    code = "no_destination"


class ConsentDenied(Refusal):
    code = "consent_denied"
    status = 409


def plan(caller: Caller, spec: JobSpec, *, now: datetime) -> Plan:
    """Work out how this job would be run, and refuse what cannot be.

    Raises the refusals of this module, MissingToken, UnknownHardware.
    """
    own = provider.settings_of(caller.team)
    named, config, dataloader, warnings = _config(caller, spec)
    trainer = trainer_for(spec.hardware_profile or own.hardware_profile)
    known = provider.known_version(trainer, provider=spec.provider, pinned=_pinned(own))
    credential = _credential(caller, spec)
    version = _dataset_version(caller, spec, named, dataloader)
    path, doubts = _packing_path(caller, own, version, known) if spec.is_real else (_rehearsed_path(version), [])
    destination, hub, s3 = _destination(caller, spec, own) if spec.is_real else (_rehearsed_destination(caller, spec), None, None)

    steps = trainingconfigs.max_train_steps(config)
    price = pricing.price(
        caller.team,
        own=own,
        trainer=trainer,
        config=config,
        steps=steps,
        max_seconds=spec.max_seconds,
        stop_after_seconds=spec.stop_after_seconds,
        now=now,
    )
    return Plan(
        config=config,
        named_config=named,
        config_name=named.name if named else spec.label,
        dataloader=dataloader,
        dataset_version=version,
        packing_path=path,
        trainer=trainer,
        version=known.version if known else "",
        destination=destination,
        hub_model_id=spec.hub_model_id,
        credential=credential,
        hub_credential=hub,
        s3_credential=s3,
        price_line=price.line,
        estimate=price.estimate,
        max_train_steps=steps,
        ceiling_seconds=price.ceiling_seconds,
        stop_after_seconds=price.stop_after_seconds,
        worst_case=price.worst_case,
        warnings=warnings + doubts + price.warnings,
        parent=_parent(caller, spec),
    )


def _credential(caller: Caller, spec: JobSpec) -> Credential:
    if spec.is_real:
        return provider.credential_for(caller)
    rehearsing.require_offered()
    return rehearsing.credential_for(caller)


def _parent(caller: Caller, spec: JobSpec) -> Job | None:
    if not spec.rerun_of:
        return None
    found = caller.team.jobs.visible().filter(job_id=spec.rerun_of).first()
    if found is None:
        raise NotFound(f"Job not found: {spec.rerun_of}", field="rerun_of")
    return found


def _config(caller: Caller, spec: JobSpec) -> tuple[TrainingConfig | None, dict[str, Any], list[dict[str, Any]], list[str]]:
    """The config as it will be sent, checked; what only makes sense on the submitter's own disk is left out, with a warning."""
    named = None
    if spec.config_name:
        named = caller.team.configs.filter(name=spec.config_name).first()
        if named is None:
            raise ConfigNotFound(
                f"Config not found: {spec.config_name}", field="config_name_to_load", hint="List the team's configs with GET /api/configs."
            )
        given, dataloader = named.config, spec.dataloader or named.dataloader
    elif spec.config is not None:
        given, dataloader = spec.config, spec.dataloader
    else:
        raise InvalidConfig("No configuration provided.", hint="Send config_name_to_load, or config with SimpleTuner's settings.")
    try:
        config, left_out = trainingconfigs.portable(trainingconfigs.normalise(given), goes_to_hub=bool(spec.hub_model_id))
    except trainingconfigs.ConfigProblems as error:
        raise InvalidConfig(str(error), field="config") from None
    problems = trainingconfigs.problems(config)
    if problems:
        listed = [{"field": f"config.{problem.key}", "message": problem.message, "type": problem.kind} for problem in problems]
        raise InvalidConfig(problems[0].message, field=f"config.{problems[0].key}", details={"errors": listed})
    config = trainingconfigs.completed(config)
    if not trainingconfigs.max_train_steps(config):
        raise InvalidConfig(
            "The config says how long to train in epochs only.",
            field="config.max_train_steps",
            hint="Set max_train_steps: the cost is held by it.",
        )
    return named, config, dataloader, [f"'{key}' was left out: it says nothing about a run at the provider." for key in left_out]


def trainer_for(profile: str, *, field: str = "hardware_profile") -> Trainer:
    """The trainer on offer for a profile in any spelling, the catalogue's default for "". Raises InvalidInput, Refusal."""
    offered = Trainer.objects.filter(is_offered=True)
    if not profile:
        found = offered.filter(is_default=True).first()
        if found is None:
            raise Refusal("The catalogue has no default trainer. An administrator must choose one.", field=field)
        return found
    found = offered.filter(profile=normalised_profile(profile)).first()
    if found is None:
        valid = ", ".join(offered.values_list("profile", flat=True))
        raise InvalidInput(f"Unknown hardware profile '{profile}'. Valid ones: {valid}.", field=field)
    return found


def normalised_profile(profile: str) -> str:
    """One spelling for the ways in which SimpleTuner's clients write a profile: `1xH100`, `advanced-trainer-h100`, `h100_x2`."""
    word = profile.strip().lower().replace("_", "-").removeprefix("advanced-trainer-")
    word = re.sub(r"^(\d+)x-?(\w+)$", r"\2-x\1", word)
    return word.removesuffix("-x1")


def _pinned(own: ProviderSettings) -> str:
    return own.version_override.rpartition(":")[2]


def _dataset_version(
    caller: Caller, spec: JobSpec, named: TrainingConfig | None, dataloader: list[dict[str, Any]]
) -> DatasetVersion | None:
    name, _, number = spec.dataset.partition("@")
    if not name and named is not None and named.dataset is not None:
        name = named.dataset.name
    if name and dataloader:
        raise InvalidInput("Give either a dataset or a dataloader, not both.", field="dataset")
    if not name:
        if any(backend.get("type", "local") == "local" for backend in dataloader):
            raise NoData(
                "A dataloader of type 'local' finds no data at the provider.",
                field="dataloader_config",
                hint="Upload the images as a dataset and name it in 'dataset'.",
            )
        if not dataloader:
            raise NoData(
                "The job has no dataset.", field="dataset", hint="Upload one with POST /api/cloud/datasets and name it in 'dataset'."
            )
        return None
    found = version_named(caller.team, f"{name}@{number}" if number else name)
    if not found.image_count:
        raise NoData(f"Dataset {found} holds no images.", field="dataset")
    return found


def version_named(team: Team, reference: str) -> DatasetVersion:
    """The team's dataset version `name@3`, the newest of `name`. Raises NotFound."""
    name, _, number = reference.partition("@")
    versions = DatasetVersion.objects.filter(dataset__team=team, dataset__name=name, dataset__removed_at=None)
    if number:
        versions = versions.filter(number=int(number)) if number.isdecimal() else versions.none()
    found = versions.select_related("dataset").first()
    if found is None:
        raise NotFound(f"Dataset not found: {reference}", field="dataset", hint="List the team's datasets with GET /api/cloud/datasets.")
    return found


def _packing_path(
    caller: Caller, own: ProviderSettings, version: DatasetVersion | None, known: TrainerVersion | None
) -> tuple[str, list[str]]:
    if version is None:
        return PackingPath.HOSTED, []
    if own.data_consent == DataConsent.DENY:
        raise ConsentDenied("The team does not allow its data to be uploaded.", hint="An owner can change this under Settings, Data.")
    unpacks = known.unpacks_archives if known else None
    fits = version.size_bytes <= GATE_BYTES
    has_storage = bool(addresses.storage_endpoint(caller.team))
    if unpacks and fits:
        return PackingPath.ARCHIVE, []
    if has_storage:
        return PackingPath.STORAGE, []
    if not fits:
        size = version.size_bytes / 1024 / 1024
        raise NoData(
            f"The dataset has {size:.1f} MiB, more than Replicate's 100 MiB upload limit, "
            "and this server has no public address to read it from.",
            field="dataset",
            hint="An owner can set the webhook URL under Settings; then the trainer reads the dataset from here.",
        )
    if unpacks is False:
        raise NoData(
            "This version of the trainer cannot unpack an archive, and this server has no public address to read the dataset from.",
            field="dataset",
            hint="An owner can set the webhook URL under Settings; then the trainer reads the dataset from here.",
        )
    return PackingPath.ARCHIVE, [
        "It is not known yet whether this version of the trainer can unpack an archive. The run fails early if it cannot."
    ]


def _destination(caller: Caller, spec: JobSpec, own: ProviderSettings) -> tuple[str, Credential | None, Credential | None]:
    wanted = spec.destination or ("hub" if spec.hub_model_id else "")
    if wanted not in ("", *Destination.values):
        raise InvalidInput(f"Unknown destination '{wanted}'. Valid ones: {', '.join(Destination.values)}.", field="destination")
    hub = credentials.find(team=caller.team, user=caller.user, kind=CredentialKind.HUGGINGFACE)
    s3 = credentials.find(team=caller.team, user=caller.user, kind=CredentialKind.S3)
    can_store_here = bool(addresses.storage_endpoint(caller.team))
    if wanted == Destination.HUB:
        if not spec.hub_model_id:
            raise InvalidInput("The Hub needs the name of a repository.", field="hub_model_id")
        if hub is None:
            raise NoDestination("No Hugging Face token is saved, so nothing can be pushed to the Hub.", field="hub_model_id")
        return Destination.HUB, hub, None
    if wanted == Destination.S3 or (not wanted and not can_store_here and s3 and own.s3_delivery):
        if s3 is None or not own.s3_delivery.get("bucket"):
            raise NoDestination("No S3 bucket with its keys is saved under Settings, Results.", field="destination")
        return Destination.S3, hub, s3
    if can_store_here:
        return Destination.LOCAL, hub, None
    raise NoDestination(
        "The result has no destination, and the trainer's own copy is gone when the run ends.",
        field="destination",
        hint="Set the public address of this server (TUNEHOUSE_PUBLIC_URL, or webhook_url of the provider settings), "
        "save an S3 bucket, or name a Hub repository in 'hub_model_id'.",
    )


def _rehearsed_path(version: DatasetVersion | None) -> str:
    """Nothing leaves this machine, so nobody's consent is needed, and our own trainer does unpack archives."""
    if version is None:
        return PackingPath.HOSTED
    return PackingPath.ARCHIVE if version.size_bytes <= GATE_BYTES else PackingPath.STORAGE


def _rehearsed_destination(caller: Caller, spec: JobSpec) -> str:
    """What a rehearsal leaves stays here. Raises Refusal where somebody wants its make-believe LoRA elsewhere, NoDestination."""
    if spec.destination not in ("", Destination.LOCAL) or spec.hub_model_id:
        raise Refusal(
            "The result of a rehearsal is kept here and goes nowhere else.",
            field="destination",
            hint="Leave both out.",
        )
    if not addresses.storage_endpoint(caller.team, provider=Provider.SANDBOX):
        raise NoDestination(
            "The sandbox does not know where this server is.",
            field="destination",
            hint="An administrator sets SANDBOX_CALLBACK_URL.",
        )
    return Destination.LOCAL


def describe(plan: Plan) -> str:
    """What is trained on what, for holds and audit lines."""
    what = plan.config_name or trainingconfigs.model_family(plan.config)
    return f"Training {what} on {plan.trainer.label}"
