"""What a node says of itself in the store: its member record, and how a view of all records is read.

A record that cannot be read (written by a newer or a broken node) is left out of the view and logged: one bad record
must not blind the others.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from meridian.core.speech import Speaker
from meridian.core.verdicts import Member
from meridian.store.port import Item

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a node is reached, each as host:port; empty where it does not listen."""

    http: str = ""
    https: str = ""
    dns: str = ""
    admin: str = ""
    peer: str = ""


NOWHERE = Endpoints()


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """One node. `addresses` are what DNS answers for it; `config_version` is what all its workers serve. A `witness`
    looks, votes and leads, but serves nobody: it has no addresses and no workers.
    """

    name: str
    node_id: str
    region: str
    addresses: tuple[str, ...]
    endpoints: Endpoints = NOWHERE
    config_version: int = 0
    config_refused: str = ""
    draining: bool = False
    seat: int | None = None
    witness: bool = False
    software: str = ""
    protocols: tuple[int, int] = (1, 1)  # the oldest and the newest it reads
    capabilities: tuple[str, ...] = ()
    proofs_held: int = 0  # the revision of the newest proof for ACME that all its workers hold

    @property
    def speaker(self) -> Speaker:
        """What the node can; the defaults are those of nodes that do not say it."""
        return Speaker(self.software, *self.protocols, frozenset(self.capabilities))


_decoder = msgspec.json.Decoder(MemberRecord)


def encode(record: MemberRecord) -> bytes:
    """Returns the record as JSON."""
    return msgspec.json.encode(record)


def read_members(view: Mapping[str, Item]) -> dict[str, MemberRecord]:
    """Returns the records of a view of keys.members(), by name. Of two boots of one node the later one counts."""
    found: dict[str, MemberRecord] = {}
    for item in sorted(view.values(), key=lambda item: item.create_revision):
        try:
            record = _decoder.decode(item.value)
        except msgspec.MsgspecError as error:
            _log.warning("member record %s cannot be read and is left out: %s", item.key, error)
        else:
            found[record.name] = record
    return found


def oldest(view: Mapping[str, Item]) -> str:
    """Returns the key of the member that joined first, "" if there is none: who does what one of a store must do."""
    first = min(view.values(), key=lambda item: item.create_revision, default=None)
    return "" if first is None else first.key


def for_judgement(records: Mapping[str, MemberRecord]) -> dict[str, Member]:
    """Returns what core/verdicts needs of the records."""
    return {name: Member(name, record.region, record.addresses, record.witness) for name, record in records.items()}
