"""Fields that more than one form has."""

import json
from typing import Any

from django import forms
from django.forms.fields import InvalidJSONInput
from django.utils.translation import gettext_lazy as _


class JSONText(forms.JSONField):
    """JSON that is an object, or a list of them (`is_list`), written with so many blanks before an entry (`indent`)."""

    def __init__(self, *, is_list: bool = False, indent: int | None = None, rows: int = 8, **options: Any) -> None:
        self.is_list = is_list
        self.indent = indent
        super().__init__(widget=forms.Textarea(attrs={"rows": rows, "class": "code", "spellcheck": "false"}), required=False, **options)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What was typed, as it was typed: no blank or digit of it is put another way."""
        return initial if self.disabled else InvalidJSONInput(data or "")

    def prepare_value(self, value: Any) -> Any:
        if value is None:
            return ""
        if self.indent is None or isinstance(value, str):
            return super().prepare_value(value)
        return json.dumps(value, ensure_ascii=False, indent=self.indent)

    def to_python(self, value: Any) -> Any:
        found = super().to_python(value)
        if found is None or found == "":
            return None
        rows = found if self.is_list and isinstance(found, list) else [found]
        if not all(isinstance(row, dict) for row in rows) or (self.is_list and not isinstance(found, list)):
            raise forms.ValidationError(_("This must be a list of JSON objects.") if self.is_list else _("This must be a JSON object."))
        return found
