"""The access log: one JSON line per request on stderr.

A record has no field for a header's value, a cookie, a query string or a body: what is not there cannot leak.
"""

from collections.abc import Callable

import msgspec

from meridian.telemetry.line_log import LineLog

PATH_CHARACTERS_MAX = 1024  # so that one line rarely exceeds what a pipe takes at once


class AccessRecord(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="log", tag="access"
):
    """One exchange, over. What kept its default is left out of the line."""

    time: str  # RFC 3339, UTC, when the request head was complete
    request_id: str
    client: str  # address
    protocol: str  # "1.1", "2", "3"
    method: str
    host: str
    path: str  # see `path_of`
    status: int  # 0 if the client went before an answer
    duration_seconds: float
    request_body_bytes: int = 0
    response_body_bytes: int = 0
    route: str = ""
    upstream: str = ""
    endpoint: str = ""
    tries: int = 0
    why: str = ""  # of an answer made here, or of a cut one
    trace_id: str = ""
    config_version: int = 0
    verdict_version: int = 0
    verdict_fallback: int = 0  # what this node merged itself upon that version


def path_of(target: bytes) -> str:
    """The path of a request target for the log: without the query, which may hold secrets, and cut to a length."""
    return target.partition(b"?")[0][:PATH_CHARACTERS_MAX].decode("latin-1")


class AccessLog(LineLog):
    """A worker's access log."""

    def __init__(
        self, write: Callable[[memoryview], int], *, sample_ratio: float = 1.0, draw: Callable[[], float] = lambda: 0.0
    ) -> None:
        """`write` takes what it can and returns the number of bytes; `draw` gives chance in [0, 1).

        Of requests that went well the part `sample_ratio` is logged; 5xx, cut answers and retried ones always are.
        """
        super().__init__(write)
        self._sample_ratio = sample_ratio
        self._draw = draw

    def log(self, record: AccessRecord) -> None:
        """Takes one record, if it is to be logged."""
        ordinary = 0 < record.status < 500 and record.tries <= 1
        if ordinary and self._sample_ratio < 1.0 and self._draw() >= self._sample_ratio:
            return
        self.put(record)
