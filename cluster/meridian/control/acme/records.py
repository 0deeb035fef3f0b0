"""What the store holds of ACME, and what the document wants. Private keys are sealed; the rest may be seen by whoever
reads the store: a certificate is public, and a proof proves nothing without the account's key."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from meridian.core.acme import Window
from meridian.store.keys import Keys
from meridian.store.port import Item

_log = logging.getLogger("meridian.control")


@dataclass(frozen=True, slots=True)
class External:
    """An account to bind ours to (core/acme_words). `secret` is in base64url, and never shown."""

    key_id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authority:
    """As the document says it; `ca_pem` None: trusted as the node's system says."""

    name: str
    directory: str
    challenge: str = "http-01"
    email: str | None = None
    ca_pem: bytes | None = None
    external: External | None = None
    orders_per_hour: int = 20


@dataclass(frozen=True, slots=True)
class Wish:
    """A certificate that the document wants; `id` as in core/acme."""

    id: str
    hosts: tuple[str, ...]
    authority: Authority


class Order(msgspec.Struct, frozen=True):
    """An order that was begun: where it is, and the certificate's key, sealed. Whoever leads next goes on with it."""

    url: str
    sealed_key: str
    begun: float


class CertificateRecord(msgspec.Struct, frozen=True):
    """A certificate (`chain` empty: none yet), and what is done about the next one. Times are seconds since 1970.

    `failures` in a row, with the `reason` of the last one; until `try_at` nothing is tried. `reason` may also say what
    is waited for."""

    id: str
    hosts: tuple[str, ...]
    chain: str = ""
    sealed_key: str = ""
    not_before: float = 0.0
    not_after: float = 0.0
    window: Window | None = None
    renew_at: float = 0.0
    order: Order | None = None
    failures: int = 0
    reason: str = ""
    try_at: float = 0.0


class AccountRecord(msgspec.Struct, frozen=True):
    """The cluster's account at one authority: its key, and when the orders of the last hour began."""

    directory: str
    sealed_key: str
    begun: tuple[float, ...] = ()


class Proofs(msgspec.Struct, frozen=True):
    """What an authority must find: by token over HTTP, by absolute name in TXT records."""

    http: dict[str, str] = {}
    texts: dict[str, tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True)
class Obtained:
    """A certificate with its key, for those who serve it; PEM."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)


_Record = TypeVar("_Record", CertificateRecord, AccountRecord, Proofs)


def read(item: Item | None, kind: type[_Record]) -> _Record | None:
    """What an item of the store says; None if it is not there, or cannot be read."""
    if item is None:
        return None
    try:
        return msgspec.json.decode(item.value, type=kind)
    except msgspec.DecodeError as error:
        _log.error("%s is damaged or from a newer version, and is not used: %s", item.key, error)
        return None


def read_certificates(view: Mapping[str, Item], keys: Keys) -> dict[str, CertificateRecord]:
    """Those of a view of `keys.acme_prefix()`, by id."""
    prefix = keys.acme_certificates()
    found = (read(item, CertificateRecord) for key, item in view.items() if key.startswith(prefix))
    return {record.id: record for record in found if record is not None}


def read_proofs(view: Mapping[str, Item], keys: Keys) -> tuple[int, Proofs]:
    """All proofs together, and the revision of the newest; 0 if there are none."""
    items = [item for key, item in view.items() if key.startswith(keys.acme_challenges())]
    http: dict[str, str] = {}
    texts: dict[str, tuple[str, ...]] = {}
    for proofs in filter(None, (read(item, Proofs) for item in items)):
        http |= proofs.http
        for name, values in proofs.texts.items():
            texts[name] = (*texts.get(name, ()), *values)
    return max((item.mod_revision for item in items), default=0), Proofs(http, texts)
