import base64

import pytest

from jobs.storage import checksums
from jobs.storage.checksums import Tally
from jobs.storage.errors import DigestInvalid, DigestWrong, StorageRefusal


@pytest.mark.parametrize(
    ("name", "check"),
    # The published check values of these CRCs: what they make of the nine digits.
    [("crc32", "cbf43926"), ("crc32c", "e3069283"), ("crc64nvme", "ae8b14860a799888")],
)
def test_crcs_give_their_published_check_values(name, check):
    tally = Tally(name)

    tally.update(b"1234")
    tally.update(b"56789")

    assert (tally.digest(name).hex(), tally.size) == (check, 9)


def test_a_wrong_digest_is_refused():
    tally = Tally("sha1")
    tally.update(b"other")

    with pytest.raises(DigestWrong):
        tally.check("sha1", bytes(20))


@pytest.mark.parametrize("text", ["", "!!!", base64.b64encode(b"abc").decode()])
def test_what_is_no_digest_is_refused(text):
    with pytest.raises(DigestInvalid):
        checksums.decode("crc32", text)


def test_an_algorithm_that_nobody_knows_is_refused_by_name():
    with pytest.raises(StorageRefusal, match="x-amz-checksum-foo"):
        checksums.algorithm_of("x-amz-checksum-foo")
