"""Logs: one line an event, as JSON, with secrets scrubbed whoever wrote them."""

import re
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# What a secret looks like: Replicate's and the Hub's tokens, our own tokens and storage keys, webhook
# secrets, authorization headers, presigned queries, links of invites and approvals, and passwords inside URLs.
SECRETS = re.compile(
    r"r8_[A-Za-z0-9]{8,}"
    r"|hf_[A-Za-z0-9]{8,}"
    r"|th_[A-Za-z0-9]{20,}"
    r"|whsec_[A-Za-z0-9+/=]{8,}"
    r"|(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=X-Amz-Signature=)[0-9a-f]{16,}"
    r"|(?<=Signature=)[0-9a-f]{40,}"
    r"|(?<=/invites/)[A-Za-z0-9_-]{16,}"
    r"|(?<=/approvals/by-mail/)[A-Za-z0-9_:-]{16,}"
    r"|(?<=callback=)[A-Za-z0-9_-]{16,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
SECRET_FIELDS = re.compile(
    r"(password|passwd|passphrase|secret|token|authorization|cookie|credential|(api|access|secret|private|signing|callback|encryption)[_-]?key)s?$",
    re.IGNORECASE,
)
SCRUBBED = "[scrubbed]"


def scrub(value: Any) -> Any:
    """The same value with everything that looks like a secret replaced, at any depth."""
    if isinstance(value, str):
        return SECRETS.sub(SCRUBBED, value)
    if isinstance(value, dict):
        return {key: SCRUBBED if SECRET_FIELDS.search(str(key)) and item else scrub(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    return value


def scrub_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor; it runs after tracebacks became text."""
    return {key: scrub(item) if not SECRET_FIELDS.search(key) else SCRUBBED for key, item in event.items()}


def configure(*, level: str, as_json: bool) -> dict[str, Any]:
    """Set structlog up and answer Django's LOGGING: both kinds of line leave by one formatter."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    printer: Processor = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "events": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [*shared, structlog.stdlib.PositionalArgumentsFormatter()],
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    scrub_event,
                    printer,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "events"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
            "botocore": {"level": "WARNING"},
            "urllib3": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
            "django.server": {"level": "WARNING"},
        },
    }
