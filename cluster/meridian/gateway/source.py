"""What stands where an exchange has an upstream, as the exchange sees it. By itself it does nothing."""


class Source:
    """What answers instead of an upstream (gateway/files), or before there is one (gateway/forward_proxy)."""

    def resume(self) -> None:
        """The client takes data again."""

    def close(self) -> None:
        """The exchange is over."""

    def expire(self) -> None:
        """The exchange's deadline has passed."""

    def on_body(self, data: bytes) -> None:
        """A piece of the client's, in the protocol that it has asked for."""

    def on_body_end(self) -> None:
        """The client has said all that it will."""

    def go_away(self, by: str) -> None:
        """The gateway ends: what has no end of its own heeds it."""
