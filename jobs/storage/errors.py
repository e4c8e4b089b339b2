"""What the storage endpoint refuses. Each refusal carries S3's own word for it beside the API's code.

Source: Amazon S3 API Reference, "Error responses".
"""

from accounts.errors import Refusal


class StorageRefusal(Refusal):
    """The request makes no sense to a storage endpoint."""

    code = "invalid_input"
    status = 400
    word = "InvalidRequest"


class UnknownKey(StorageRefusal):
    code = "invalid_token"
    status = 401
    word = "InvalidAccessKeyId"


class KeyEnded(StorageRefusal):
    """The key pair was revoked or its time is over."""

    code = "invalid_token"
    status = 401
    word = "ExpiredToken"


class SignatureWrong(StorageRefusal):
    code = "invalid_signature"
    status = 403
    word = "SignatureDoesNotMatch"


class MalformedSignature(StorageRefusal):
    code = "invalid_signature"
    word = "AuthorizationHeaderMalformed"


class TimeTooSkewed(StorageRefusal):
    code = "invalid_signature"
    status = 403
    word = "RequestTimeTooSkewed"


class AccessDenied(StorageRefusal):
    code = "permission_denied"
    status = 403
    word = "AccessDenied"


class InvalidName(StorageRefusal):
    word = "InvalidArgument"


class NameTooLong(StorageRefusal):
    word = "KeyTooLongError"


class NoSuchKey(StorageRefusal):
    code = "not_found"
    status = 404
    word = "NoSuchKey"


class NoSuchUpload(StorageRefusal):
    code = "not_found"
    status = 404
    word = "NoSuchUpload"


class MethodNotAllowed(StorageRefusal):
    code = "method_not_allowed"
    status = 405
    word = "MethodNotAllowed"


class BucketExists(StorageRefusal):
    code = "conflict"
    status = 409
    word = "BucketAlreadyOwnedByYou"


class LengthMissing(StorageRefusal):
    status = 411
    word = "MissingContentLength"


class PreconditionFailed(StorageRefusal):
    code = "precondition_failed"
    status = 412
    word = "PreconditionFailed"


class TooLarge(StorageRefusal):
    code = "upload_too_large"
    status = 413
    word = "EntityTooLarge"


class RangeWrong(StorageRefusal):
    status = 416
    word = "InvalidRange"


class IncompleteBody(StorageRefusal):
    word = "IncompleteBody"


class EmptyBody(StorageRefusal):
    word = "MissingRequestBodyError"


class DigestInvalid(StorageRefusal):
    """The digest in a header is no digest."""

    word = "InvalidDigest"


class DigestWrong(StorageRefusal):
    """What came in is not what was announced."""

    word = "BadDigest"


class SignedHashWrong(StorageRefusal):
    word = "XAmzContentSHA256Mismatch"


class MalformedXML(StorageRefusal):
    word = "MalformedXML"


class InvalidPart(StorageRefusal):
    word = "InvalidPart"


class PartsOutOfOrder(StorageRefusal):
    word = "InvalidPartOrder"


class NotOffered(StorageRefusal):
    """S3 has it, we don't."""

    code = "not_implemented"
    status = 501
    word = "NotImplemented"


class SlowDown(StorageRefusal):
    """Too fast. S3's clients know the word, wait and ask again."""

    code = "rate_limit_exceeded"
    status = 503
    word = "SlowDown"


class StorageFull(StorageRefusal):
    code = "disk_full"
    status = 507
    word = "InsufficientStorage"
