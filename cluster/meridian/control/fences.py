"""The number under which a leader writes: the store's generation and the create revision of the leader key.

Invariant: a later leader's fence is greater, also when the store was lost and restored from a backup and its revisions
began anew. What keeps it: restoring raises the generation, which stands beside the leader key and is compared in the
transaction that takes it.
"""

from meridian.store.port import Item

# etcd's revisions rise by one with each write: at 10,000 a second this is more than three years.
REVISION_BITS = 40
_REVISION_MASK = (1 << REVISION_BITS) - 1


def make_fence(generation: int, revision: int) -> int:
    """Returns the fence of who took the leader key at `revision`."""
    return (generation << REVISION_BITS) | revision


def revision_of(fence: int) -> int:
    """Returns the create revision of the leader key that belongs to a fence."""
    return fence & _REVISION_MASK


def generation_of(fence: int) -> int:
    """Returns the generation of the store in which a fence was taken."""
    return fence >> REVISION_BITS


def read_generation(item: Item | None) -> int:
    """Returns what the generation's key says; 0 for a store that was never restored, or if it cannot be read."""
    return int(item.value) if item is not None and item.value.isdigit() else 0
