"""The pages of datasets: uploading as files or zip, looking at pictures and captions, and what a stranger sees."""

import html
import io
import zipfile

import pytest
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from PIL import Image

from accounts.models import AuditLine
from accounts.roles import Role
from jobs import thumbnails
from jobs.models import Blob, Dataset, DatasetFile
from jobs.services import datasets
from tests.factories import MembershipFactory
from tests.jobs.factories import make_member
from tests.jobs.ready import caller_of, files
from tests.jobs.sandbox.servers import picture
from tests.pages import INLINE

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(client):
    member = MembershipFactory(role=Role.RESEARCHER)
    client.force_login(member.user)
    return member


@pytest.fixture
def team(member):
    return member.team


@pytest.fixture
def dataset(member):
    return datasets.create(caller_of(member), name="sea", files=files({"a.jpg": picture(), "a.txt": b"a <blue> sea"})).dataset


def address(name, team, *args):
    return reverse(f"jobs:{name}", args=[team.slug, *args])


def page_of(client, path):
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def upload(name, content):
    return SimpleUploadedFile(name, content)


def zipped(contents):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writing:
        for name, content in contents.items():
            writing.writestr(name, content)
    return archive.getvalue()


def errors(response):
    return {field: [html.unescape(text) for text in found] for field, found in response.context["form"].errors.items()}


# --- Uploading -----------------------------------------------------------------------------------------------------


def test_files_become_a_dataset_with_captions(client, team):
    sent = [upload("b.jpg", picture()), upload("b.txt", b"two boats")]

    response = client.post(address("dataset_new", team), {"name": " boats ", "description": "by the sea", "files": sent})

    dataset = Dataset.objects.get()
    assert (response.status_code, response["Location"]) == (302, address("dataset", team, dataset.pk))
    assert (dataset.team, dataset.name, dataset.description) == (team, "boats", "by the sea")
    assert list(DatasetFile.objects.values_list("name", "caption")) == [("b.jpg", "two boats")]
    assert AuditLine.objects.get(event_type="dataset.created").team == team
    assert "The dataset was added." in page_of(client, response["Location"])


def test_a_zip_becomes_a_dataset(client, team):
    archive = zipped({"in/b.jpg": picture(), "in/b.txt": b"two boats"})

    client.post(address("dataset_new", team), {"name": "boats", "files": [upload("boats.ZIP", archive)]})

    assert list(DatasetFile.objects.values_list("name", "caption")) == [("in/b.jpg", "two boats")]


@pytest.mark.parametrize(
    ("name", "sent", "field", "says"),
    [
        ("", {"b.jpg": b""}, "name", "This field is required."),
        ("a/b", {"b.jpg": b""}, "name", "without '/' and '@'"),
        ("sea", {"b.jpg": b""}, "name", "There is a dataset 'sea' already."),
        ("boats", {}, "files", "This field is required."),
        ("boats", {"b.jpg": b"no picture"}, "files", "b.jpg is not a readable image."),
        ("boats", {"b.jpg": b""}, "files", "b.jpg is not a readable image."),
        ("boats", {"b.txt": b"alone"}, "files", "There are no images among the files."),
        ("boats", {"b.exe": b"MZ"}, "files", "b.exe is neither an image"),
        ("boats", {"b.zip": b"no zip"}, "files", "The archive is not a zip file."),
        ("boats", {"b.zip": b"", "c.zip": b""}, "files", "Send one zip, or files without a zip."),
    ],
)
def test_what_is_wrong_stands_at_its_field(client, team, dataset, name, sent, field, says):
    given = [upload(*file) for file in sent.items()]

    response = client.post(address("dataset_new", team), {"name": name, "files": given})

    found = errors(response)
    assert (response.status_code, list(found), Dataset.objects.count()) == (200, [field], 1)
    assert says in found[field][0]


def test_a_version_holds_exactly_what_was_sent(client, team, dataset):
    sent = [upload("c.jpg", picture()), upload("c.txt", b"a boat")]

    first = client.post(address("dataset_add", team, dataset.pk), {"files": sent}, follow=True)
    same = client.post(
        address("dataset_add", team, dataset.pk), {"files": [upload("c.jpg", picture()), upload("c.txt", b"a boat")]}, follow=True
    )

    assert "Version 2 was added." in first.content.decode()
    assert "nothing was added" in same.content.decode()
    assert [(row.number, [file.name for file in row.files.all()]) for row in dataset.versions.all()] == [(2, ["c.jpg"]), (1, ["a.jpg"])]


# --- Looking ---------------------------------------------------------------------------------------------------------


def test_a_version_shows_its_pictures_and_captions(client, team, member, dataset):
    datasets.add_version(caller_of(member), dataset, files=files({"b.jpg": picture()}))

    newest = page_of(client, address("dataset", team, dataset.pk))
    first = page_of(client, address("dataset", team, dataset.pk) + "?version=1")

    assert ["1 image has no caption." in newest, "a &lt;blue&gt; sea" in newest] == [True, False]
    assert ["1 image has no caption." in first, "a &lt;blue&gt; sea" in first] == [False, True]
    assert f"{address('new', team)}?dataset=sea%401" in first
    assert INLINE.findall(first) == []
    for wrong in ("3", "x", "-1"):
        assert client.get(address("dataset", team, dataset.pk) + f"?version={wrong}").status_code == 404


def test_the_list_asks_as_often_for_three_datasets_as_for_one(client, team, member, dataset, django_assert_num_queries):
    def ask():
        with django_assert_num_queries(9):
            assert page_of(client, address("datasets", team)).count('class="job-name"') == Dataset.objects.count()

    ask()
    for name in ("lake", "river"):
        datasets.create(caller_of(member), name=name, files=files({"a.jpg": picture()}))
    ask()


def test_a_large_dataset_comes_in_pages_with_as_many_questions(client, team, dataset, django_assert_num_queries):
    version, blob = dataset.versions.get(), Blob.objects.get()
    with django_assert_num_queries(12):
        page_of(client, address("dataset", team, dataset.pk))
    DatasetFile.objects.bulk_create(
        DatasetFile(version=version, blob=blob, name=f"b{number:03}.jpg", caption="x", content_type="image/jpeg", width=1, height=1)
        for number in range(60)
    )

    with django_assert_num_queries(12):
        first = page_of(client, address("dataset", team, dataset.pk))
    second = page_of(client, address("dataset", team, dataset.pk) + "?page=2")

    assert (first.count("<img"), second.count("<img")) == (60, 1)


def test_an_empty_list_says_how_to_begin(client, team):
    page = page_of(client, address("datasets", team))

    assert ["No datasets yet" in page, address("dataset_new", team) in page] == [True, True]


# --- Thumbnails ---------------------------------------------------------------------------------------------------------


def stored(member, name, image, kind):
    content = io.BytesIO()
    image.save(content, kind)
    version = datasets.create(caller_of(member), name=name, files=files({f"a.{kind.lower()}": content.getvalue()}))
    return version.files.get()


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGBA", "WEBP")])
def test_a_picture_is_shown_small(client, team, member, mode, kind):
    file = stored(member, "one", Image.new(mode, (1600, 800)), kind)

    response = client.get(address("thumbnail", team, file.pk))

    with Image.open(io.BytesIO(response.content)) as shown:
        assert (shown.format, shown.size) == ("JPEG", (320, 160))
    assert (response["Content-Type"], response["Cache-Control"]) == ("image/jpeg", "private, max-age=86400, immutable")


def test_a_picture_is_drawn_once(client, team, member):
    file = stored(member, "one", Image.new("RGB", (1600, 800)), "JPEG")
    first = client.get(address("thumbnail", team, file.pk)).content

    storages["datasets"].delete(file.blob.stored_as)

    assert client.get(address("thumbnail", team, file.pk)).content == first


def test_what_cannot_be_drawn_is_not_found(client, team, member, monkeypatch):
    gone = stored(member, "one", Image.new("RGB", (1600, 800), "red"), "JPEG")
    storages["datasets"].delete(gone.blob.stored_as)
    huge = stored(member, "two", Image.new("RGB", (1600, 800), "blue"), "JPEG")
    monkeypatch.setattr(thumbnails.Image, "MAX_IMAGE_PIXELS", 1_000_000)

    assert [client.get(address("thumbnail", team, file.pk)).status_code for file in (gone, huge)] == [404, 404]


# --- Rights ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "adds"), [(Role.VIEWER, False), (Role.RESEARCHER, True), (Role.LEAD, True), (Role.OWNER, True)])
def test_all_look_and_who_may_add(client, team, dataset, role, adds):
    client.force_login(make_member(team, role).user)
    file = DatasetFile.objects.get()

    looks = [
        client.get(address(*path)).status_code for path in (("datasets", team), ("dataset", team, dataset.pk), ("thumbnail", team, file.pk))
    ]
    changes = [client.get(address(*path)).status_code for path in (("dataset_new", team), ("dataset_add", team, dataset.pk))]

    assert (looks, changes) == ([200] * 3, [200 if adds else 403] * 2)
    assert (address("dataset_new", team) in page_of(client, address("datasets", team))) is adds


def test_a_strangers_datasets_do_not_exist(client, team, dataset):
    stranger = MembershipFactory()
    client.force_login(stranger.user)
    file = DatasetFile.objects.get()

    theirs = [("datasets",), ("dataset_new",), ("dataset", dataset.pk), ("dataset_add", dataset.pk), ("thumbnail", file.pk)]
    by_their_team = [client.get(address(name, team, *args)).status_code for name, *args in theirs]
    by_own_team = [client.get(address(name, stranger.team, *args)).status_code for name, *args in theirs[2:]]

    assert (by_their_team, by_own_team) == ([404] * 5, [404] * 3)
