"""The forms by which a dataset's files come in."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext_lazy as _

from jobs.services import datasets
from jobs.services.datasets import Incoming


class FilesField(forms.FileField):
    """Any number of files of one input."""

    class Input(forms.ClearableFileInput):
        allow_multiple_selected = True

    widget = Input

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        files = data or [None]  # none at all is refused as one that is missing
        return [super(FilesField, self).clean(file, initial) for file in files]


class UploadForm(forms.Form):
    """The files of a dataset's version: images with their captions, or one zip of them."""

    files = FilesField(  # type: ignore[assignment]  # the fields are taken out of the class
        label=_("Files"),
        allow_empty_file=True,
        widget=FilesField.Input(attrs={"accept": ".jpg,.jpeg,.png,.webp,.txt,.zip"}),
        help_text=_("JPEG, PNG or WebP images, each with its caption in a .txt file of the same name; or one zip of all of them."),
    )

    def clean_files(self) -> list[UploadedFile]:
        files: list[UploadedFile] = self.cleaned_data["files"]
        if len(files) > 1 and any(_is_zip(file) for file in files):
            raise forms.ValidationError(_("Send one zip, or files without a zip."))
        return files

    def incoming(self) -> Iterable[Incoming]:
        """The files one by one, out of the zip if it is one. Raises what `datasets.unpacked` raises."""
        files: list[UploadedFile] = self.cleaned_data["files"]
        if len(files) == 1 and _is_zip(files[0]):
            return datasets.unpacked(files[0].open("rb"))
        return [Incoming(name=file.name or "", open=partial(file.open, "rb")) for file in files]


def _is_zip(file: UploadedFile) -> bool:
    return (file.name or "").lower().endswith(".zip")


class DatasetForm(UploadForm):
    """A new dataset."""

    field_order = ["name", "description", "files"]

    name = forms.CharField(label=_("Name"), max_length=100)
    description = forms.CharField(label=_("Description"), max_length=500, required=False)
