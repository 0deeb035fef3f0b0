"""What a node keeps on its own disk, so that it serves after a cold start with no store: an injected, thin door.

nodes/ implements it (authenticated, atomic, mode 0600); here it is only said what is kept.
"""

from typing import Protocol


class SnapshotDisk(Protocol):
    """Named contents, each replaced whole. Raises OSError; a content that does not verify reads as None."""

    async def save(self, name: str, content: bytes) -> None:
        """Keeps `content` under `name` ("config" or "seat"), durably."""
        ...

    async def load(self, name: str) -> bytes | None:
        """Returns what was saved last under `name`, or None."""
        ...


class NoDisk:
    """Keeps nothing: for nodes that need no cold start, and for tests."""

    async def save(self, name: str, content: bytes) -> None:
        """Forgets it."""

    async def load(self, name: str) -> bytes | None:
        """Has nothing."""
        return None
