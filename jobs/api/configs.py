"""A team's training configs by API, for reading and checking."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.callers import Caller
from accounts.errors import InvalidInput
from accounts.permissions import needs
from accounts.roles import Right
from jobs.api import rendering
from jobs.models import TrainingConfig
from jobs.services import checking
from jobs.services.planning import ConfigNotFound

KINDS = ("model", "dataloader", "webhook")


class ReadsConfigs(APIView):
    """Everybody in the team sees its configs."""

    permission_classes = [needs(Right.READ, permission="config.view")]


class AvailableConfigs(ReadsConfigs):
    """The names that a submission may load."""

    def get(self, request: Request) -> Response:
        """All of the team. None is active by itself: a submission names its config."""
        names = caller_in(request).team.configs.values_list("name", flat=True)
        return Response({"configs": [{"name": name, "is_active": False} for name in names], "active_config": None})


class ConfigList(ReadsConfigs):
    """The team's configs."""

    def get(self, request: Request) -> Response:
        """`config_type` is model, dataloader or webhook; this server keeps no configs of webhooks."""
        kind = _kind(request)
        rows = [row for row in caller_in(request).team.configs.all() if kind == "model" or (kind == "dataloader" and row.dataloader)]
        return Response({"configs": [_summary(row) for row in rows], "active": None, "count": len(rows), "config_type": kind})


class ConfigDetail(ReadsConfigs):
    """One config."""

    def get(self, request: Request, name: str) -> Response:
        """The settings, with `dataloader_config` among them where the config has a dataloader of its own."""
        kind = _kind(request)
        row = find(caller_in(request), name)
        if kind == "webhook" or (kind == "dataloader" and not row.dataloader):
            raise _not_found(name)
        config = row.dataloader if kind == "dataloader" else _settings(row)
        return Response({"name": row.name, "config": config, "metadata": _metadata(row), "config_type": kind})


class ConfigValidate(ReadsConfigs):
    """What a submission would say of a config."""

    def post(self, request: Request, name: str) -> Response:
        """Check a stored config. The body is empty."""
        row = find(caller_in(request), name)
        return Response({"name": row.name, **_verdict(row.config)})


class InlineValidate(ReadsConfigs):
    """The same of a config that is sent along."""

    def post(self, request: Request) -> Response:
        """Check the `config` of the body."""
        config = fields_of(request).get("config")
        if not isinstance(config, dict):
            raise InvalidInput("config must be an object.", field="config")
        return Response(_verdict(config))


def find(caller: Caller, name: str) -> TrainingConfig:
    """The team's config of this name. Raises ConfigNotFound."""
    found = caller.team.configs.filter(name=name).first()
    if found is None:
        raise _not_found(name)
    return found


def _not_found(name: str) -> ConfigNotFound:
    return ConfigNotFound(f"Config not found: {name}", hint="List the team's configs with GET /api/configs.", details={"name": name})


def _kind(request: Request) -> str:
    kind = request.query_params.get("config_type") or "model"
    if kind not in KINDS:
        raise InvalidInput(f"config_type must be one of: {', '.join(KINDS)}.", field="config_type")
    return kind


def _verdict(config: dict[str, Any]) -> dict[str, Any]:
    found = checking.check(config)
    return {
        "valid": found.is_valid,
        "is_valid": found.is_valid,
        "errors": found.errors,
        "warnings": found.warnings,
        "suggestions": found.suggestions,
    }


def _settings(row: TrainingConfig) -> dict[str, Any]:
    return {**row.config, **({"dataloader_config": row.dataloader} if row.dataloader else {})}


def _metadata(row: TrainingConfig) -> dict[str, Any]:
    return {
        "description": row.description,
        "tags": row.tags,
        "created_at": rendering.stamp(row.created_at),
        "modified_at": rendering.stamp(row.modified_at),
        "dataset": row.dataset.name if row.dataset else None,
        "is_preset": row.is_preset,
    }


def _summary(row: TrainingConfig) -> dict[str, Any]:
    return {
        "name": row.name,
        "description": row.description,
        "model_family": row.value("model_family"),
        "model_type": row.value("model_type"),
        "model_flavour": row.value("model_flavour"),
        "lora_type": row.value("lora_type"),
        "created_at": rendering.stamp(row.created_at),
        "modified_at": rendering.stamp(row.modified_at),
        "tags": row.tags,
        "is_active": False,
    }
