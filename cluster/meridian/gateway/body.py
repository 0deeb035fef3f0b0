"""A request's body on its way: what has come, what a further try would need, what its client may send more.

Invariant: of a body at most REPLAY_BYTES_MAX is kept once an upstream takes it, and the client is credited only for
what went on: a slow upstream slows the client, and no buffer grows.
"""

from meridian.wire.events import Headers

REPLAY_BYTES_MAX = 64 * 1024
"""A request body up to this size is kept until the response begins, so that it can be sent again."""


class RequestBody:
    """See the module's head. `kept` is None once it can no longer be sent again from its beginning."""

    __slots__ = ("byte_count", "ended", "kept", "trailers", "uncredited")

    def __init__(self) -> None:
        self.kept: list[bytes] | None = []
        self.byte_count = 0
        self.uncredited = 0
        self.trailers: Headers | None = None
        self.ended = False  # all of it has come

    def came(self, data: bytes) -> None:
        """A piece from the client."""
        self.byte_count += len(data)
        self.uncredited += len(data)
        if self.kept is not None:
            self.kept.append(data)

    def went(self) -> None:
        """All that has come is on its way to an upstream."""
        if self.byte_count > REPLAY_BYTES_MAX:
            self.kept = None

    def take_credit(self) -> int:
        """So many bytes more the client may send."""
        count, self.uncredited = self.uncredited, 0
        return count
