"""Taking datasets in: what is kept, what is refused, and the tricks that an archive may play."""

import hashlib
import io
import struct
import uuid
import zipfile
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from PIL import Image

from accounts.errors import Conflict
from accounts.models import AuditLine
from accounts.roles import Role
from jobs.models import Blob, Dataset, DatasetFile, DatasetVersion
from jobs.services import datasets
from jobs.services.datasets import InvalidDataset
from tests.billing.factories import race
from tests.factories import MembershipFactory, make_token
from tests.jobs.ready import caller_of, files
from tests.jobs.sandbox.servers import picture

PATH = "/api/cloud/datasets"
RED, WIDE = picture(), picture(96, 64)


@pytest.fixture
def member(db):
    return MembershipFactory(role=Role.RESEARCHER)


@pytest.fixture
def caller(member):
    return caller_of(member)


def create(caller, contents, name="houses"):
    return datasets.create(caller, name=name, files=files(contents))


def zipped(contents, **options):
    """A zip; a key may be a ZipInfo for what the plain way cannot make."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", options.pop("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    packed.seek(0)
    return packed


def unpack(caller, archive, name="houses"):
    return datasets.create(caller, name=name, files=datasets.unpacked(archive))


def is_empty():
    return not (Dataset.objects.exists() or DatasetVersion.objects.exists() or DatasetFile.objects.exists())


def test_images_are_kept_with_their_captions_sizes_and_hashes(caller):
    version = create(caller, {"b.jpg": WIDE, "a.jpg": RED, "a.txt": "\ufeff a house \n".encode(), "sub/c.jpeg": RED})

    assert (str(version), version.image_count, version.size_bytes) == ("houses@1", 3, 2 * len(RED) + len(WIDE))
    kept = list(version.files.values_list("name", "caption", "width", "height", "content_type", "blob__sha256"))
    red, wide = (hashlib.sha256(image).hexdigest() for image in (RED, WIDE))
    assert kept == [
        ("a.jpg", "a house", 64, 64, "image/jpeg", red),
        ("b.jpg", "", 96, 64, "image/jpeg", wide),
        ("sub/c.jpeg", "", 64, 64, "image/jpeg", red),
    ]
    line = AuditLine.objects.get(event_type="dataset.created")
    assert (line.target_id, line.after) == ("houses@1", {"manifest_sha256": version.manifest_sha256})


def test_the_same_bytes_are_kept_once_a_team(caller):
    create(caller, {"a.jpg": RED, "b.jpg": RED})
    create(caller, {"c.jpg": RED}, name="more")
    create(caller_of(MembershipFactory()), {"a.jpg": RED})

    blobs = Blob.objects.order_by("pk")
    assert [blob.team == caller.team for blob in blobs] == [True, False]
    for blob in blobs:
        with storages["datasets"].open(blob.stored_as) as kept:
            assert kept.read() == RED


def test_a_version_holds_exactly_what_came_and_the_same_files_make_none(caller):
    first = create(caller, {"a.jpg": RED, "a.txt": b"one"})

    same = datasets.add_version(caller, first.dataset, files=files({"a.txt": b"one", "a.jpg": RED}))
    other = datasets.add_version(caller, first.dataset, files=files({"a.jpg": RED, "a.txt": b"two"}))

    assert (same, other.number, first.files.get().caption, other.files.get().caption) == (first, 2, "one", "two")


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        ({}, "There are no images among the files."),
        ({"a.txt": b"alone"}, "There are no images among the files."),
        ({"a.jpg": RED, "b.txt": b"stray"}, "b.txt is the caption of no image."),
        ({"a.jpg": RED, "a.exe": b"MZ"}, "a.exe is neither an image (JPEG, PNG, WebP) nor a caption (.txt)."),
        ({"a.jpg": b"not an image"}, "a.jpg is not a readable image."),
        ({"a.jpg": RED[:40]}, "a.jpg is not a readable image."),
        ({"a.jpg": RED, "a.txt": b"\xff\xfe"}, "a.txt is not UTF-8 text."),
        ({"a.jpg": RED, "a.txt": b"x" * 65_537}, "a.txt is longer than 64 KiB, which is no caption."),
        ({"../a.jpg": RED}, "'../a.jpg' is not a usable file name."),
        ({"/etc/a.jpg": RED}, "'/etc/a.jpg' is not a usable file name."),
        ({"..\\a.jpg": RED}, "'..\\a.jpg' is not a usable file name."),
        ({"a\n.jpg": RED}, "'a\n.jpg' is not a usable file name."),
        ({"a" * 256 + ".jpg": RED}, f"'{'a' * 100}' is not a usable file name."),
        ({"a.jpg": RED, "./a.jpg": RED}, "a.jpg comes twice."),
        ({"a.jpg": RED, "a.txt": b"one", "./a.txt": b"two"}, "a.txt comes twice."),
    ],
)
def test_what_cannot_be_taken_is_named_and_leaves_no_dataset(caller, contents, sentence):
    with pytest.raises(InvalidDataset) as refusal:
        create(caller, contents)

    assert (str(refusal.value), refusal.value.status, is_empty()) == (sentence, 422, True)


def test_an_image_that_would_fill_the_memory_is_refused_by_its_header(caller):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    small = io.BytesIO()
    Image.new("RGB", (1, 1)).save(small, "PNG")
    bomb = small.getvalue().replace(small.getvalue()[16:29], header)

    with pytest.raises(InvalidDataset, match=r"a\.png is not a readable image"):
        create(caller, {"a.png": bomb})


# --- Archives ---------------------------------------------------------------------------------------------


def test_an_archive_is_taken_like_its_files_without_what_systems_put_in(caller):
    archive = zipped({"set/": b"", "set/a.jpg": RED, "set/a.txt": b"red", "__MACOSX/set/._a.jpg": b"x", "set/.DS_Store": b"x", ".": b"x"})

    with pytest.raises(InvalidDataset, match=r"'\.' is not a usable file name"):
        unpack(caller, archive)
    version = unpack(caller, zipped({"set/": b"", "set/a.jpg": RED, "set/a.txt": b"red", "__MACOSX/._a.jpg": b"x", "Thumbs.db": b"x"}))

    assert list(version.files.values_list("name", "caption")) == [("set/a.jpg", "red")]


def link(name):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


def encrypted():
    packed = zipped({"a.jpg": RED})
    with zipfile.ZipFile(packed) as archive:
        info = archive.infolist()[0]
        central = packed.getvalue().rindex(b"PK\x01\x02")
    raw = bytearray(packed.getvalue())
    raw[info.header_offset + 6] |= 1
    raw[central + 8] |= 1
    return io.BytesIO(bytes(raw))


def damaged(offset_from_name=20):
    raw = bytearray(zipped({"a.jpg": RED}, compression=zipfile.ZIP_STORED).getvalue())
    raw[30 + len("a.jpg") + offset_from_name] ^= 0xFF
    return io.BytesIO(bytes(raw))


def of_another_kind():
    raw = bytearray(zipped({"a.jpg": RED}).getvalue())
    central = raw.rindex(b"PK\x01\x02")
    raw[8] = raw[central + 10] = 97
    return io.BytesIO(bytes(raw))


@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        (lambda: zipped({"../../a.jpg": RED}), "'../../a.jpg' is not a usable file name."),
        (lambda: zipped({link("a.jpg"): "/etc/passwd"}), "a.jpg is a symbolic link. Put the file itself into the archive."),
        (lambda: zipped({"a.png": b"\0" * 3 * 1024**2}), "a.png unpacks to more than 100 times its size."),
        (encrypted, "a.jpg is encrypted. Make the archive without a password."),
        (damaged, "a.jpg is damaged in the archive."),
        (of_another_kind, "a.jpg is damaged in the archive."),
    ],
    ids=["traversal", "link", "bomb", "encrypted", "damaged", "unknown compression"],
)
def test_an_archive_that_plays_a_trick_is_refused(caller, archive, sentence):
    with pytest.raises(InvalidDataset) as refusal:
        unpack(caller, archive())

    assert (str(refusal.value), is_empty()) == (sentence, True)


def test_an_archive_of_endless_files_or_bytes_is_refused_before_it_is_unpacked(caller, monkeypatch):
    monkeypatch.setattr(datasets, "UNPACKED_LIMIT_FILES", 2)
    with pytest.raises(InvalidDataset, match="more than 2 files"):
        unpack(caller, zipped({f"{number}.jpg": RED for number in range(3)}))
    monkeypatch.setattr(datasets, "UNPACKED_LIMIT_BYTES", len(RED))
    with pytest.raises(InvalidDataset, match="more than 8 GiB"):
        unpack(caller, zipped({"a.jpg": RED, "b.jpg": RED}))

    assert not Blob.objects.exists()


# --- At once ----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_of_several_that_make_the_same_name_at_once_one_does():
    # The suite's other workers keep their files beside ours.
    caller = caller_of(MembershipFactory(team__slug=f"at-once-{uuid.uuid4().hex}"))
    images = [picture(64 + number, 64) for number in range(6)]

    outcomes = race(lambda number: create(caller, {"a.jpg": images[number], "same.jpg": RED}), times=6)

    assert [type(outcome) for outcome in outcomes if not isinstance(outcome, DatasetVersion)] == [Conflict] * 5
    assert (Dataset.objects.count(), DatasetVersion.objects.count()) == (1, 1)
    assert Blob.objects.filter(sha256=hashlib.sha256(RED).hexdigest()).count() == 1
    stored = {blob.stored_as for blob in Blob.objects.all()}
    assert len(stored) == Blob.objects.count()
    home = Path(storages["datasets"].path(caller.team.slug))
    on_disk = {f"{caller.team.slug}/{path.relative_to(home)}" for path in home.rglob("*") if path.is_file()}
    assert on_disk == stored


@pytest.mark.django_db(transaction=True)
def test_versions_that_come_at_once_are_numbered_one_after_the_other():
    caller = caller_of(MembershipFactory())
    dataset = create(caller, {"a.jpg": RED}).dataset

    race(lambda number: datasets.add_version(caller, dataset, files=files({"a.jpg": RED, "a.txt": str(number).encode()})), times=6)

    assert list(dataset.versions.values_list("number", flat=True)) == [7, 6, 5, 4, 3, 2, 1]


# --- By API -----------------------------------------------------------------------------------------------


@pytest.fixture
def api(member):
    """A client with the member's token: `api("post", path, **form)`."""
    _, key = make_token(member)

    def call(method, path, data=None, key=key, **more):
        return getattr(Client(), method)(path, data, headers={"Authorization": f"Bearer {key}"}, **more)

    return call


def upload(name, content):
    return SimpleUploadedFile(name, content)


def test_single_files_make_a_dataset(api, member):
    answer = api("post", PATH, {"name": "houses", "description": "by the sea", "files": [upload("a.jpg", RED), upload("a.txt", b"red")]})

    said = answer.json()
    version = DatasetVersion.objects.get()
    assert (answer.status_code, said["success"]) == (201, True)
    assert said["version"] == {
        "version": 1, "reference": "houses@1", "images": 1, "size_bytes": len(RED), "manifest_sha256": version.manifest_sha256,
        "created_at": version.created_at.isoformat(),
    }  # fmt: skip
    assert said["dataset"]["latest"] == said["version"]


def test_an_archive_makes_a_dataset_and_another_makes_a_version(api):
    api("post", f"{PATH}/", {"name": "houses", "archive": upload("a.zip", zipped({"a.jpg": RED}).read())})

    answer = api("post", f"{PATH}/houses/versions", {"archive": upload("a.zip", zipped({"b.jpg": RED}).read())})

    assert (answer.status_code, answer.json()["version"]["reference"], answer.json()["dataset"]["versions"]) == (201, "houses@2", [2, 1])


def test_datasets_are_listed_and_shown_with_their_files(api, caller, django_assert_num_queries):
    create(caller_of(MembershipFactory()), {"a.jpg": RED}, name="foreign")
    create(caller, {"a.jpg": RED, "a.txt": b"a house"}, name="a")
    api("get", PATH)  # the token's first use is noted
    with CaptureQueriesContext(connection) as one:
        api("get", PATH)
    for name in ("b", "c"):
        create(caller, {"a.jpg": RED}, name=name)

    with django_assert_num_queries(len(one)):
        listed = api("get", PATH).json()
    shown = api("get", f"{PATH}/a").json()

    assert [(item["name"], item["latest"]["reference"], item["versions"]) for item in listed["datasets"]] == [
        ("a", "a@1", [1]), ("b", "b@1", [1]), ("c", "c@1", [1]),
    ]  # fmt: skip
    red = hashlib.sha256(RED).hexdigest()
    assert shown["files"] == [{"name": "a.jpg", "caption": "a house", "width": 64, "height": 64, "size_bytes": len(RED), "sha256": red}]
    assert api("get", f"{PATH}/foreign").status_code == 404


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"name": "x"}, 400, "invalid_input"),
        ({"name": "", "files": [("a.jpg", RED)]}, 400, "invalid_input"),
        ({"name": "a/b", "files": [("a.jpg", RED)]}, 400, "invalid_input"),
        ({"name": "a@1", "files": [("a.jpg", RED)]}, 400, "invalid_input"),
        ({"name": "x", "files": [("a.jpg", RED)], "archive": ("a.zip", b"x")}, 400, "invalid_input"),
        ({"name": "x", "archive": ("a.zip", b"no zip")}, 400, "invalid_input"),
        ({"name": "x", "archive": ("a.zip", b"")}, 400, "invalid_input"),
        ({"name": "x", "files": [("a.jpg", b"no image")]}, 422, "invalid_dataset"),
        ({"name": "taken", "files": [("a.jpg", RED)]}, 409, "conflict"),
    ],
)
def test_a_bad_form_is_answered_in_the_error_body(api, caller, form, status, code):
    create(caller, {"a.jpg": RED}, name="taken")
    form = {
        name: upload(*part) if isinstance(part, tuple) else [upload(*one) for one in part] if isinstance(part, list) else part
        for name, part in form.items()
    }

    answer = api("post", PATH, form)

    assert (answer.status_code, answer.json()["code"], answer.json()["success"]) == (status, code, False)
    assert list(Dataset.objects.values_list("name", flat=True)) == ["taken"]


def test_json_is_no_upload(api):
    answer = api("post", PATH, {"name": "x"}, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (415, "invalid_payload")


def test_viewers_read_and_do_not_write(api, member):
    _, key = make_token(MembershipFactory(team=member.team, role=Role.VIEWER))

    assert api("get", PATH, key=key).status_code == 200
    assert api("post", PATH, {"name": "x", "files": [upload("a.jpg", RED)]}, key=key).status_code == 403
