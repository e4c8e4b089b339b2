"""What is thrown away in time, and what is not."""

import os
from datetime import timedelta

import pytest
from django.utils import timezone

from jobs.services import tidying

pytestmark = pytest.mark.django_db


def test_an_archive_that_a_killed_worker_left_goes_after_a_day(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    old, new = tmp_path / "packing" / "j-old-1", tmp_path / "packing" / "j-new-1"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "archive.zip").write_bytes(b"half")
    yesterday = (timezone.now() - timedelta(hours=25)).timestamp()
    os.utime(old, (yesterday, yesterday))

    tidying.tidy()

    assert sorted(path.name for path in (tmp_path / "packing").iterdir()) == ["j-new-1"]
