from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import languages, sessions, signins

        languages.connect()
        sessions.connect()
        signins.connect()
