"""How agents speak to each other, as the control room sees it: everyone sends everyone its reports, and gets verdicts.

The mesh is always full, not only after a loss: so every node's inputs are warm when it becomes leader. A report is full
state, so the queue to a peer is one place: a newer report takes the place of one that was not sent yet.
"""

from collections.abc import Mapping
from typing import Protocol

from meridian.core.verdicts import Report, Verdict
from meridian_proto.v1.spending_pb2 import Letter


class Receiver(Protocol):
    """Who takes what peers say. Synchronous and quick."""

    def on_report(self, report: Report) -> None:
        """A peer's report arrived; its age is what the peer claims."""
        ...

    def on_verdict(self, verdict: Verdict) -> None:
        """A peer holds this verdict."""
        ...

    def on_beat(self, fence: int, version: int) -> None:
        """The leader itself says, now, that this is its verdict."""
        ...

    def on_letter(self, letter: Letter) -> None:
        """For a worker of this node; its content is not for us."""
        ...


class PeerTransport(Protocol):
    """Connections to all other nodes. Nothing here blocks, and nothing raises for what a peer does."""

    async def run(self, receiver: Receiver) -> None:
        """Serves and connects until cancelled. Raises PeerPortTaken if the own address cannot be bound."""
        ...

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """Replaces whom to speak to: name to host:port."""
        ...

    def send(self, report: Report) -> None:
        """Sends to every peer, now or as soon as it can be reached; the latest report only."""
        ...

    def publish(self, verdict: Verdict) -> None:
        """Tells every connected peer which verdict this node holds."""
        ...

    def beat(self, fence: int, version: int) -> None:
        """Tells every connected peer that this node leads; who cannot be told now is not told later."""
        ...

    def renew(self) -> None:
        """Begins every link anew: a new one is told at once which verdict the peer holds."""
        ...

    def deliver(self, name: str, letter: Letter) -> None:
        """Sends a letter to one peer; it is lost if that cannot be reached now, or takes too few."""
        ...


class PeerPortTaken(Exception):
    """Another program listens on the address for peers."""


class NoPeers:
    """The transport of a node that is alone."""

    async def run(self, receiver: Receiver) -> None:
        """Has nothing to do."""

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """Speaks to nobody."""

    def send(self, report: Report) -> None:
        """Nobody listens."""

    def publish(self, verdict: Verdict) -> None:
        """Nobody listens."""

    def beat(self, fence: int, version: int) -> None:
        """Nobody listens."""

    def renew(self) -> None:
        """Nobody tells anything."""

    def deliver(self, name: str, letter: Letter) -> None:
        """Nobody is there."""
