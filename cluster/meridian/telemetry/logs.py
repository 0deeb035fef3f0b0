"""The agent's log: structlog, one JSON line per event on stderr, the same for libraries that use `logging`.

Values under a key that names a secret are replaced before a line is made, at any depth, so that a careless
`log.info("applying", request=...)` stays harmless.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

REDACTED = "[redacted]"

_SECRET_WORDS = frozenset(
    {"token", "key", "password", "passphrase", "secret", "authorization", "credential", "credentials", "cookie"}
)
_WORD = re.compile(r"[a-z0-9]+")
_DEPTH_MAX = 8  # deeper values are shown as text: nothing of ours nests so far, and a cycle must end


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Sets up structlog and `logging` of this process, once, at its start. `stream` is stderr if not given."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # tests configure more than once
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the same event without values whose key names a secret."""
    return {key: _redacted(key, value, 0) for key, value in event.items()}


def _redacted(key: str, value: Any, depth: int) -> Any:
    if key[:1] == "_":  # structlog's own: _record, _from_structlog
        return value
    if value is not None and not isinstance(value, bool) and _names_secret(key):
        return REDACTED
    return _without_secrets(value, depth + 1)


def _without_secrets(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return REDACTED if depth > _DEPTH_MAX else {k: _redacted(str(k), v, depth) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return REDACTED if depth > _DEPTH_MAX else [_without_secrets(item, depth + 1) for item in value]
    return value


def _names_secret(key: str) -> bool:
    """By whole words, so that `token_file` hides nothing new but `monkey` stays; `api-key` and `apiKey` are hidden."""
    words = _WORD.findall(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower())
    return not _SECRET_WORDS.isdisjoint(words) and words[-1] not in ("file", "path", "id")
