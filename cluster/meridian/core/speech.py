"""What nodes of different versions may say to each other: each tells what it can, and all say only what all can. Pure.

Invariant: nothing is written that a member cannot read. What keeps it: a node joins only if its protocols and those of
every member have one in common; what is new is a *capability*, and it is used while every member has it.

A *protocol* is a number that rises when what is written changes so that older nodes would misread it; a node reads all
from its oldest to its newest, so a rolling upgrade goes through versions that overlap. Additions that older nodes may
ignore need no new protocol, and if somebody must be able to rely on them, they are a capability.
"""

from collections.abc import Collection
from dataclasses import dataclass

# Of this software. A capability that every supported version has is taken out of the code again.
GENERATIONS = "generations"  # fences count the restored stores (control/fences)
SHARES = "shares"  # verdicts say which share of its clients a region keeps (core/capacity)
ROSTERS = "rosters"  # members of other regions are read from the global store (control/rosters)


@dataclass(frozen=True, slots=True)
class Speaker:
    """What one node can. The defaults are those of nodes that did not say so yet."""

    software: str = ""
    oldest: int = 1
    newest: int = 1
    capabilities: frozenset[str] = frozenset()

    @property
    def protocols(self) -> str:
        """In words."""
        return f"protocol {self.newest}" if self.oldest == self.newest else f"protocols {self.oldest} to {self.newest}"


OWN = Speaker("", 1, 1, frozenset({GENERATIONS, ROSTERS, SHARES}))


def speaks(members: Collection[Speaker]) -> Speaker:
    """Returns what all members can: the range of protocols they share (empty if newest < oldest), and capabilities.

    Of nobody it is what this software can.
    """
    if not members:
        return OWN
    return Speaker(
        "",
        max(member.oldest for member in members),
        min(member.newest for member in members),
        frozenset.intersection(*(member.capabilities for member in members)),
    )


def why_not_join(own: Speaker, members: Collection[Speaker]) -> str | None:
    """Returns why a node that can `own` must stay out of a cluster of `members`; None if it may join."""
    if not members:
        return None
    shared = speaks(members)
    if own.newest < shared.oldest:
        older = "too old"
        remedy = "upgrade this node"
    elif own.oldest > shared.newest:
        older = "too new"
        remedy = "upgrade the other nodes first, one version at a time"
    else:
        return None
    return (
        f"{own.software or 'this node'} is {older}: it speaks {own.protocols}, the cluster {shared.protocols}; {remedy}"
    )
