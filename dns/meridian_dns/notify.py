"""NOTIFY: secondaries are told that a zone has changed, so that they need not wait for their refresh (RFC 1996).

`Notices` decides, purely: what is owed to whom and when. `Notifier` is the thin driver around it: one socket for each
family of addresses, bound to the address that the server answers from, since a secondary believes only its primaries.

Every node tells every secondary. A secondary then has seen each node's news, asks the node that told it, and needs no
second notice for a serial that it already has; so there is no election, and the death of a node delays nothing.

Invariants: at most one notice is open for a zone at a secondary, for the newest serial; it ends with an answer that
fits (under the secondary's key, if it has one) or after `TRIES_MAX`; all that is sent is paced.
"""

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from meridian_dns.message import AA, HEADER, PAIR, QR, find_signature, write_record
from meridian_dns.names import ancestors, name_to_text
from meridian_dns.records import CLASS_IN, NOERROR, SOA, RRset
from meridian_dns.transfer import Transfers
from meridian_dns.tsig import Key, MalformedSignature, Signer, check

FIRST_SECONDS = 1.0  # then twice as long each time: after 1, 3, 7, 15, 31 s; a secondary that restarts is back by then
TRIES_MAX = 6  # RFC 1996 section 3.6 gives five as an example; later the secondary's own refresh takes over
SENDS_PER_TURN, TURN_SECONDS = 20, 0.1  # 200 a second: a restart with thousands of zones must not flood a secondary
OPCODE_NOTIFY = 4 << 11

log = logging.getLogger("meridian_dns")

Target = tuple[bytes, str, int]
"""A zone's origin, a secondary's address and port."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One that is owed: the SOA that it tells, the key to sign it with, tries made, and when the next is due."""

    soa: RRset
    key: Key | None
    tries: int
    due: float


class Notices:
    """What is owed. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._open: dict[Target, Notice] = {}
        self._told: dict[bytes, RRset] = {}
        self.given_up = 0

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def owe(self, transfers: Transfers, now: float) -> None:
        """A new set of zones is in force: owes a notice for each zone that changed, and none for what is gone."""
        wanted: dict[Target, Notice] = {}
        for origin, offer in transfers.offers.items():
            soa = offer.history.copy.soa
            for secondary in offer.secondaries:
                if secondary.notify is None:
                    continue
                target = (origin, *secondary.notify)
                key = transfers.keys.get(secondary.key) if secondary.key is not None else None
                before = self._open.get(target)
                if self._told.get(origin) != soa:
                    wanted[target] = Notice(soa, key, 0, now)
                elif before is not None:
                    wanted[target] = replace(before, key=key)
        self._open = wanted
        self._told = {origin: offer.history.copy.soa for origin, offer in transfers.offers.items()}

    def take_due(self, now: float) -> list[tuple[Target, Notice]]:
        """What to send now, at most a turn's worth; each is put off to its next try, or given up after its last."""
        taken: list[tuple[Target, Notice]] = []
        for target, notice in list(self._open.items()):
            if len(taken) == SENDS_PER_TURN:
                break
            if notice.due > now:
                continue
            if notice.tries == TRIES_MAX:
                del self._open[target]
                self.given_up += 1
                log.warning("%s:%d does not acknowledge NOTIFY of %s", target[1], target[2], name_to_text(target[0]))
                continue
            later = now + FIRST_SECONDS * 2**notice.tries
            self._open[target] = replace(notice, tries=notice.tries + 1, due=later)
            taken.append((target, notice))
        return taken

    def deadline(self) -> float | None:
        """When `take_due` has something next; None: nothing is owed."""
        return min((notice.due for notice in self._open.values()), default=None)

    def acknowledge(self, target: Target, soa: RRset) -> None:
        """The secondary answered the notice that told `soa`; one that tells a newer stays owed."""
        notice = self._open.get(target)
        if notice is not None and notice.soa == soa:
            del self._open[target]


@dataclass(frozen=True, slots=True)
class _Sent:
    target: Target
    soa: RRset
    key: Key | None
    mac: bytes


class Notifier:
    """Sends what is owed. `announce` may be called at any time on the loop; `run` sends until cancelled."""

    def __init__(self, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds; `wall_clock`: seconds since 1970, for signatures."""
        self.notices = Notices()
        self._clock, self._wall_clock = clock, wall_clock
        self._news = asyncio.Event()
        self._sent: dict[int, _Sent] = {}
        self._transports: dict[socket.AddressFamily, asyncio.DatagramTransport] = {}

    def announce(self, transfers: Transfers) -> None:
        """A new set of zones is in force."""
        self.notices.owe(transfers, self._clock())
        self._news.set()

    async def run(self, hosts: Sequence[str]) -> None:
        """`hosts`: the addresses that the server answers from; the first of a family is the sender."""
        try:
            while True:
                self._news.clear()
                for target, notice in self.notices.take_due(self._clock()):
                    await self._send(target, notice, hosts)
                deadline = self.notices.deadline()
                if deadline is None:
                    self._sent.clear()
                timeout = None if deadline is None else max(TURN_SECONDS, deadline - self._clock())
                try:
                    async with asyncio.timeout(timeout):
                        await self._news.wait()
                except TimeoutError:
                    pass
        finally:
            for transport in self._transports.values():
                transport.close()
            self._transports.clear()

    async def _send(self, target: Target, notice: Notice, hosts: Sequence[str]) -> None:
        origin, host, port = target
        id_ = random.getrandbits(16)
        message, mac = encode_notify(id_, origin, notice, self._wall_clock())
        # Of two open notices with one id the earlier one's answer is lost, and it is sent again.
        self._sent[id_] = _Sent(target, notice.soa, notice.key, mac)
        try:
            transport = await self._transport_for(host, hosts)
            transport.sendto(message, (host, port))
        except OSError as error:  # no route, no address of this family: it is tried again
            log.warning("NOTIFY to %s:%d cannot be sent: %s", host, port, error)

    async def _transport_for(self, host: str, hosts: Sequence[str]) -> asyncio.DatagramTransport:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if family not in self._transports:
            own = next((one for one in hosts if (":" in one) == (":" in host)), "::" if ":" in host else "0.0.0.0")
            loop = asyncio.get_running_loop()
            made, _ = await loop.create_datagram_endpoint(lambda: _Answers(self._on_answer), local_addr=(own, 0))
            self._transports[family] = made
        return self._transports[family]

    def _on_answer(self, data: bytes, host: str, port: int) -> None:
        id_ = int.from_bytes(data[:2], "big")
        sent = self._sent.get(id_)
        if sent is None or sent.target[1:] != (host, port):
            return
        if not answers_notify(data, sent.key, sent.mac, self._wall_clock()):
            return
        del self._sent[id_]
        self.notices.acknowledge(sent.target, sent.soa)
        if rcode := data[3] & 0xF:
            log.warning("%s:%d refuses NOTIFY of %s: rcode %d", host, port, name_to_text(sent.target[0]), rcode)


class _Answers(asyncio.DatagramProtocol):
    """Hands on what arrives. An error of the network, such as no route, is logged and answered by the next try."""

    def __init__(self, on_answer: Callable[[bytes, str, int], None]) -> None:
        self._on_answer = on_answer

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._on_answer(data, addr[0], addr[1])

    def error_received(self, exc: Exception) -> None:
        log.warning("NOTIFY cannot be sent: %s", exc)


def encode_notify(id_: int, origin: bytes, notice: Notice, now: float) -> tuple[bytes, bytes]:
    """The message, with the new SOA as a hint (RFC 1996 section 3.7), and its signature if it has one."""
    asked = origin + PAIR.pack(SOA, CLASS_IN)
    names, at, out = {}, HEADER.size, bytearray()
    for ancestor in ancestors(origin):
        names[ancestor] = at
        at += ancestor[0] + 1
    write_record(out, HEADER.size + len(asked), names, notice.soa, notice.soa.rdatas[0])
    message = HEADER.pack(id_, OPCODE_NOTIFY | AA, 1, 1, 0, 0) + asked + bytes(out)
    if notice.key is None:
        return message, b""
    signer = Signer(notice.key)
    return signer.sign(message, now), signer.last_mac


def answers_notify(data: bytes, key: Key | None, mac: bytes, now: float) -> bool:
    """Whether a datagram is a response to a NOTIFY, and under the right signature if that was signed."""
    if len(data) < HEADER.size or int.from_bytes(data[2:4], "big") & (QR | 0x7800) != QR | OPCODE_NOTIFY:
        return False
    if key is None:
        return True
    at = find_signature(data)
    try:
        return at is not None and check(data, at, {key.name: key}, now, request_mac=mac).error == NOERROR
    except MalformedSignature:
        return False
