"""Unmodified boto3 against the endpoint, under WSGI and ASGI."""

import base64
import hashlib
import io
import os
import zlib
from datetime import timedelta

import httpx
import pytest
from botocore.exceptions import ClientError
from django.utils import timezone

from accounts.models import AuditLine
from jobs.models import Artifact, MultipartPart, MultipartUpload
from jobs.storage import keys
from tests.jobs.factories import JobFactory

MIB = 1024 * 1024
ODD_NAMES = [
    "a b.txt",
    "a+b.txt",
    "ñandú/日本.txt",
    "100%.txt",
    "a&b=c?d.txt",
    "(x)'!*~.txt",
    "a:b@c,d;e.txt",
    "sp ace/plus+/ü.txt",
    ".hidden",
    "全角\u3000空白.txt",
]


def stored(server, artifact):
    return (server.outputs / artifact.stored_as).read_bytes()


def leftovers(server):
    """Files that nobody was told of: staged ones and parts."""
    return [path for folder in (".incoming", ".multipart") for path in (server.outputs / folder).rglob("*") if path.is_file()]


def refused(call, **arguments):
    """Status and code of the refusal that a call must meet."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


@pytest.mark.parametrize("size", [MIB, 12 * MIB])
def test_a_file_comes_in_and_out_as_it_was_sent(server, s3, job, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "sent").write_bytes(data)

    s3.upload_file(str(tmp_path / "sent"), "outputs", f"{job.job_id}/pytorch_lora_weights.safetensors")
    s3.download_file("outputs", f"{job.job_id}/pytorch_lora_weights.safetensors", str(tmp_path / "back"))

    artifact = Artifact.objects.get()
    assert (artifact.key, artifact.kind, artifact.size_bytes) == ("pytorch_lora_weights.safetensors", "weights", size)
    assert artifact.sha256 == hashlib.sha256(data).hexdigest()
    assert artifact.stored_as == f"{job.team.slug}/{job.job_id}/pytorch_lora_weights.safetensors"
    assert stored(server, artifact) == data
    assert (tmp_path / "back").read_bytes() == data
    assert leftovers(server) == []


def test_the_first_file_of_a_job_is_told_once(server, s3, job):
    for name in ("one", "two"):
        s3.put_object(Bucket="outputs", Key=f"{job.job_id}/{name}", Body=b"x")

    assert AuditLine.objects.filter(event_type="job.artifact_received", target_id=job.job_id).count() == 1
    assert [event.detail for event in job.events.filter(cause="storage")] == ["The first file of the result came in: one"]


def test_every_checksum_of_boto3_is_checked_and_answered(server, s3, job):
    for algorithm in ("CRC32", "SHA1", "SHA256", "SHA512"):
        answer = s3.put_object(Bucket="outputs", Key=f"{job.job_id}/x", Body=io.BytesIO(b"checked"), ChecksumAlgorithm=algorithm)

        expected = zlib.crc32(b"checked").to_bytes(4, "big") if algorithm == "CRC32" else hashlib.new(algorithm, b"checked").digest()
        answered = answer["ResponseMetadata"]["HTTPHeaders"][f"x-amz-checksum-{algorithm.lower()}"]
        assert answered == base64.b64encode(expected).decode()
        assert answer["ETag"] == f'"{hashlib.md5(b"checked", usedforsecurity=False).hexdigest()}"'


def test_a_body_with_another_checksum_than_announced_is_not_stored(server, s3, job):
    for given in ({"ChecksumCRC32": "AAAAAA=="}, {"ContentMD5": base64.b64encode(bytes(16)).decode()}):
        status = refused(s3.put_object, Bucket="outputs", Key=f"{job.job_id}/x", Body=b"not that", **given)

        assert status == (400, "BadDigest")
    assert not Artifact.objects.exists()
    assert leftovers(server) == []


def test_odd_names_come_back_as_they_went(server, s3, job):
    names = sorted(f"{job.job_id}/{name}" for name in ODD_NAMES)
    for name in names:
        s3.put_object(Bucket="outputs", Key=name, Body=name.encode())

    listed = s3.list_objects_v2(Bucket="outputs", Prefix=f"{job.job_id}/")

    assert [item["Key"] for item in listed["Contents"]] == names
    assert [s3.get_object(Bucket="outputs", Key=name)["Body"].read().decode() for name in names] == names
    assert sorted(artifact.key for artifact in Artifact.objects.all()) == sorted(ODD_NAMES)
    for name in names:
        s3.delete_object(Bucket="outputs", Key=name)
    assert not Artifact.objects.exists()


def test_presigned_addresses_open_one_object_for_one_method(server, pair, s3_of, job):
    s3 = s3_of(server.url, pair, signature_version="s3v4")
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/a +ñ.txt"}

    put = httpx.put(s3.generate_presigned_url("put_object", Params=place), content=b"presigned", trust_env=False)
    address = s3.generate_presigned_url("get_object", Params=place)

    assert (put.status_code, put.content) == (200, b"")
    got = httpx.get(address, trust_env=False)
    assert (got.status_code, got.content) == (200, b"presigned")
    assert got.headers["content-disposition"].startswith("attachment")
    assert httpx.delete(address, trust_env=False).status_code == 403
    assert httpx.get(address.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200"), trust_env=False).status_code == 403


def test_a_presigned_address_ends(server, pair, s3_of, job):
    s3 = s3_of(server.url, pair, signature_version="s3v4")
    address = s3.generate_presigned_url("get_object", Params={"Bucket": "outputs", "Key": f"{job.job_id}/x"}, ExpiresIn=0)

    answer = httpx.get(address, trust_env=False)

    assert answer.status_code in {400, 403}


def test_a_presigned_address_of_version_2_is_refused_with_a_hint(server, pair, s3_of, job):
    s3 = s3_of(server.url, pair, signature_version="s3")
    address = s3.generate_presigned_url("get_object", Params={"Bucket": "outputs", "Key": f"{job.job_id}/x"})
    assert "AWSAccessKeyId" in address

    answer = httpx.get(address, trust_env=False)

    assert answer.status_code == 501
    assert "signature_version='s3v4'" in answer.text


def test_an_object_is_replaced_and_its_row_with_it(server, s3, job):
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/x"}
    s3.put_object(**place, Body=b"first")

    s3.put_object(**place, Body=b"second", Metadata={"mtime": "17"})

    artifact = Artifact.objects.get()
    assert (stored(server, artifact), artifact.sha256) == (b"second", hashlib.sha256(b"second").hexdigest())
    assert s3.head_object(**place)["Metadata"] == {"mtime": "17"}
    assert leftovers(server) == []


def test_if_none_match_keeps_an_object_from_being_replaced(server, s3, job):
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/x"}
    s3.put_object(**place, Body=b"first", IfNoneMatch="*")

    assert refused(s3.put_object, **place, Body=b"second", IfNoneMatch="*") == (412, "PreconditionFailed")
    assert stored(server, Artifact.objects.get()) == b"first"


def test_a_deleted_object_is_gone_from_disk_and_may_be_deleted_again(server, s3, job):
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/deep/er/x"}
    s3.put_object(**place, Body=b"x")
    path = server.outputs / Artifact.objects.get().stored_as
    assert path.exists()

    s3.delete_object(**place)
    s3.delete_object(**place)

    assert not Artifact.objects.exists()
    assert AuditLine.objects.get(event_type="job.artifact_deleted").target_id == job.job_id
    assert not (server.outputs / job.team.slug / job.job_id).exists()
    assert refused(s3.get_object, **place) == (404, "NoSuchKey")
    assert refused(s3.head_object, **place) == (404, "404")


def test_parts_may_come_in_any_order_and_any_size(server, s3, job):
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/checkpoint-100/model.safetensors"}
    upload = s3.create_multipart_upload(**place, ContentType="application/x-model")["UploadId"]
    pieces = {3: b"c" * 10, 1: b"a" * 700_000, 2: b"b"}
    tags = {number: s3.upload_part(**place, UploadId=upload, PartNumber=number, Body=piece)["ETag"] for number, piece in pieces.items()}
    tags[2] = s3.upload_part(**place, UploadId=upload, PartNumber=2, Body=b"B")["ETag"]
    listed = s3.list_parts(**place, UploadId=upload)["Parts"]
    parts = [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]

    done = s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})

    whole = b"a" * 700_000 + b"B" + b"c" * 10
    md5s = b"".join(hashlib.md5(piece, usedforsecurity=False).digest() for piece in (b"a" * 700_000, b"B", b"c" * 10))
    assert done["ETag"] == f'"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-3"'
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, 700_000), (2, 1), (3, 10)]
    artifact = Artifact.objects.get()
    assert (artifact.kind, artifact.content_type) == ("checkpoint", "application/x-model")
    assert (artifact.sha256, stored(server, artifact)) == (hashlib.sha256(whole).hexdigest(), whole)
    assert not MultipartUpload.objects.exists()
    assert leftovers(server) == []


def test_an_upload_is_not_completed_with_parts_that_did_not_come(server, s3, job):
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/x"}
    upload = s3.create_multipart_upload(**place)["UploadId"]
    tag = s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"a")["ETag"]
    one, missing, wrong = {"PartNumber": 1, "ETag": tag}, {"PartNumber": 2, "ETag": tag}, {"PartNumber": 1, "ETag": '"0"'}

    def complete(*parts):
        return refused(s3.complete_multipart_upload, **place, UploadId=upload, MultipartUpload={"Parts": list(parts)})

    assert complete(one, missing) == (400, "InvalidPart")
    assert complete(wrong) == (400, "InvalidPart")
    assert complete(one, one) == (400, "InvalidPartOrder")
    assert complete() == (400, "MalformedXML")
    assert not Artifact.objects.exists()


def test_an_aborted_upload_leaves_nothing(server, s3, job):
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/x"}
    upload = s3.create_multipart_upload(**place)["UploadId"]
    s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"a")
    assert len(leftovers(server)) == 1

    s3.abort_multipart_upload(**place, UploadId=upload)

    assert refused(s3.upload_part, **place, UploadId=upload, PartNumber=2, Body=b"b") == (404, "NoSuchUpload")
    assert not MultipartPart.objects.exists()
    assert leftovers(server) == []


def test_a_list_is_cut_into_pages_and_grouped(server, s3, job):
    for name in ("a.txt", "b/1.txt", "b/2.txt", "c/1.txt", "d.txt"):
        s3.put_object(Bucket="outputs", Key=f"{job.job_id}/{name}", Body=b"x")
    asked = {"Bucket": "outputs", "Prefix": f"{job.job_id}/", "Delimiter": "/", "PaginationConfig": {"PageSize": 1}}

    for call in ("list_objects_v2", "list_objects"):
        pages = list(s3.get_paginator(call).paginate(**asked))

        names = [item["Key"] for page in pages for item in page.get("Contents", [])]
        groups = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
        assert names == [f"{job.job_id}/a.txt", f"{job.job_id}/d.txt"]
        assert groups == [f"{job.job_id}/b/", f"{job.job_id}/c/"]
        assert len(pages) == 4


def test_a_key_sees_its_own_bucket_and_prefix_only(server, s3, job, pair):
    s3.put_object(Bucket="outputs", Key=f"{job.job_id}/x", Body=b"x")
    other = JobFactory(team=job.team)

    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["outputs"]
    assert s3.head_bucket(Bucket="outputs")["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert s3.get_bucket_location(Bucket="outputs")["LocationConstraint"] is None
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="outputs")["Contents"]] == [f"{job.job_id}/x"]
    assert refused(s3.list_objects_v2, Bucket="outputs", Prefix=f"{other.job_id}/") == (403, "AccessDenied")
    assert refused(s3.list_objects_v2, Bucket="datasets") == (403, "AccessDenied")
    assert refused(s3.put_object, Bucket="outputs", Key=f"{other.job_id}/x", Body=b"x") == (403, "AccessDenied")
    assert refused(s3.get_object, Bucket="outputs", Key=f"{other.job_id}/x") == (403, "AccessDenied")
    assert refused(s3.put_object, Bucket="datasets", Key=f"{job.job_id}/x", Body=b"x") == (403, "AccessDenied")
    assert refused(s3.put_object, Bucket="nowhere", Key=f"{job.job_id}/x", Body=b"x") == (403, "AccessDenied")


def test_a_refusal_is_heard_while_a_large_body_is_being_sent(server, s3):
    assert refused(s3.put_object, Bucket="outputs", Key="j-elsewhere/x", Body=bytes(8 * MIB)) == (403, "AccessDenied")


def test_keys_that_are_wrong_or_over_open_nothing(server, s3_of, pair, job):
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/x", "Body": b"x"}
    assert refused(s3_of(server.url, pair, secret="x" * 40).put_object, **place) == (403, "SignatureDoesNotMatch")
    s3 = s3_of(server.url, pair)
    s3.put_object(**place)

    type(pair).objects.filter(pk=pair.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    expired = refused(s3.put_object, **place)
    type(pair).objects.filter(pk=pair.pk).update(expires_at=timezone.now() + timedelta(hours=1))
    keys.revoke(job, now=timezone.now())
    revoked = refused(s3.get_object, Bucket="outputs", Key=f"{job.job_id}/x")
    pair.access_key = "TH000000000000000000"
    unknown = refused(s3_of(server.url, pair).put_object, **place)

    assert (expired, revoked, unknown) == ((401, "ExpiredToken"), (401, "ExpiredToken"), (401, "InvalidAccessKeyId"))


def test_a_part_of_an_object_is_read_by_range(server, s3, job):
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/x"}
    tag = s3.put_object(**place, Body=b"0123456789")["ETag"]

    def part(asked):
        answer = s3.get_object(**place, Range=asked, IfMatch=tag)
        return answer["Body"].read(), answer["ContentRange"]

    assert part("bytes=2-4") == (b"234", "bytes 2-4/10")
    assert part("bytes=7-") == (b"789", "bytes 7-9/10")
    assert part("bytes=-2") == (b"89", "bytes 8-9/10")
    assert refused(s3.get_object, **place, Range="bytes=10-") == (416, "InvalidRange")
    assert refused(s3.get_object, **place, IfMatch='"other"') == (412, "PreconditionFailed")
    assert refused(s3.get_object, **place, IfNoneMatch=tag)[0] == 304
    assert s3.head_object(**place)["ContentLength"] == 10


def test_an_empty_object_is_stored_when_its_emptiness_is_signed(server, s3, job):
    s3.put_object(Bucket="outputs", Key=f"{job.job_id}/done.marker", Body=b"")

    artifact = Artifact.objects.get()
    assert (artifact.size_bytes, artifact.sha256, stored(server, artifact)) == (0, hashlib.sha256(b"").hexdigest(), b"")
    assert s3.get_object(Bucket="outputs", Key=f"{job.job_id}/done.marker")["Body"].read() == b""


def test_a_name_that_would_be_file_and_folder_is_refused(server, s3, job):
    s3.put_object(Bucket="outputs", Key=f"{job.job_id}/x", Body=b"x")
    s3.put_object(Bucket="outputs", Key=f"{job.job_id}/y/z", Body=b"x")

    assert refused(s3.put_object, Bucket="outputs", Key=f"{job.job_id}/x/deeper", Body=b"x") == (400, "InvalidArgument")
    assert refused(s3.put_object, Bucket="outputs", Key=f"{job.job_id}/y", Body=b"x") == (400, "InvalidArgument")
    assert Artifact.objects.count() == 2
    assert leftovers(server) == []


def test_what_is_not_offered_says_so(server, s3, job):
    place = {"Bucket": "outputs", "Key": f"{job.job_id}/x"}
    s3.put_object(**place, Body=b"x")

    assert refused(s3.get_object_acl, **place) == (501, "NotImplemented")
    assert refused(s3.copy_object, **place, CopySource=f"outputs/{job.job_id}/x") == (501, "NotImplemented")
    assert refused(s3.create_bucket, Bucket="outputs") == (409, "BucketAlreadyOwnedByYou")


def test_the_dataset_is_read_with_its_captions_and_never_written(server, s3_of, dataset_job):
    job, pair = dataset_job
    s3 = s3_of(server.url, pair)

    listed = s3.list_objects_v2(Bucket="datasets", Prefix=f"{job.job_id}/")["Contents"]

    assert [(item["Key"].partition("/")[2], item["Size"]) for item in listed] == [
        ("a b.jpg", 6),
        ("a b.txt", len("ein schöner Hund".encode())),
        ("cat.png", 4),
        ("cat.txt", 5),
    ]
    read = [s3.get_object(Bucket="datasets", Key=item["Key"])["Body"].read() for item in listed]
    assert read == [b"\xff\xd8dog!", "ein schöner Hund".encode(), b"\x89cat", b"a cat"]
    assert refused(s3.get_object, Bucket="datasets", Key=f"{job.job_id}/none.txt") == (404, "NoSuchKey")
    assert refused(s3.put_object, Bucket="datasets", Key=f"{job.job_id}/cat.txt", Body=b"x") == (403, "AccessDenied")
    assert refused(s3.delete_object, Bucket="datasets", Key=f"{job.job_id}/cat.txt") == (403, "AccessDenied")
    assert refused(s3.put_object, Bucket="outputs", Key=f"{job.job_id}/x", Body=b"x") == (403, "AccessDenied")
