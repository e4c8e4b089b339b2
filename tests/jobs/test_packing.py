"""The archive that carries a dataset to the trainer: names, bytes, size and faults."""

import hashlib
import io
import pickle
import random
import resource
import tracemalloc
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from unicodedata import normalize

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.packing import (
    GATE_BYTES,
    ArchiveTooLarge,
    BadItem,
    Item,
    ItemChanged,
    NothingToPack,
    PackedFile,
    PackingFailed,
    archive_size,
    pack,
    stem_of,
)


def item(name, caption="", content=b"jpeg"):
    return Item(name, caption, len(content), hashlib.sha256(content).hexdigest(), lambda: io.BytesIO(content))


class Zeros(io.RawIOBase):
    """So many zero bytes, without holding them."""

    def __init__(self, size):
        self.left = size

    def readable(self):
        return True

    def read(self, size=-1):
        given = min(self.left, size)
        self.left -= given
        return bytes(given)


def zeros(name, size):
    digest = hashlib.sha256()
    for start in range(0, size, 1 << 20):
        digest.update(bytes(min(1 << 20, size - start)))
    return Item(name, name.removesuffix(".png"), size, digest.hexdigest(), lambda: Zeros(size))


def unpacked(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_an_image_is_named_after_its_caption(tmp_path):
    packed = pack([item("IMG_1.JPG", "a red fox,  in the snow", b"fox")], tmp_path / "dataset.zip")

    assert unpacked(packed.path) == {"a_red_fox,_in_the_snow.jpg": b"fox"}
    assert packed.files == [PackedFile("a_red_fox,_in_the_snow.jpg", "IMG_1.JPG", False)]
    assert packed.warnings == []


def test_size_and_hash_are_those_of_the_file(tmp_path):
    packed = pack([item("1.png", "cat"), item("2.png", "dog")], tmp_path / "dataset.zip")

    content = (tmp_path / "dataset.zip").read_bytes()
    assert packed.path == tmp_path / "dataset.zip"
    assert (packed.size, packed.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_bytes_are_the_same_on_every_machine(tmp_path):
    items = [item("b.webp", "señal de tráfico", b"two"), item("a.jpg", "a cat", b"one"), item("c.png", "a cat", b"three")]

    packed = pack(items, tmp_path / "dataset.zip")

    assert packed.size == 347
    assert packed.sha256 == "9ca458c8f2d7dc31b6392f8c1d318a2dda23db150d7a127876baf619835a4321"


def test_entries_are_stored_with_fixed_dates_and_modes(tmp_path):
    pack([item("a.jpg", "a cat")], tmp_path / "dataset.zip")

    with zipfile.ZipFile(tmp_path / "dataset.zip") as archive:
        [entry] = archive.infolist()
    assert (entry.compress_type, entry.date_time, entry.external_attr >> 16) == (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0), 0o100644)


def test_captions_files_stay_out_and_others_are_named(tmp_path):
    packed = pack([item("a.jpg", "cat"), item("a.txt", "", b"cat"), item("notes.md", "", b"#")], tmp_path / "dataset.zip")

    assert list(unpacked(packed.path)) == ["cat.jpg"]
    assert packed.warnings == ["'notes.md' is not an image and stays out of the archive."]


@pytest.mark.parametrize("items", [[], [item("a.txt", "", b"cat")]])
def test_without_images_there_is_nothing_to_pack(items, tmp_path):
    with pytest.raises(NothingToPack):
        pack(items, tmp_path / "dataset.zip")

    assert list(tmp_path.iterdir()) == []


def test_equal_captions_get_numbers_that_the_trainer_will_read(tmp_path):
    items = [item("1.jpg", "a cat"), item("2.jpg", "A  Cat"), item("3.png", "a cat"), item("4.jpg", "a cat 2")]

    packed = pack(items, tmp_path / "dataset.zip")

    assert [file.archive_name for file in packed.files] == ["a_cat.jpg", "A_Cat_2.jpg", "a_cat_3.png", "a_cat_2_2.jpg"]
    assert packed.warnings == [
        "Another image has the caption of '2.jpg' too; the trainer will read 'A Cat 2'.",
        "Another image has the caption of '3.png' too; the trainer will read 'a cat 3'.",
        "Another image has the caption of '4.jpg' too; the trainer will read 'a cat 2 2'.",
    ]


def test_a_long_caption_is_cut_to_255_bytes_between_characters(tmp_path):
    packed = pack([item("1.jpeg", "ñ" * 200), item("2.jpeg", "ñ" * 300), item("3.jpg", "x" * 251)], tmp_path / "dataset.zip")

    first, second, third = packed.files
    assert first == PackedFile("ñ" * 125 + ".jpeg", "1.jpeg", True)
    assert second == PackedFile("ñ" * 124 + "_2.jpeg", "2.jpeg", True)
    assert third == PackedFile("x" * 251 + ".jpg", "3.jpg", False)
    assert len(third.archive_name.encode()) == 255
    assert packed.warnings[0] == f"The caption of '1.jpeg' is too long for a file name; the trainer will read only '{'ñ' * 125}'."


def test_an_image_without_a_caption_keeps_its_own_name(tmp_path):
    packed = pack([item("fox-01.jpg"), item("..-.jpg", " \n"), item("_.jpg", "...")], tmp_path / "dataset.zip")

    assert [file.archive_name for file in packed.files] == ["-.jpg", "image.jpg", "fox-01.jpg"]
    assert packed.warnings[-1] == "'fox-01.jpg' has no caption; the trainer will read 'fox-01'."


@pytest.mark.parametrize(
    ("caption", "stem"),
    [
        ("a cat", "a_cat"),
        ("  a\tcat\r\non a\u2028mat ", "a_cat_on_a_mat"),
        ("black and/or white", "black_and_or_white"),
        ("..\\..\\etc", "etc"),
        ("../../etc/passwd", "etc_passwd"),
        (".hidden", "hidden"),
        ('style: <s1>, "oil"? 5 * 3 |', 'style:_<s1>,_"oil"?_5_*_3_|'),
        ("e\u0301tude", "étude"),
        ("a\x00b\ud800c", "a_bc"),
        ("one_two", "one_two"),
        ("___", ""),
        ("the end.", "the_end."),
    ],
)
def test_a_stem_keeps_what_a_file_name_can_hold(caption, stem):
    assert stem_of(caption) == stem


def test_a_caption_that_is_read_otherwise_is_named(tmp_path):
    packed = pack([item("1.jpg", "and/or"), item("2.jpg", "my_token")], tmp_path / "dataset.zip")

    assert packed.warnings == [
        "The caption of '1.jpg' holds signs that a file name cannot carry; the trainer will read 'and or'.",
        "The caption of '2.jpg' holds signs that a file name cannot carry; the trainer will read 'my token'.",
    ]


BAD_NAMES = ["", " ", "/etc/a.jpg", "../a.jpg", "a/../b.jpg", "a//b.jpg", "./a.jpg", "C:a.jpg", "a\\b.jpg", "a\nb.jpg", "\ud800.jpg"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_out_is_refused(name, tmp_path):
    with pytest.raises(BadItem):
        pack([item(name, "cat")], tmp_path / "dataset.zip")


@pytest.mark.parametrize(("one", "two"), [("a.jpg", "a.jpg"), ("a.jpg", "A.JPG"), ("ñ.jpg", "n\u0303.jpg"), ("a.txt", "A.txt")])
def test_names_that_differ_in_case_only_are_refused(one, two, tmp_path):
    with pytest.raises(BadItem, match="have the same name"):
        pack([item(one, "cat"), item(two, "dog")], tmp_path / "dataset.zip")


def test_an_empty_image_is_refused(tmp_path):
    with pytest.raises(BadItem, match=r"The image 'a.jpg' is empty\."):
        pack([item("a.jpg", "cat", b"")], tmp_path / "dataset.zip")


def test_an_archive_of_exactly_the_limit_passes(tmp_path):
    overhead = archive_size([("a.png", 0)])

    packed = pack([zeros("a.png", GATE_BYTES - overhead)], tmp_path / "dataset.zip")

    assert (GATE_BYTES, packed.size) == (104_857_600, 104_857_600)


def test_an_archive_one_byte_over_the_limit_is_refused_before_anything_is_written(tmp_path):
    too_much = GATE_BYTES + 1 - archive_size([("a.png", 0)])
    unread = Item("a.png", "a", too_much, "", lambda: pytest.fail("The image was opened."))

    with pytest.raises(ArchiveTooLarge) as refused:
        pack([unread], tmp_path / "dataset.zip")

    assert refused.value.size == 104_857_601
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (125_829_120, "Archive size 120.0 MiB exceeds Replicate's 100 MiB upload limit"),
        (104_857_601, "Archive size 100.1 MiB exceeds Replicate's 100 MiB upload limit"),
        (125_829_121, "Archive size 120.1 MiB exceeds Replicate's 100 MiB upload limit"),
    ],
)
def test_an_archive_over_the_limit_is_told_in_mebibytes(size, sentence):
    assert str(ArchiveTooLarge(size)) == sentence
    assert str(pickle.loads(pickle.dumps(ArchiveTooLarge(size)))) == sentence  # noqa: S301 (our own)


def test_a_limit_can_be_lower(tmp_path):
    with pytest.raises(ArchiveTooLarge):
        pack([item("a.jpg", "cat")], tmp_path / "dataset.zip", gate_bytes=100)


def test_packing_needs_constant_memory(tmp_path):
    images = [zeros(f"{number}.png", 8 * 1024 * 1024) for number in range(4)]

    tracemalloc.start()
    try:
        pack(images, tmp_path / "dataset.zip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 * 1024 * 1024


def changed(one, **fields):
    return Item(**({"name": one.name, "caption": one.caption, "size": one.size, "sha256": one.sha256, "open": one.open} | fields))


@pytest.mark.parametrize("fields", [{"size": 3}, {"size": 5}, {"sha256": "00" * 32}])
def test_an_image_that_is_not_the_one_of_the_manifest_stops_the_packing(fields, tmp_path):
    good, bad = item("a.jpg", "cat"), changed(item("b.jpg", "dog", b"jpeg"), **fields)

    with pytest.raises(ItemChanged, match=r"The image 'b\.jpg' is not the one"):
        pack([good, bad], tmp_path / "dataset.zip")

    assert list(tmp_path.iterdir()) == []


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    gone = changed(item("b.jpg", "dog"), open=lambda: (tmp_path / "gone.jpg").open("rb"))

    with pytest.raises(PackingFailed) as fault:
        pack([item("a.jpg", "cat"), gone], tmp_path / "dataset.zip")

    assert str(fault.value) == "The image 'b.jpg' could not be read: No such file or directory"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind_but_the_archive_of_before(tmp_path):
    destination = tmp_path / "dataset.zip"
    destination.write_bytes(b"the archive of before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    image = zeros("a.png", 4 * 1024 * 1024)

    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    try:
        with pytest.raises(PackingFailed) as fault:
            pack([image], destination)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert str(fault.value) == "The archive could not be written: File too large"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the archive of before"]


def test_a_folder_that_is_missing_is_a_failure(tmp_path):
    with pytest.raises(PackingFailed, match="No such file or directory"):
        pack([item("a.jpg", "cat")], tmp_path / "gone" / "dataset.zip")


def test_an_interruption_leaves_nothing_behind(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack([changed(item("a.jpg", "cat"), open=interrupted)], tmp_path / "dataset.zip")

    assert list(tmp_path.iterdir()) == []


captions = st.lists(
    st.text(max_size=300) | st.sampled_from(["a cat", "A cat", "a_cat", "a cat 2", "a cat_2", "", "..", "/", "ß", "SS", "ss"]),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(captions, st.randoms(use_true_random=False))
@example(["a cat", "a cat 2", "a cat", "a cat 2", "A CAT"], random.Random(1))
def test_any_captions_give_safe_and_unique_names_in_any_order(texts, dice):
    items = [item(f"{number}.jpg", text, f"image {number}".encode()) for number, text in enumerate(texts)]

    with TemporaryDirectory() as folder:
        packed = pack(items, Path(folder) / "1.zip")
        again = pack(dice.sample(items, len(items)), Path(folder) / "2.zip")
        contents = unpacked(packed.path)

    names = [file.archive_name for file in packed.files]
    assert packed.sha256 == again.sha256
    assert packed.size == archive_size((file.archive_name, len(contents[file.archive_name])) for file in packed.files)
    assert len({normalize("NFC", name.casefold()) for name in names}) == len(names)
    assert all(0 < len(name.encode()) <= 255 for name in names)
    assert not any(name.startswith(".") or "/" in name or "\\" in name or "\x00" in name for name in names)
    for file, source in zip(packed.files, sorted(items, key=lambda one: one.name), strict=True):
        assert contents[file.archive_name] == source.open().read()
