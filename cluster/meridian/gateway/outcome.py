"""What is known of an exchange when it is over, and who wants to hear it."""

from dataclasses import dataclass
from typing import Protocol

from meridian.gateway.stream import Peer
from meridian.telemetry.spans import SpanRecord


@dataclass(slots=True)
class Outcome:
    """One exchange, over. Not frozen only because a frozen one costs a microsecond more; nobody changes it."""

    peer: Peer
    client: str  # address; behind a trusted proxy the one that proxy names
    method: bytes
    authority: bytes
    target: bytes
    version: bytes
    request_id: bytes
    trace_id: bytes  # 16 bytes, or b"" if the exchange belongs to no trace
    status: int  # 499 if the client left first
    why: str  # "" if all went well, else answers.Failure.why, "client_gone", or answers.CUT and why
    route: str  # "" if none
    upstream: str
    endpoint: str  # address of the last try
    tries: int
    started: float  # worker's clock
    duration_seconds: float
    first_byte_seconds: float  # to the head of the response; 0.0 if none came
    request_body_bytes: int
    response_body_bytes: int
    config_version: int
    verdict_version: int
    verdict_fallback: int  # what this node merged itself upon that version; 0 while a leader is heard


def is_ordinary(status: int, tries: int) -> bool:
    """Whether an exchange with this end went as it should: an access log that keeps only the others drops it."""
    return 0 < status < 500 and tries <= 1


class Reports(Protocol):
    """Sinks of what happened here. Called on the worker's loop for every exchange (of a quiet gateway: for those that
    are not ordinary, and those that are traced): synchronous, and cheap."""

    def on_outcome(self, outcome: Outcome) -> None:
        """An exchange is over; the access log is made from this."""

    def on_span(self, span: SpanRecord) -> None:
        """A span of a sampled exchange has ended."""


class Silent:
    """Reports that go nowhere."""

    def on_outcome(self, outcome: Outcome) -> None:
        """Drops it."""

    def on_span(self, span: SpanRecord) -> None:
        """Drops it."""
