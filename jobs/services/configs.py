"""A team's named configs: made, changed, copied, removed, and chosen as the one that a person begins with.

Who makes a config may change it; leads and owners change everybody's. Jobs keep a snapshot of theirs, so that nothing
here changes a job.
"""

import re
from collections.abc import Mapping
from typing import Any

import structlog
from django.db import IntegrityError, transaction

from accounts import audit
from accounts.callers import Caller
from accounts.errors import Conflict, InvalidInput, NotPermitted
from accounts.roles import Right
from jobs import trainingconfigs
from jobs.models import ActiveConfig, Dataset, TrainingConfig
from jobs.services import checking
from jobs.services.planning import ConfigNotFound, InvalidConfig
from jobs.trainingkeys import NOT_ALLOWED

log = structlog.get_logger(__name__)

# What every system's files may be called, and a URL's last part.
NAME = re.compile(r"[^\W_](?:[\w .+()@-]{0,126}[\w+()@-])?")
# Words of the API's own addresses, below which a config of that name could not be reached.
TAKEN = frozenset({"active", "examples", "from-template", "import", "templates", "validate"})
DESCRIPTION_CHARACTERS = 500
MOST_TAGS = 20
TAG_CHARACTERS = 50
# What SimpleTuner recommends for results that go to the Hub.
PUBLISHING = {"push_to_hub": True, "push_checkpoints_to_hub": True, "push_to_hub_background": True}
DATALOADER = "dataloader_config"


class DuplicateConfig(Conflict):
    code = "duplicate"


class NoActiveConfig(Conflict):
    code = "no_active_config"


def find(caller: Caller, name: str) -> TrainingConfig:
    """The team's config of this name. Raises ConfigNotFound."""
    found = caller.team.configs.select_related("dataset", "created_by").filter(name=name).first()
    if found is None:
        raise ConfigNotFound(f"Config not found: {name}", hint="List the team's configs with GET /api/configs.", details={"name": name})
    return found


def active(caller: Caller) -> TrainingConfig | None:
    """The config that the caller's forms begin with in this team, if they chose one."""
    chosen = ActiveConfig.objects.select_related("config__dataset", "config__created_by").filter(team=caller.team, user=caller.user).first()
    return chosen.config if chosen else None


def may_change(caller: Caller, row: TrainingConfig) -> bool:
    """Whether the caller may change and delete a config: their own, or any with the right to all."""
    return caller.may(Right.CONFIGS_ALL) or (caller.may(Right.DATASETS) and row.created_by_id == caller.user.pk)


def create(
    caller: Caller,
    *,
    name: str,
    config: dict[str, Any],
    description: str = "",
    tags: list[str] | None = None,
    dataset: Dataset | None = None,
    verb: str = "Made",
) -> TrainingConfig:
    """Keep a config under a name. `dataloader_config` among its keys becomes its dataloader.

    Raises InvalidConfig for what a submission would refuse, InvalidInput, and DuplicateConfig for a name that is there.
    """
    caller.require(Right.DATASETS, permission="config.create")
    settings, dataloader = _checked(config)
    row = TrainingConfig(
        team=caller.team,
        name=_checked_name(name),
        description=_checked_description(description),
        config=settings,
        dataloader=dataloader,
        tags=_checked_tags(tags or []),
        dataset=None if dataloader else dataset,
        created_by=caller.user,
    )
    with transaction.atomic():
        _save_under_its_name(row)
        _record(caller, row, "config.created", verb, after=_described(row))
    log.info("config.created", team=caller.team.slug, user=caller.user.username)
    return row


def change(
    caller: Caller,
    row: TrainingConfig,
    *,
    config: dict[str, Any] | None = None,
    description: str | None = None,
    tags: list[str] | None = None,
) -> TrainingConfig:
    """Replace what is given, and leave the rest. Raises NotPermitted for another's, and what `create` raises."""
    _require_hand_on(caller, row, "config.edit.all")
    with transaction.atomic():
        kept = _locked(row)
        before = _described(kept)
        if config is not None:
            kept.config, kept.dataloader = _checked(config)
            kept.dataset = None if kept.dataloader else kept.dataset
        kept.description = kept.description if description is None else _checked_description(description)
        kept.tags = kept.tags if tags is None else _checked_tags(tags)
        after = _described(kept)
        if after != before:
            kept.save()
            _record(caller, kept, "config.changed", "Changed", **_differing(before, after))
    return kept


def save(
    caller: Caller, row: TrainingConfig, *, name: str, config: dict[str, Any], description: str, tags: list[str], dataset: Dataset | None
) -> TrainingConfig:
    """All of a config at once, its name and dataset too: the whole of it is kept, or nothing. Raises what `change` and `rename` raise."""
    with transaction.atomic():
        kept = change(caller, row, config=config, description=description, tags=tags)
        if kept.dataset != dataset and not kept.dataloader:
            before, kept.dataset = _described(kept), dataset
            kept.save(update_fields=["dataset", "modified_at"])
            _record(caller, kept, "config.changed", "Changed", **_differing(before, _described(kept)))
        return rename(caller, kept, name)


def rename(caller: Caller, row: TrainingConfig, new_name: str) -> TrainingConfig:
    """Give a config another name. Raises NotPermitted, InvalidInput, DuplicateConfig."""
    _require_hand_on(caller, row, "config.edit.all")
    with transaction.atomic():
        kept = _locked(row)
        before, kept.name = kept.name, _checked_name(new_name)
        if kept.name != before:
            _save_under_its_name(kept)
            _record(caller, kept, "config.changed", f"Renamed {before} to", before={"name": before}, after={"name": kept.name})
    return kept


def copy(caller: Caller, row: TrainingConfig, name: str) -> TrainingConfig:
    """The same config under another name, as the caller's own. Raises what `create` raises."""
    return create(
        caller, name=name, config=whole(row), description=row.description, tags=row.tags, dataset=row.dataset, verb=f"Copied {row.name} to"
    )


def keep(
    caller: Caller, *, name: str, config: dict[str, Any], description: str = "", tags: list[str] | None = None, overwrite: bool = False
) -> TrainingConfig:
    """Take a config in from outside: a new one, or with `overwrite` in place of the one that has its name."""
    existing = caller.team.configs.filter(name=name).first() if overwrite else None
    if existing is not None:
        return change(caller, existing, config=config, description=description, tags=tags or [])
    return create(caller, name=name, config=config, description=description, tags=tags, verb="Imported")


def remove(caller: Caller, row: TrainingConfig) -> None:
    """Delete a config. Jobs that wait or run have their snapshot and go on. Raises NotPermitted for another's."""
    _require_hand_on(caller, row, "config.delete.all")
    with transaction.atomic():
        kept = _locked(row)
        before = _described(kept)
        _record(caller, kept, "config.deleted", "Deleted", before=before)
        kept.delete()
    log.info("config.deleted", team=caller.team.slug, user=caller.user.username)


def activate(caller: Caller, row: TrainingConfig) -> None:
    """Let the caller's forms begin with this config in this team."""
    with transaction.atomic():
        ActiveConfig.objects.update_or_create(team=caller.team, user=caller.user, defaults={"config": row})
        _record(caller, row, "config.activated", "Chose to begin with")


def publish_as_recommended(caller: Caller) -> TrainingConfig:
    """Let the caller's active config push its result and checkpoints to the Hub. Raises NoActiveConfig, NotPermitted."""
    caller.require(Right.DATASETS, permission="config.edit.own")
    row = active(caller)
    if row is None:
        raise NoActiveConfig("No config is active.", hint="Choose one with POST /api/configs/{name}/activate.")
    return change(caller, row, config={**whole(row), **PUBLISHING})


def whole(row: TrainingConfig) -> dict[str, Any]:
    """The settings, with the dataloader among them where the config has one of its own."""
    return {**row.config, **({DATALOADER: row.dataloader} if row.dataloader else {})}


def _require_hand_on(caller: Caller, row: TrainingConfig, permission: str) -> None:
    caller.require(Right.DATASETS, permission=permission.replace(".all", ".own"))
    if not may_change(caller, row):
        raise NotPermitted("You may change and delete your own configs only.", details={"required_permission": permission})


def _locked(row: TrainingConfig) -> TrainingConfig:
    """The config as it is now. Raises ConfigNotFound if somebody deleted it meanwhile."""
    found = TrainingConfig.objects.select_for_update(of=("self",), no_key=True).select_related("dataset", "created_by").filter(pk=row.pk)
    kept = found.first()
    if kept is None:
        raise ConfigNotFound(f"Config not found: {row.name}", details={"name": row.name})
    return kept


def _save_under_its_name(row: TrainingConfig) -> None:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise DuplicateConfig(
            f"The team has a config named '{row.name}' already.", field="name", hint="Choose another name, or change that config."
        ) from None


def _checked(config: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings in one spelling, and the dataloader. Raises InvalidConfig with everything that is wrong, each at its key."""
    settings = {key: value for key, value in config.items() if key.lstrip("-") != DATALOADER}
    dataloader = next((value for key, value in config.items() if key.lstrip("-") == DATALOADER), None) or []
    if not isinstance(dataloader, list) or not all(isinstance(backend, dict) for backend in dataloader):
        raise InvalidConfig("dataloader_config must be a list of objects.", field=f"config.{DATALOADER}")
    if not trainingconfigs.is_storable(dataloader):
        raise InvalidConfig("The dataloader holds a character or a number that cannot be stored.", field=f"config.{DATALOADER}")
    if trainingconfigs.holds_secret(dataloader):
        raise InvalidConfig(
            "A dataloader must not hold keys or tokens: everybody who may see the config, and the job at the provider, can read them.",
            field=f"config.{DATALOADER}",
            hint="Upload the images as a dataset, or name a place that needs no key.",
        )
    if problems := checking.check(settings).problems:
        listed = [{"field": f"config.{problem.key}", "message": problem.message, "type": problem.kind} for problem in problems]
        raise InvalidConfig(problems[0].message, field=f"config.{problems[0].key}", details={"errors": listed})
    normal = trainingconfigs.normalise(settings)
    # What a job leaves out, such as a file's place, was not looked at yet, and is kept.
    unseen = {key: value for key, value in normal.items() if key in NOT_ALLOWED}
    for key in unseen.keys() - trainingconfigs.without_secrets(unseen).keys():
        raise InvalidConfig(f"'{key}' holds a secret, or a character that cannot be stored. Leave it out.", field=f"config.{key}")
    return normal, dataloader


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise InvalidInput(
            "A config's name has 1 to 128 letters, digits, blanks and . _ - + ( ) @; it begins with a letter or digit.", field="name"
        )
    if name.lower() in TAKEN:
        raise InvalidInput(f"'{name}' is a word of the API's own addresses. Choose another name.", field="name")
    return name


def _checked_description(text: str) -> str:
    if len(text) > DESCRIPTION_CHARACTERS:
        raise InvalidInput(f"A description has at most {DESCRIPTION_CHARACTERS} characters.", field="description")
    return text.strip()


def _checked_tags(tags: list[str]) -> list[str]:
    if len(tags) > MOST_TAGS or any(not tag.strip() or len(tag) > TAG_CHARACTERS for tag in tags):
        raise InvalidInput(f"tags are at most {MOST_TAGS} words of up to {TAG_CHARACTERS} characters.", field="tags")
    return list(dict.fromkeys(tag.strip() for tag in tags))


def _described(row: TrainingConfig) -> dict[str, Any]:
    return {
        "name": row.name,
        "description": row.description,
        "tags": row.tags,
        "config": row.config,
        "dataloader": row.dataloader,
        "dataset": row.dataset.name if row.dataset else None,
    }


def _differing(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The two sides of what changed; of the settings only the keys that did."""
    told = {name: after[name] for name in after if name != "config" and after[name] != before[name]}
    keys = [key for key in {**before["config"], **after["config"]} if before["config"].get(key) != after["config"].get(key)]
    sides = []
    for side in (before, after):
        part = {name: side[name] for name in told}
        sides.append({**part, "config": {key: side["config"].get(key) for key in keys}} if keys else part)
    return {"before": sides[0], "after": sides[1]}


def _record(
    caller: Caller,
    row: TrainingConfig,
    event_type: str,
    verb: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    audit.record(
        team=caller.team, caller=caller, event_type=event_type, action=f"{verb} the config {row.name}",
        target_type="config", target_id=str(row.pk), before=before, after=after,
    )  # fmt: skip
