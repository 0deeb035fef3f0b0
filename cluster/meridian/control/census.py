"""The members of the cluster as this node knows them: those of its own store, and those on other regions' rosters."""

from collections.abc import Callable, Mapping
from contextlib import aclosing

from meridian.control.identity import Identity
from meridian.control.members import MemberRecord, for_judgement, oldest, read_members
from meridian.control.rosters import Rosters
from meridian.core.speech import Speaker, speaks
from meridian.core.verdicts import Member
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import Item, Store


class Census:
    """`members` by name, and `judged`: what a judgement needs of them. `rosters` where each region keeps its own.

    `observed(item)` is told this node's own key, as the store has it; `changed()` that a member came, went or changed.
    """

    def __init__(
        self,
        store: Store,
        regional: Store,
        keys: Keys,
        identity: Identity,
        *,
        observed: Callable[[Item | None], None],
        changed: Callable[[], None],
    ) -> None:
        self.members: Mapping[str, MemberRecord] = {}
        self.judged: Mapping[str, Member] = {}
        self.rosters = (
            Rosters(store, keys, identity.region, identity.node_id, self._join) if regional is not store else None
        )
        self._regional, self._keys = regional, keys
        self._own_key = keys.member(identity.node_id)
        self._observed, self._changed = observed, changed
        self._near: Mapping[str, MemberRecord] = {}
        self._oldest = ""

    async def run(self) -> None:
        """Follows this region's members until cancelled; the rosters have a `run` of their own."""
        async with aclosing(mirror(self._regional, self._keys.members())) as views:
            async for view in views:
                self._near = read_members(view)
                self._oldest = oldest(view)
                if self.rosters is not None:
                    self.rosters.note(view)
                self._observed(view.get(self._own_key))
                self._join()

    @property
    def is_oldest(self) -> bool:
        """Whether this node joined first, and does what one member must do for a regional store."""
        return self._oldest == self._own_key

    @property
    def speaks(self) -> Speaker:
        """What all members understand."""
        return speaks([member.speaker for member in self.members.values()])

    def _join(self) -> None:
        far = self.rosters.others if self.rosters is not None else {}
        self.members = {**far, **self._near}
        self.judged = for_judgement(self.members)
        self._changed()
