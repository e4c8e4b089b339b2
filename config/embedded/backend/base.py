"""Django's own PostgreSQL engine, which makes sure that the embedded server runs before it connects."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.db.backends.postgresql import base, client

from config.embedded import postgres, server


class DatabaseClient(client.DatabaseClient):
    """`manage.py dbshell` with the psql that the server came with."""

    @classmethod
    def settings_to_cmd_args_env(cls, settings_dict: dict[str, Any], parameters: Iterable[str]) -> tuple[list[str], dict[str, str] | None]:
        postgres.ensure(Path(settings_dict["DATA_DIR"]))
        (_, *arguments), environment = super().settings_to_cmd_args_env(settings_dict, parameters)
        return [str(server.binaries() / "psql"), *arguments], environment


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to the embedded server; `DATA_DIR` in its settings names the folder that the server keeps its data in."""

    client_class = DatabaseClient

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        data_dir = Path(self.settings_dict["DATA_DIR"])
        postgres.ensure(data_dir)
        try:
            return super().get_new_connection(conn_params)
        except self.Database.OperationalError:
            if self.pool:
                raise  # a pool has tried for long enough
            # It died this moment, or recovers after the death of one of its processes.
            postgres.wait_until_accepting(data_dir)
            return super().get_new_connection(conn_params)
