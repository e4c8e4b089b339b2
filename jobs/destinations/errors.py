"""What a destination may answer instead. Each says in a sentence for people why; none quotes a key."""


class DestinationError(Exception):
    """The destination did not do what it was asked."""


class Unreachable(DestinationError):
    """It did not answer, or not now: the same call may succeed later."""


class Refused(DestinationError):
    """It knows us not, or the address is none: somebody must change a setting."""


class BadKey(Refused):
    """It does not accept the key or the token at all."""


class Forbidden(Refused):
    """It knows the key, and the key may not do this."""


class Missing(DestinationError):
    """The bucket, the repository or the file is not there."""
