"""The XML that S3 clients send and read.

Source: Amazon S3 API Reference, the response syntax of each action.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from django.http import HttpRequest, HttpResponse

from accounts.errors import Refusal
from jobs.models import MultipartPart, MultipartUpload
from jobs.storage.access import UNTELLABLE
from jobs.storage.errors import MalformedXML, StorageFull
from jobs.storage.listing import Page, Query
from jobs.storage.multipart import Asked

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
TYPE = "application/xml"


def response(root: Element, *, status: int = 200) -> HttpResponse:
    return HttpResponse(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True), content_type=TYPE, status=status)


def error(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    """A refusal in S3's words."""
    word = getattr(refusal, "word", "InvalidRequest")
    answer = error_answer(request, word=word, message=f"{refusal.detail} {refusal.hint}".strip(), status=refusal.status)
    if "retry_after" in refusal.details:
        answer["Retry-After"] = str(refusal.details["retry_after"])
    return answer


def error_answer(request: HttpRequest, *, word: str, message: str, status: int) -> HttpResponse:
    """S3's error document; an answer to HEAD has none."""
    if request.method == "HEAD":
        return HttpResponse(status=status, content_type=TYPE)
    document = Element("Error")
    add(document, Code=word, Message=message, Resource=request.path, RequestId=getattr(request, "correlation_id", ""))
    return response(document, status=status)


def full_disk(path: str) -> bytes:
    """The error document for a disk that is full, where there is no request to answer yet."""
    document = Element("Error")
    add(document, Code=StorageFull.word, Message="The server's disk is full. Nothing was stored.", Resource=path)
    return ElementTree.tostring(document, encoding="utf-8", xml_declaration=True)


def root(name: str, **fields: object) -> Element:
    """An element of S3's name space with plain fields, in order."""
    element = Element(name, {"xmlns": NAMESPACE})
    add(element, **fields)
    return element


def add(element: Element, **fields: object) -> None:
    for name, value in fields.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        SubElement(element, name).text = _clean(text)


def moment(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


def bucket_list(page: Page, query: Query, *, bucket: str, is_second: bool, is_encoded: bool) -> HttpResponse:
    """ListBucketResult, in the form of ListObjectsV2 or of ListObjects; names are percent-encoded if the client asked so."""

    def named(name: str) -> str:
        return quote(name, safe="/") if is_encoded else name

    result = root("ListBucketResult", Name=bucket, Prefix=named(query.prefix), MaxKeys=query.max_keys, IsTruncated=page.is_truncated)
    if query.delimiter:
        add(result, Delimiter=named(query.delimiter))
    if is_encoded:
        add(result, EncodingType="url")
    if is_second:
        add(result, KeyCount=page.count, **({"ContinuationToken": query.token} if query.token else {"StartAfter": named(query.after)}))
    else:
        add(result, Marker=named(query.after))
    if page.is_truncated:
        add(result, **({"NextContinuationToken": page.next_token} if is_second else {"NextMarker": named(page.last)}))
    for described in page.objects:
        contents = SubElement(result, "Contents")
        add(contents, Key=named(described.name), LastModified=moment(described.modified_at), ETag=f'"{described.etag}"')
        add(contents, Size=described.size, StorageClass="STANDARD")
    for prefix in page.prefixes:
        add(SubElement(result, "CommonPrefixes"), Prefix=named(prefix))
    return response(result)


def part_list(bucket: str, name: str, upload: MultipartUpload, parts: Sequence[MultipartPart], *, limit: int) -> HttpResponse:
    shown = parts[:limit]
    result = root("ListPartsResult", Bucket=bucket, Key=name, UploadId=upload.upload_id, StorageClass="STANDARD", MaxParts=limit)
    add(result, IsTruncated=len(parts) > limit)
    if len(parts) > limit and shown:
        add(result, NextPartNumberMarker=shown[-1].number)
    for part in shown:
        add(
            SubElement(result, "Part"),
            PartNumber=part.number,
            ETag=f'"{part.etag}"',
            Size=part.size_bytes,
            LastModified=moment(upload.started_at),
        )
    return response(result)


def parts_asked(document: bytes) -> list[Asked]:
    """The parts that a CompleteMultipartUpload document names. Raises MalformedXML."""
    if b"<!" in document:  # neither entities nor comments belong here
        raise MalformedXML("The document must not contain declarations or comments.")
    try:
        parsed = ElementTree.fromstring(document)  # noqa: S314 - no declarations, so no entities
        parts = [
            Asked(int(part.findtext("{*}PartNumber", "").strip()), part.findtext("{*}ETag", "").strip().strip('"'))
            for part in parsed.findall("{*}Part")
        ]
    except (ElementTree.ParseError, ValueError) as problem:
        raise MalformedXML("The document is not a list of parts as S3 describes it.") from problem
    if not parts:
        raise MalformedXML("The document names no part.")
    return parts


def _clean(text: str) -> str:
    """Text that XML can carry."""
    return UNTELLABLE.sub("\ufffd", text)
