from django.apps import AppConfig


class ConfigConfig(AppConfig):
    name = "config"
    verbose_name = "Tunehouse"

    def ready(self) -> None:
        # Registering is what importing them does.
        from config import checks  # noqa: F401
