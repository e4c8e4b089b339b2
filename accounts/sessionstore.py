"""Where sessions are kept: Django's table, with a hash in the place of each key. Whoever reads it can sign in as nobody."""

import hashlib
from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.db import models
from django.db.models import QuerySet
from django.utils import timezone


class KeptKey(str):
    """A hash as a table has it. It equals the key that it was made of; no cookie can bring one."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, kept_as(other)) if isinstance(other, str) else False


def kept_as(session_key: str | None) -> str:
    """What the table has for a key, which is in the cookie only: 40 characters, as many as its column takes; "" for none."""
    if not session_key or isinstance(session_key, KeptKey):
        return session_key or ""
    return hashlib.blake2b(session_key.encode(), digest_size=20).hexdigest()


class SessionKeyField(models.CharField):
    """The key of a session in the table of somebody else's model, which takes it for the key itself."""

    def from_db_value(self, value: str, *_: Any) -> KeptKey:
        return KeptKey(value)

    def get_prep_value(self, value: str | None) -> str:
        return kept_as(value)

    def deconstruct(self) -> Any:
        name, _, args, options = super().deconstruct()
        return name, "django.db.models.CharField", args, options


class SessionStore(DatabaseStore):
    """Django's own, but for what it looks for and writes in the table. The key that others see is that of the cookie."""

    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def exists(self, session_key: str) -> bool:
        return super().exists(kept_as(session_key))

    async def aexists(self, session_key: str) -> bool:
        return await super().aexists(kept_as(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        return self._hashed(super().create_model_instance(data))

    async def acreate_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        return self._hashed(await super().acreate_model_instance(data))

    def delete(self, session_key: str | None = None) -> None:
        super().delete(kept_as(session_key or self.session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        await super().adelete(kept_as(session_key or self.session_key))

    def _get_session_from_db(self) -> Session | None:
        found: Session | None = self._alive().first()
        return self._noted(found)

    async def _aget_session_from_db(self) -> Session | None:
        found: Session | None = await self._alive().afirst()
        return self._noted(found)

    def _alive(self) -> QuerySet[Session]:
        return Session.objects.filter(session_key=kept_as(self.session_key), expire_date__gt=timezone.now())

    def _noted(self, found: Session | None) -> Session | None:
        """The session; without one the key is forgotten, so that nobody is given a session under a key of their choice."""
        if found is None:
            self._session_key = None
        return found

    def _hashed(self, row: AbstractBaseSession) -> AbstractBaseSession:
        row.session_key = kept_as(row.session_key)
        return row
