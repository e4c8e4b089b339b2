"""A team's bucket, as S3 services answer: what lies there, what is in the way, and what of this machine never counts."""

import hashlib
import os
import tracemalloc

import pytest

from jobs.destinations import safetensors
from jobs.destinations.bucket import Bucket, Place
from jobs.destinations.errors import BadKey, Forbidden, Missing, Refused, Unreachable
from jobs.destinations.shelf import File, digest
from jobs.outbound import Outbound
from tests.jobs import elsewhere
from tests.jobs.sandbox.servers import free_port, serving_s3
from tests.proxies import make_certificate

MIB = 1024 * 1024
HASTY = Outbound(timeout_seconds=0.3)


@pytest.fixture
def opened(bucket):
    """Open the bucket, with other keys or at another place where a test says so."""
    left = []

    def make(prefix="", *, access_key=bucket.access_key, secret_key=bucket.secret_key, outbound=Outbound(timeout_seconds=10), **other):  # noqa: B008
        at = Place.of(elsewhere.place(bucket, **other))
        left.append(Bucket(at, prefix=prefix, access_key=access_key, secret_key=secret_key, outbound=outbound, attempts=1))
        return left[-1]

    yield make
    for each in left:
        each.__exit__()


def test_what_lies_below_the_prefix_is_listed_and_read(bucket, opened):
    weights, text = os.urandom(3 * MIB), "ñandú".encode()
    bucket.put("listed/j-1/weights.safetensors", weights)
    bucket.put("listed/j-1/samples/a+b ü.txt", text)
    bucket.put("listed/j-12/other.txt", b"another job's")
    shelf = opened("listed/j-1")

    files = {file.key: file for file in shelf.files()}

    assert {key: file.size_bytes for key, file in files.items()} == {"weights.safetensors": 3 * MIB, "samples/a+b ü.txt": len(text)}
    assert [len(piece) for piece in shelf.pieces(files["weights.safetensors"])] == [MIB, MIB, MIB]
    assert digest(shelf, files["samples/a+b ü.txt"]) == hashlib.sha256(text).hexdigest()
    assert b"".join(shelf.pieces(files["weights.safetensors"], first_bytes=8)) == weights[:8]


def test_a_result_of_many_files_is_listed_whole(tmp_path):
    folder = tmp_path / "results" / "j-1"
    folder.mkdir(parents=True)
    for number in range(1100):
        (folder / f"{number}.txt").write_bytes(b"x")

    with serving_s3(tmp_path, free_port()) as many:
        shelf = Bucket(
            Place.of(elsewhere.place(many)), prefix="j-1", access_key=many.access_key, secret_key=many.secret_key, outbound=Outbound()
        )
        keys = [file.key for file in shelf.files()]
        shelf.__exit__()

    assert (len(keys), len(set(keys))) == (1100, 1100)


def test_a_large_file_is_read_in_constant_memory(tmp_path):
    content = os.urandom(MIB) * 64
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "large").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    del content

    with serving_s3(tmp_path, free_port()) as service:
        keys = {"access_key": service.access_key, "secret_key": service.secret_key}
        with Bucket(Place.of(elsewhere.place(service)), prefix="", **keys) as shelf:
            [file] = shelf.files()
            tracemalloc.start()
            found = digest(shelf, file)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()

    assert (found, peak < 16 * MIB) == (expected, True)


def test_a_service_that_keeps_a_sha256_of_the_whole_is_believed():
    whole = ("n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=", "FULL_OBJECT")
    of_parts = ("n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=-2", "COMPOSITE")

    found = []
    for value, kind in (whole, of_parts):
        with elsewhere.answering((200, "", {"x-amz-checksum-sha256": value, "x-amz-checksum-type": kind})) as service, at(service) as shelf:
            found.append(shelf.sha256_of(File(key="a", size_bytes=4, tag="")))

    assert found == [hashlib.sha256(b"test").hexdigest(), ""]


def test_a_file_that_is_shorter_than_listed_is_read_again_later(bucket, opened):
    bucket.put("short/a", b"1234")

    with pytest.raises(Unreachable, match="a was listed with 5 bytes, and 4 came"):
        digest(opened("short"), File(key="a", size_bytes=5, tag=""))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (elsewhere.safetensors(1000), ""),
        (elsewhere.safetensors(1000)[:-1], "w.safetensors is not whole: it has 1107 bytes, and its header says 1108."),
        (elsewhere.safetensors(1000) + b"x", "w.safetensors is not whole: it has 1109 bytes, and its header says 1108."),
        (elsewhere.safetensors(1000)[:20], "w.safetensors is cut off: it ends within its own header."),
        (b"", "w.safetensors is no safetensors file."),
        (b"<html>proxy says no</html>", "w.safetensors is no safetensors file."),
        ((9).to_bytes(8, "little") + b"not json!", "w.safetensors is no safetensors file."),
        ((2).to_bytes(8, "little") + b"[]", "w.safetensors is no safetensors file."),
    ],
)
def test_a_safetensors_file_is_measured_by_its_own_header(bucket, opened, content, problem):
    bucket.put("measured/w.safetensors", content)
    shelf = opened("measured")
    [file] = shelf.files()

    assert safetensors.problem(shelf, file) == problem


# --- What is in the way -----------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there_and_keys_that_are_wrong_are_told_apart(opened):
    with pytest.raises(Missing, match="There is no bucket nowhere there"):
        list(opened(name="nowhere").files())
    with pytest.raises(BadKey, match=r"refuses the key \(403\): its service does not know the access key"):
        list(opened(access_key="AKOTHER").files())
    with pytest.raises(BadKey, match=r"refuses the key \(403\): the secret does not belong to the access key"):
        list(opened(secret_key="wrong").files())


def at(service, *, outbound=Outbound(timeout_seconds=5), key="AK", **other):  # noqa: B008
    place = Place(bucket="results", endpoint_url=service if isinstance(service, str) else service.url, use_path_style=True, **other)
    return Bucket(place, prefix="", access_key=key, secret_key="word", outbound=outbound, attempts=1)


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (elsewhere.refusal("AccessDenied"), Forbidden, "The bucket refuses the key (403)."),
        (
            elsewhere.refusal("RequestTimeTooSkewed"), Refused,
            "The bucket refuses the key (403): this server's clock and the service's differ.",
        ),
        (
            elsewhere.refusal("AuthorizationHeaderMalformed", 400), Refused,
            "The bucket results lies in another region than us-east-1, or at another address.",
        ),
        (
            elsewhere.refusal("PermanentRedirect", 301), Refused,
            "The bucket results lies in another region than us-east-1, or at another address.",
        ),
        (elsewhere.refusal("SlowDown", 503), Unreachable, "The bucket's service does not answer properly for now (503)."),
        ((502, "<html>", {}), Unreachable, "The bucket's service does not answer properly for now (502)."),
        (elsewhere.refusal("MethodNotAllowed", 405), Refused, "The bucket's service said no (405 MethodNotAllowed)."),
    ],
)  # fmt: skip
def test_every_no_has_a_plain_reason(answer, kind, says):
    with elsewhere.answering(answer) as service, at(service) as shelf, pytest.raises(kind) as error:
        list(shelf.files())

    assert str(error.value) == says


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # which the team asked for
def test_nobody_there_no_answer_and_no_trust_are_worth_another_try(tmp_path):
    make_certificate(tmp_path)
    certificate = (tmp_path / "cert.pem", tmp_path / "key.pem")
    with at(f"http://127.0.0.1:{free_port()}") as gone, pytest.raises(Unreachable, match="cannot be reached"):
        list(gone.files())
    with serving_s3(tmp_path / "s3", free_port(), certificate=certificate) as tls:
        keys = {"access_key": tls.access_key, "secret_key": tls.secret_key, "attempts": 1}
        where = Place.of(elsewhere.place(tls))
        with Bucket(where, prefix="", **keys) as strict, pytest.raises(Unreachable, match="is not trusted by this server"):
            list(strict.files())
        with Bucket(where, prefix="", outbound=Outbound(ca_bundle=str(certificate[0])), **keys) as trusting:
            assert list(trusting.files()) == []
        with Bucket(where, prefix="", outbound=Outbound(verify=False), **keys) as lax:
            assert list(lax.files()) == []


def test_silence_ends_with_the_teams_time_out(silent):
    with at(silent, outbound=HASTY) as shelf, pytest.raises(Unreachable, match="does not answer in time"):
        list(shelf.files())


def test_the_teams_proxy_carries_the_call(bucket, opened):
    with elsewhere.answering((200, "<ListBucketResult></ListBucketResult>", {})) as proxy:
        shelf = opened(endpoint_url="http://s3.example.invalid", outbound=Outbound(proxy_url=proxy.url))

        assert list(shelf.files()) == []

    assert proxy.asked[0][1].startswith("http://s3.example.invalid/results?list-type=2")


def test_a_proxy_that_is_away_and_one_of_a_kind_that_cannot_be_used_say_so():
    away = f"http://me:secret@127.0.0.1:{free_port()}"
    with at("http://s3.example.invalid", outbound=Outbound(proxy_url=away)) as shelf, pytest.raises(Unreachable) as error:
        list(shelf.files())
    with pytest.raises(Unreachable, match="http and https proxies only"):
        at("http://s3.example.invalid", outbound=Outbound(proxy_url="socks5://127.0.0.1:1"))

    assert str(error.value) == "The outbound proxy cannot be reached."


def test_the_machines_own_keys_files_and_variables_never_count(bucket, opened, monkeypatch, tmp_path):
    bucket.put("machine/a", b"1")
    (tmp_path / "config").write_text("[default]\nregion = eu-north-1\ns3 =\n  addressing_style = virtual\n")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKMACHINE",
        "AWS_SECRET_ACCESS_KEY": "machine",
        "AWS_SESSION_TOKEN": "machine",
        "AWS_PROFILE": "nobody",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_CA_BUNDLE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)

    assert [file.key for file in opened("machine").files()] == ["a"]
    assert Place(bucket="x").endpoint_url is None
    with Bucket(Place(bucket="results"), prefix="", access_key="AK", secret_key="word") as aws:
        assert aws._s3.meta.endpoint_url == "https://s3.amazonaws.com"
    with pytest.raises(Refused, match="keys of the bucket are not there"):
        opened(access_key="", secret_key="")


def test_an_address_names_the_file_as_its_service_does():
    minio = Place(bucket="results", endpoint_url="https://minio.example/", path_prefix="a b")

    assert minio.address_of(minio.prefix_of("j-1")) == "https://minio.example/results/a%20b/j-1/"
    assert Place(bucket="results", region="eu-west-1").address_of("j-1") == "https://results.s3.eu-west-1.amazonaws.com/j-1/"
    assert Place(bucket="re.sults", region="eu-west-1").address_of("j-1") == "https://s3.eu-west-1.amazonaws.com/re.sults/j-1/"
