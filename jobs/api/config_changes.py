"""Making, changing and choosing a team's training configs by API."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import caller_in, fields_of
from accounts.errors import InvalidInput, NotFound, Refusal
from accounts.permissions import needs
from accounts.roles import Right
from jobs import trainingexamples
from jobs.api.configs import ConfigDetail, ConfigList, shown
from jobs.services import configs
from jobs.settingkeys import flag

READS = needs(Right.READ, permission="config.view")


class ConfigMaker(APIView):
    permission_classes = [needs(Right.DATASETS, permission="config.create")]


class Configs(ConfigList):
    """The team's configs."""

    def get_permissions(self) -> list[Any]:
        return [READS() if self.request.method == "GET" else needs(Right.DATASETS, permission="config.create")()]

    @extend_schema(responses={201: dict[str, Any]})
    def post(self, request: Request) -> Response:
        """Keep a `config` under a `name`, with `description` and `tags`. What a submission would refuse is refused here."""
        _require_model_config(request)
        given = fields_of(request)
        row = configs.create(
            caller_in(request), name=_text(given, "name"), config=_object(given, "config"), description=_description(given) or "",
            tags=_tags(given),
        )  # fmt: skip
        return Response(shown(row), status=201)


class Config(ConfigDetail):
    """One config."""

    def get_permissions(self) -> list[Any]:
        wanted = {"PUT": "config.edit.own", "DELETE": "config.delete.own"}.get(str(self.request.method))
        return [needs(Right.DATASETS, permission=wanted)() if wanted else READS()]

    def put(self, request: Request, name: str) -> Response:
        """Replace `config`, and `description` and `tags` where they are sent. Jobs that exist keep their snapshot."""
        _require_model_config(request)
        row, given = configs.find(caller_in(request), name), fields_of(request)
        changed = configs.change(
            caller_in(request), row, config=_object(given, "config"), description=_description(given), tags=_tags(given)
        )
        return Response(shown(changed))

    def delete(self, request: Request, name: str) -> Response:
        """Delete it. Jobs that wait or run have their snapshot and go on."""
        configs.remove(caller_in(request), configs.find(caller_in(request), name))
        return Response({"success": True, "message": f"Config '{name}' was deleted."})


class ConfigRename(APIView):
    """Another name for a config."""

    permission_classes = [needs(Right.DATASETS, permission="config.edit.own")]

    def post(self, request: Request, name: str) -> Response:
        """Give it the `new_name`."""
        row = configs.find(caller_in(request), name)
        return Response(shown(configs.rename(caller_in(request), row, _text(fields_of(request), "new_name"))))


class ConfigCopy(ConfigMaker):
    """The same config once more."""

    def post(self, request: Request, name: str) -> Response:
        """Copy it to the `target_name`; the copy is the caller's own."""
        row = configs.find(caller_in(request), name)
        return Response(shown(configs.copy(caller_in(request), row, _text(fields_of(request), "target_name"))))


class ConfigActivate(APIView):
    """Choosing the config to begin with."""

    permission_classes = [needs(Right.READ, permission="config.view")]

    def post(self, request: Request, name: str) -> Response:
        """Let the caller's forms begin with it, in this team."""
        row = configs.find(caller_in(request), name)
        configs.activate(caller_in(request), row)
        return Response({"success": True, "name": row.name})


class ConfigImport(ConfigMaker):
    """A config from elsewhere."""

    def post(self, request: Request) -> Response:
        """`data` is what the export answers, or a bare config; then `name` is needed. `overwrite` replaces the one of that name."""
        given = fields_of(request)
        data = _object(given, "data")
        is_bare = not isinstance(data.get("config"), dict)
        metadata = {} if is_bare or not isinstance(data.get("metadata"), dict) else data["metadata"]
        name = given.get("name") or ("" if is_bare else data.get("name"))
        row = configs.keep(
            caller_in(request), name=_text({"name": name}, "name"), config=data if is_bare else data["config"],
            description=_description(metadata) or "", tags=_tags(metadata), overwrite=flag("overwrite", given.get("overwrite") or False),
        )  # fmt: skip
        return Response(shown(row))


class ConfigFromTemplate(ConfigMaker):
    """A config out of those that ship with this server."""

    def post(self, request: Request) -> Response:
        """Keep the template `template_name` as the team's `config_name`."""
        given = fields_of(request)
        example = trainingexamples.named(_text(given, "template_name"))
        if example is None:
            names = ", ".join(each.name for each in trainingexamples.EXAMPLES)
            raise NotFound(f"Template not found. There are: {names}.", field="template_name")
        row = configs.create(caller_in(request), name=_text(given, "config_name"), config=example.config, description=example.description)
        return Response(shown(row))


def _require_model_config(request: Request) -> None:
    if (request.query_params.get("config_type") or "model") != "model":
        raise Refusal(
            "Only configs of models are kept here.", field="config_type", hint="Send a dataloader as 'dataloader_config' in its config."
        )


def _text(given: dict[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{key} is missing: send it as text.", field=key)
    return value.strip()


def _object(given: dict[str, Any], key: str) -> dict[str, Any]:
    value = given.get(key)
    if not isinstance(value, dict):
        raise InvalidInput(f"{key} must be an object.", field=key)
    return value


def _description(given: dict[str, Any]) -> str | None:
    value = given.get("description")
    if value is not None and not isinstance(value, str):
        raise InvalidInput("description must be text.", field="description")
    return value


def _tags(given: dict[str, Any]) -> list[str] | None:
    value = given.get("tags")
    if value is not None and (not isinstance(value, list) or not all(isinstance(tag, str) for tag in value)):
        raise InvalidInput("tags must be a list of texts.", field="tags")
    return value
