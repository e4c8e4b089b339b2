"""How the endpoint answers S3 clients: signed requests in, XML out. Each action is S3's of the same name.

Source: Amazon S3 API Reference, "Actions".
"""

import structlog
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone

from accounts.errors import Refusal
from jobs.models import Job
from jobs.storage import access, checksums, datasets, listing, multipart, objects, serving, xml
from jobs.storage.access import Grant
from jobs.storage.body import Body
from jobs.storage.errors import AccessDenied, BucketExists, MethodNotAllowed, NotOffered, StorageRefusal
from jobs.storage.keys import DATASETS
from jobs.storage.objects import MAX_OBJECT_BYTES, StoredObject

log = structlog.get_logger(__name__)

LONGEST_DOCUMENT_BYTES = 8 * 1024 * 1024
LONGEST_METADATA_BYTES = 2048
META = "x-amz-meta-"
# Parts of S3 that change what a request means and that are not kept here.
NOT_OFFERED = frozenset(
    """
    accelerate acl analytics attributes cors delete encryption intelligent-tiering inventory legal-hold lifecycle
    logging metrics notification object-lock ownershipControls policy policyStatus publicAccessBlock renameObject
    replication requestPayment restore retention select tagging torrent versionId versioning versions website
    """.split()  # noqa: SIM905 - a list would take a line for each word
)


def answer(request: HttpRequest, bucket: str, name: str) -> HttpResponseBase:
    """Answer a signed request, refusals included."""
    try:
        grant = access.by_signature(request, now=timezone.now())
        unknown = NOT_OFFERED & set(request.GET)
        if unknown:
            raise NotOffered(f"{', '.join(sorted(unknown))} is not offered by this storage.")
        if name:
            return _object(request, grant, bucket, name)
        return _bucket(request, grant, bucket) if bucket else _service(request, grant)
    except Refusal as refusal:
        log.warning("storage.refused", status=refusal.status, reason=getattr(refusal, "word", refusal.code))
        return xml.error(request, refusal)
    except DatabaseError:
        log.exception("storage.failed")
        return xml.error_answer(
            request, word="ServiceUnavailable", message="The database cannot be reached. Try again in a moment.", status=503
        )


def _service(request: HttpRequest, grant: Grant) -> HttpResponse:
    """ListBuckets: the one that the key opens."""
    if request.method not in {"GET", "HEAD"}:
        raise _no_such_method(request)
    result = xml.root("ListAllMyBucketsResult")
    xml.add(xml.SubElement(result, "Owner"), ID=grant.pair.access_key, DisplayName=grant.job.job_id)
    buckets = xml.SubElement(result, "Buckets")
    xml.add(xml.SubElement(buckets, "Bucket"), Name=grant.pair.bucket, CreationDate=xml.moment(grant.pair.created_at))
    return xml.response(result)


def _bucket(request: HttpRequest, grant: Grant, bucket: str) -> HttpResponse:
    grant.require_bucket(bucket)
    if request.method == "HEAD":
        return HttpResponse(headers={"x-amz-bucket-region": "us-east-1"}, content_type=xml.TYPE)
    if request.method == "PUT":
        raise BucketExists("The bucket is there already.")
    if request.method != "GET":
        raise _no_such_method(request)
    if "location" in request.GET:
        return xml.response(xml.root("LocationConstraint"))
    if "uploads" in request.GET:
        raise NotOffered("Listing uploads is not offered by this storage.")
    return _list(request, grant)


def _list(request: HttpRequest, grant: Grant) -> HttpResponse:
    """ListObjectsV2, or ListObjects for clients that ask for no version. Shows what lies below the key's own prefix."""
    is_second = request.GET.get("list-type") == "2"
    query = listing.Query.read(request.GET, marker="start-after" if is_second else "marker")
    if not (query.prefix.startswith(grant.pair.prefix) or grant.pair.prefix.startswith(query.prefix)):
        raise AccessDenied(f"This key opens {grant.pair.bucket}/{grant.pair.prefix} only.")
    if grant.pair.bucket == DATASETS:
        listed = datasets.listed(grant.job, prefix=query.prefix, after=query.after)
    else:
        listed = objects.listed(Job.objects.filter(pk=grant.job.pk), prefix=query.prefix, after=query.after)
    page = listing.page(listed, query)
    is_encoded = request.GET.get("encoding-type") == "url"
    return xml.bucket_list(page, query, bucket=grant.pair.bucket, is_second=is_second, is_encoded=is_encoded)


def _object(request: HttpRequest, grant: Grant, bucket: str, name: str) -> HttpResponseBase:
    key = grant.require(bucket, name)
    if request.method in {"GET", "HEAD"} and "uploadId" not in request.GET:
        return serving.answer(request, find(grant, key))
    if bucket == DATASETS:
        raise AccessDenied("The dataset can only be read.")
    upload_id = request.GET.get("uploadId")
    if upload_id is not None:
        return _upload(request, grant, name, key, upload_id)
    if request.method == "POST" and "uploads" in request.GET:
        upload = multipart.begin(grant.pair, key, content_type=content_type(request), metadata=metadata(request))
        return xml.response(xml.root("InitiateMultipartUploadResult", Bucket=bucket, Key=name, UploadId=upload.upload_id))
    if request.method == "DELETE":
        objects.delete(grant.pair, key)
        return HttpResponse(status=204)
    if request.method != "PUT":
        raise _no_such_method(request)
    _refuse_copy(request)
    body = Body(request, payload=grant.payload, signer=grant.signer, limit=MAX_OBJECT_BYTES)
    artifact = objects.put(
        grant.pair, key, body, content_type=content_type(request), metadata=metadata(request), only_if_absent=only_if_absent(request)
    )
    return HttpResponse(headers={"ETag": f'"{artifact.etag}"', **body.verified})


def _upload(request: HttpRequest, grant: Grant, name: str, key: str, upload_id: str) -> HttpResponse:
    """UploadPart, CompleteMultipartUpload, AbortMultipartUpload, ListParts."""
    upload = multipart.find(grant.pair, key, upload_id)
    if request.method == "PUT":
        _refuse_copy(request)
        number = multipart.part_number(request.GET.get("partNumber", ""))
        body = Body(request, payload=grant.payload, signer=grant.signer, limit=multipart.MAX_PART_BYTES)
        part = multipart.add_part(upload, number, body)
        return HttpResponse(headers={"ETag": f'"{part.etag}"', **body.verified})
    if request.method == "POST":
        # Checksum headers speak of the object here, and not of this request's body.
        body = Body(request, payload=grant.payload, signer=grant.signer, limit=LONGEST_DOCUMENT_BYTES, has_digests=False)
        asked = xml.parts_asked(b"".join(body))
        artifact = multipart.complete(upload, asked, digests=_digests_of_object(request), only_if_absent=only_if_absent(request))
        location = request.build_absolute_uri(request.path)
        etag = f'"{artifact.etag}"'
        return xml.response(xml.root("CompleteMultipartUploadResult", Location=location, Bucket=grant.pair.bucket, Key=name, ETag=etag))
    if request.method == "DELETE":
        multipart.abort(upload)
        return HttpResponse(status=204)
    if request.method == "GET":
        after = request.GET.get("part-number-marker", "0")
        parts = [part for part in upload.parts.all() if part.number > (int(after) if after.isdecimal() else 0)]
        return xml.part_list(grant.pair.bucket, name, upload, parts, limit=listing.page_size(request.GET.get("max-parts", "")))
    raise _no_such_method(request)


def find(grant: Grant, key: str) -> StoredObject:
    """The object that the key pair's holder means. Raises NoSuchKey."""
    return (datasets if grant.pair.bucket == DATASETS else objects).find(grant.job, key)


def content_type(request: HttpRequest) -> str:
    given = request.headers.get("Content-Type", "")
    return given if given.isprintable() and 0 < len(given) <= 200 else "application/octet-stream"


def metadata(request: HttpRequest) -> dict[str, str]:
    """What the uploader says about the object. Raises StorageRefusal when it is too much."""
    found = {name.lower().removeprefix(META): value for name, value in request.headers.items() if name.lower().startswith(META)}
    if sum(len(name) + len(value) for name, value in found.items()) > LONGEST_METADATA_BYTES:
        raise StorageRefusal(f"The metadata headers have more than {LONGEST_METADATA_BYTES} bytes.")
    return found


def only_if_absent(request: HttpRequest) -> bool:
    """Raises NotOffered for other conditions on writing."""
    if "If-Match" in request.headers or request.headers.get("If-None-Match", "*").strip() != "*":
        raise NotOffered("For writing the only condition is If-None-Match: *.")
    return "If-None-Match" in request.headers


def _digests_of_object(request: HttpRequest) -> dict[str, bytes]:
    """Checksums of the whole object in a call that completes it; those over the parts' checksums say nothing about the object."""
    if request.headers.get("x-amz-checksum-type", "").upper() != "FULL_OBJECT":
        return {}
    found = {}
    for name, value in request.headers.items():
        short = name.lower().removeprefix(checksums.HEADER)
        if name.lower().startswith(checksums.HEADER) and short not in checksums.NOT_DIGESTS:
            algorithm = checksums.algorithm_of(name)
            found[algorithm] = checksums.decode(algorithm, value)
    return found


def _refuse_copy(request: HttpRequest) -> None:
    if "x-amz-copy-source" in request.headers:
        raise NotOffered("Copying within the storage is not offered.", hint="Download the object and upload it under its new name.")


def _no_such_method(request: HttpRequest) -> MethodNotAllowed:
    return MethodNotAllowed(f"{request.method} is not possible here.")
