"""One request of a run of load, and what is expected of its answer.

A `Pool` sends shots to one target. Exactly one of `complete` and `fail` settles a shot; what comes later is ignored.
What a pool may send again by itself: only a request that the server has said it did not process (REFUSED_STREAM or
beyond GOAWAY, RFC 9113 section 8.7; H3_REQUEST_REJECTED, RFC 9114 section 4.1.1). All else that goes wrong counts.
"""

import hashlib
import ssl
from asyncio import TaskGroup
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

SENT_AGAIN_MAX = 3  # a server that refuses everything must show as failing
BODY_KEPT_BYTES = 4096  # of each body, for `contains` and for the failure's detail

PROTOCOLS = ("h1", "h1s", "h2", "h3")  # h1s is HTTP/1.1 over TLS


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go: one of PROTOCOLS at an address (not a name: the generator must not depend on DNS)."""

    protocol: str
    address: str
    port: int

    def __str__(self) -> str:
        """As written on the command line."""
        return f"{self.protocol}={self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the right answer is. What is None is not looked at; a cut body is always wrong."""

    status: int = 200
    body_bytes: int | None = None
    sha256: str | None = None
    contains: bytes | None = None  # within the first BODY_KEPT_BYTES


@dataclass(frozen=True, slots=True)
class Route:
    """What every pool of one run shares: the authority asked for, whom TLS trusts, and the group its tasks live in."""

    host: str
    ca_file: str | None
    tasks: TaskGroup
    connect_timeout_seconds: float
    opened: Callable[[], None]  # a connection was opened
    sent_again: Callable[[], None]
    now: Callable[[], float]


def tls_context(route: Route, application_protocol: str) -> ssl.SSLContext:
    """Trusts `route.ca_file` (else the machine's authorities) and asks for one protocol by ALPN. Raises OSError."""
    context = ssl.create_default_context(cafile=route.ca_file)
    context.set_alpn_protocols([application_protocol])
    return context


class Shot:
    """One request under way. `settled` is called once, with a reason or None for a right answer."""

    __slots__ = (
        "_digest", "_kept", "_settled", "done", "expectation", "path", "received", "scheduled_at",
        "sent_again", "status", "target",
    )  # fmt: skip

    def __init__(
        self,
        target: Target,
        path: str,
        scheduled_at: float,
        expectation: Expectation,
        settled: Callable[["Shot", str | None, str], None],
    ) -> None:
        """A request for `path`, not sent yet."""
        self.target, self.path, self.scheduled_at, self.expectation = target, path, scheduled_at, expectation
        self._settled = settled
        self.done = False
        self.sent_again = 0
        self.start_over()

    def start_over(self) -> None:
        """Forgets a partial answer, before the request is sent again."""
        self.status = 0
        self.received = 0
        self._kept = b""
        self._digest = hashlib.sha256() if self.expectation.sha256 is not None else None

    def head(self, status: int) -> None:
        """The final response's head has come."""
        self.status = status

    def data(self, chunk: bytes) -> None:
        """A part of the body has come."""
        self.received += len(chunk)
        if len(self._kept) < BODY_KEPT_BYTES:
            self._kept += chunk[: BODY_KEPT_BYTES - len(self._kept)]
        if self._digest is not None:
            self._digest.update(chunk)

    def complete(self) -> None:
        """The protocol says that the answer is whole: it is compared with what was expected.

        All three libraries compare the body with its content-length themselves and never call a short one whole.
        """
        if not self.done:
            self.done = True
            self._settled(self, *self._verdict())

    def fail(self, reason: str, detail: str = "") -> None:
        """The answer did not come, or not whole. `reason` is one of a few words; `detail` is for reading."""
        if not self.done:
            self.done = True
            self._settled(self, reason, detail)

    def lost(self, detail: str) -> None:
        """Its connection ended while it was under way."""
        self.fail("cut" if self.status else "lost", f"{detail} after {self.received} body bytes")

    def may_go_again(self, route: Route) -> bool:
        """Whether it may be sent once more, given that the server did not process it; counts it if so."""
        if self.done or self.sent_again >= SENT_AGAIN_MAX:
            self.fail("refused", f"not processed by the server, {SENT_AGAIN_MAX + 1} times")
            return False
        self.sent_again += 1
        self.start_over()
        route.sent_again()
        return True

    def _verdict(self) -> tuple[str | None, str]:
        wanted = self.expectation
        if self.status != wanted.status:
            return "status", f"{self.status}: {self._kept[:200].decode('utf-8', 'replace')}"
        if wanted.body_bytes is not None and self.received != wanted.body_bytes:
            return "body", f"{self.received} bytes, expected {wanted.body_bytes}"
        if self._digest is not None and self._digest.hexdigest() != wanted.sha256:
            return "body", f"another body of {self.received} bytes: {self._kept[:100].decode('utf-8', 'replace')}"
        if wanted.contains is not None and wanted.contains not in self._kept:
            return "body", f"without {wanted.contains!r}: {self._kept[:100].decode('utf-8', 'replace')}"
        return None, ""


class Pool(Protocol):
    """Connections to one target."""

    def send(self, shot: Shot) -> None:
        """Sends a request as soon as a connection can take it."""

    def abandon(self, shot: Shot) -> None:
        """Gives up on a shot that is settled (timed out), and on a connection that may be stuck."""

    def close(self) -> None:
        """Closes every connection. Shots under way fail."""
