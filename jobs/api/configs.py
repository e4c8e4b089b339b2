"""A team's training configs by API: reading and checking them. They are changed in `config_changes`."""

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
from jobs.services import checking, configs
from jobs.services.planning import ConfigNotFound
from jobs.trainingexamples import EXAMPLES, Example

KINDS = ("model", "dataloader", "webhook")


class ReadsConfigs(APIView):
    """Everybody in the team sees its configs."""

    permission_classes = [needs(Right.READ, permission="config.view")]


class AvailableConfigs(ReadsConfigs):
    """The names that a submission may load."""

    def get(self, request: Request) -> Response:
        """All of the team. The active one is where the caller's forms begin; a submission names its config itself."""
        caller = caller_in(request)
        names, active = caller.team.configs.values_list("name", flat=True), _active_name(caller)
        return Response({"configs": [{"name": name, "is_active": name == active} for name in names], "active_config": active})


class ConfigList(ReadsConfigs):
    """The team's configs."""

    def get(self, request: Request) -> Response:
        """`config_type` is model, dataloader or webhook; this server keeps no configs of webhooks."""
        kind, caller = _kind(request), caller_in(request)
        active = _active_name(caller)
        rows = [row for row in caller.team.configs.all() if kind == "model" or (kind == "dataloader" and row.dataloader)]
        listed = [_summary(row, is_active=row.name == active) for row in rows]
        return Response({"configs": listed, "active": active, "count": len(rows), "config_type": kind})


class ConfigDetail(ReadsConfigs):
    """One config."""

    def get(self, request: Request, name: str) -> Response:
        """The settings, with `dataloader_config` among them where the config has a dataloader of its own."""
        kind = _kind(request)
        row = configs.find(caller_in(request), name)
        if kind == "webhook" or (kind == "dataloader" and not row.dataloader):
            raise ConfigNotFound(f"Config not found: {name}", details={"name": name})
        return Response({**shown(row), "config": row.dataloader, "config_type": kind} if kind == "dataloader" else shown(row))


class ActiveConfig(ReadsConfigs):
    """The config that the caller's forms begin with."""

    def get(self, request: Request) -> Response:
        """The one that they chose last in this team; 404 where they never did."""
        row = configs.active(caller_in(request))
        if row is None:
            raise ConfigNotFound("No config is active.", hint="Choose one with POST /api/configs/{name}/activate.")
        return Response({"name": row.name, "config": configs.whole(row), "metadata": metadata(row)})


class Templates(ReadsConfigs):
    """The configs that ship with this server, to begin with."""

    def get(self, request: Request) -> Response:
        """Each is one that a submission takes as it stands."""
        listed = [_template(example) for example in EXAMPLES]
        return Response({"templates": listed, "count": len(listed)})


class ConfigExport(ReadsConfigs):
    """A config to take along."""

    def get(self, request: Request, name: str) -> Response:
        """What the import takes. `include_metadata=false` leaves description, tags and times out."""
        row = configs.find(caller_in(request), name)
        with_metadata = request.query_params.get("include_metadata", "true").lower() not in ("false", "0", "no")
        return Response({"name": row.name, "config": configs.whole(row), "metadata": metadata(row) if with_metadata else {}})


class ConfigValidate(ReadsConfigs):
    """What a submission would say of a config."""

    def post(self, request: Request, name: str) -> Response:
        """Check a stored config. The body is empty."""
        row = configs.find(caller_in(request), name)
        return Response({"name": row.name, **_verdict(row.config)})


class InlineValidate(ReadsConfigs):
    """The same of a config that is sent along."""

    def post(self, request: Request) -> Response:
        """Check the `config` of the body."""
        config = fields_of(request).get("config")
        if not isinstance(config, dict):
            raise InvalidInput("config must be an object.", field="config")
        return Response(_verdict(config))


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


def shown(row: TrainingConfig) -> dict[str, Any]:
    """A config as every call answers it that reads, makes or changes one."""
    return {"name": row.name, "config": configs.whole(row), "metadata": metadata(row), "config_type": "model"}


def metadata(row: TrainingConfig) -> dict[str, Any]:
    return {
        "description": row.description,
        "tags": row.tags,
        "created_at": rendering.stamp(row.created_at),
        "modified_at": rendering.stamp(row.modified_at),
        "created_by": row.created_by.username if row.created_by else None,
        "dataset": row.dataset.name if row.dataset else None,
        "is_preset": row.is_preset,
    }


def _active_name(caller: Caller) -> str | None:
    row = configs.active(caller)
    return row.name if row else None


def _summary(row: TrainingConfig, *, is_active: bool) -> dict[str, Any]:
    return {
        "name": row.name,
        "description": row.description,
        **_kind_of_model(row.config),
        "created_at": rendering.stamp(row.created_at),
        "modified_at": rendering.stamp(row.modified_at),
        "tags": row.tags,
        "is_active": is_active,
    }


def _template(example: Example) -> dict[str, Any]:
    return {"name": example.name, "description": example.description, **_kind_of_model(example.config), "config": example.config}


def _kind_of_model(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config.get(name) for name in ("model_family", "model_type", "model_flavour", "lora_type")}
