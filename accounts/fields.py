"""Kinds of text that models keep."""

from typing import Any

from django.db import models


class LowercaseEmailField(models.EmailField):
    """An address in lower case, however it was typed: django-allauth looks for no other, so somebody else could never sign in."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return value.lower() if value else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = self.get_prep_value(super().pre_save(model_instance, add))
        setattr(model_instance, self.attname, value)
        return value
