"""Open-loop load: requests leave at scheduled times whatever becomes of the earlier ones.

    python -m chaosmeridian.load --rate 500 --seconds 10 --host shop.example.com --path /api/products \\
        --target h1=127.0.0.11:8080 --target h2=127.0.0.11:8443 --target h3=127.0.0.11:8443 --ca-file ca.pem --json

A closed loop (wrk, h2load) offers less when the server stalls, and so hides what users of that moment felt. Here
every request that does not get its whole, right answer in time is a failure with its reason; none is sent again by
the client except where the server said that it did not process it (see `connections/shot.py`). A connection that the
server closes while it is idle is opened anew and counts for nothing.

SIGTERM and SIGINT end the offer early; what is under way is awaited and the tally is printed. Exit status: 0 if no
request failed, 1 if one did, 2 if the command is wrong.
"""

import argparse
import asyncio
import gc
import json
import signal
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from chaosmeridian.connections.shot import PROTOCOLS, Expectation, Pool, Route, Shot, Target
from chaosmeridian.following import follow
from chaosmeridian.tally import Recorder, Tally

REQUESTS_MAX = 5_000_000  # of one run: 8 bytes each for the latencies
MIX = {"h1": 60.0, "h1s": 60.0, "h2": 30.0, "h3": 10.0}  # what real edges see, and what aioquic's 0.5 ms can bear
KNOWN_SECONDS = 5.0  # until DNS has answered for the first time
_SWEEP_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Offer:
    """What to ask of whom, how often. Shares of `mix` are relative; protocols without a target are left out."""

    targets: tuple[Target, ...]
    rate_per_second: float
    seconds: float
    host: str
    paths: tuple[str, ...] = ("/",)
    mix: Mapping[str, float] = field(default_factory=lambda: MIX)
    ca_file: str | None = None
    timeout_seconds: float = 5.0
    connect_timeout_seconds: float = 2.0
    expectation: Expectation = field(default_factory=Expectation)
    follow: str = ""  # a name: only those targets are asked whose addresses DNS answers for it
    dns_servers: tuple[str, ...] = ()  # host:port each; see `following`

    def __post_init__(self) -> None:
        """Raises ValueError for an offer that cannot be made."""
        if not self.targets or not self.paths:
            raise ValueError("an offer needs a target and a path")
        if not 0 < self.rate_per_second * self.seconds <= REQUESTS_MAX:
            raise ValueError(f"rate times seconds must be above 0 and at most {REQUESTS_MAX}")
        if not any(self.mix.get(target.protocol, 0) > 0 for target in self.targets):
            raise ValueError("the mix gives no share to any target's protocol")
        if bool(self.follow) != bool(self.dns_servers):
            raise ValueError("to follow a name takes a DNS server, and the other way: give --follow and --dns")


class Turns:
    """Spreads requests over protocols by share (smooth weighted round robin), and over a protocol's targets in turn."""

    def __init__(self, offer: Offer) -> None:
        """All shares begin level."""
        self._targets: dict[str, deque[Target]] = {}
        for target in offer.targets:
            if offer.mix.get(target.protocol, 0) > 0:
                self._targets.setdefault(target.protocol, deque()).append(target)
        self._shares = {protocol: offer.mix[protocol] for protocol in self._targets}
        self._credit = dict.fromkeys(self._shares, 0.0)
        self._total = sum(self._shares.values())
        self._all = {protocol: tuple(targets) for protocol, targets in self._targets.items()}

    def keep(self, addresses: Set[str]) -> None:
        """From now on only targets at these addresses; a protocol that has none there keeps those that it had."""
        for protocol, targets in self._all.items():
            kept = deque(target for target in targets if target.address in addresses)
            if kept and set(kept) != set(self._targets[protocol]):
                self._targets[protocol] = kept

    def next(self) -> Target:
        """Whose turn it is."""
        for protocol, share in self._shares.items():
            self._credit[protocol] += share
        chosen = max(self._credit, key=self._credit.__getitem__)
        self._credit[chosen] -= self._total
        targets = self._targets[chosen]
        targets.rotate(-1)
        return targets[-1]


async def offer_load(
    offer: Offer, stop: asyncio.Event | None = None, began: Callable[[float], None] = lambda _: None
) -> Tally:
    """Offers and returns the tally, after `offer.seconds` (or once `stop` is set) plus what is still under way.

    `began` is called with the time of the first request (CLOCK_MONOTONIC seconds), right before it.
    Raises a group with an OSError if the CA file cannot be used, or if DNS answers nothing of what is followed.
    """
    return await _Run(offer, stop or asyncio.Event(), began).run()


class _Run:
    def __init__(self, offer: Offer, stop: asyncio.Event, began: Callable[[float], None]) -> None:
        self._offer, self._stop, self._began = offer, stop, began
        self._now = time.monotonic  # not loop.time(): uvloop's has a resolution of a millisecond
        self._recorder = Recorder(self._now())
        self._pools: dict[Target, Pool] = {}
        self._under_way: deque[Shot] = deque()  # by scheduled time

    async def run(self) -> Tally:
        offer, cpu_before = self._offer, time.process_time()
        async with asyncio.TaskGroup() as tasks:
            route = Route(
                host=offer.host,
                ca_file=offer.ca_file,
                tasks=tasks,
                connect_timeout_seconds=offer.connect_timeout_seconds,
                opened=self._on_opened,
                sent_again=self._on_sent_again,
                now=self._now,
            )
            self._pools = {target: _pool(target, route) for target in set(offer.targets)}
            turns = Turns(offer)
            following = await self._follow(turns, tasks) if offer.follow else None
            await self._fire(turns)
            if following is not None:
                following.cancel()
            while self._sweep():  # noqa: ASYNC110 - timeouts fall due even if nothing happens
                await asyncio.sleep(_SWEEP_SECONDS / 5)
            for pool in self._pools.values():
                pool.close()
        return self._recorder.tally(self._now(), time.process_time() - cpu_before)

    async def _follow(self, turns: Turns, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Returns when DNS has said whom to ask: until then the targets are only what might be asked."""
        known = asyncio.Event()

        def answered(addresses: frozenset[str]) -> None:
            turns.keep(addresses)
            known.set()

        following = tasks.create_task(follow(self._offer.follow, self._offer.dns_servers, answered))
        async with asyncio.timeout(KNOWN_SECONDS):
            await known.wait()
        return following

    async def _fire(self, turns: Turns) -> None:
        offer = self._offer
        start = self._recorder.started_at = self._now()
        self._began(start)
        total = round(offer.rate_per_second * offer.seconds)
        fired, sweep_at = 0, start
        while fired < total and not self._stop.is_set():
            now = self._now()
            while fired < total and (scheduled_at := start + fired / offer.rate_per_second) <= now:
                self._shoot(turns.next(), offer.paths[fired % len(offer.paths)], scheduled_at)
                fired += 1
            if now >= sweep_at:
                self._sweep()
                sweep_at = now + _SWEEP_SECONDS
            await asyncio.sleep(max(0.0, start + fired / offer.rate_per_second - self._now()))

    def _shoot(self, target: Target, path: str, scheduled_at: float) -> None:
        shot = Shot(target, path, scheduled_at, self._offer.expectation, self._on_settled)
        self._recorder.offered(target.protocol, scheduled_at, self._now())
        self._under_way.append(shot)
        self._pools[target].send(shot)

    def _sweep(self) -> bool:
        """Fails what took too long; says whether anything is under way."""
        under_way, oldest = self._under_way, self._now() - self._offer.timeout_seconds
        for _ in range(len(under_way)):
            shot = under_way.popleft()
            if shot.done:
                continue
            if shot.scheduled_at > oldest:
                under_way.appendleft(shot)
                break
            shot.fail("timeout", f"status {shot.status}, {shot.received} body bytes so far")
            self._pools[shot.target].abandon(shot)
        return bool(under_way)

    def _on_settled(self, shot: Shot, reason: str | None, detail: str) -> None:
        protocol, now = shot.target.protocol, self._now()
        if reason is None:
            self._recorder.answered(protocol, shot.scheduled_at, now)
        else:
            self._recorder.failed(protocol, str(shot.target), shot.scheduled_at, now, reason, detail)

    def _on_opened(self) -> None:
        self._recorder.connections += 1

    def _on_sent_again(self) -> None:
        self._recorder.sent_again += 1


def _pool(target: Target, route: Route) -> Pool:
    """Imported when needed: a run over HTTP/1.1 alone does not wait for aioquic."""
    match target.protocol:
        case "h2":
            from chaosmeridian.connections.h2 import H2Pool

            return H2Pool(target, route)
        case "h3":
            from chaosmeridian.connections.h3 import H3Pool

            return H3Pool(target, route)
        case _:
            from chaosmeridian.connections.h1 import H1Pool

            return H1Pool(target, route)


def parse_target(text: str) -> Target:
    """Reads `h2=127.0.0.11:8443` (`h2=[::1]:8443`); raises ValueError."""
    protocol, equals, place = text.partition("=")
    address, colon, port = place.rpartition(":")
    if protocol not in PROTOCOLS or not equals or not colon or not address or not port.isdigit():
        raise ValueError(f"{text!r} is not a target, write for example h2=127.0.0.11:8443 ({', '.join(PROTOCOLS)})")
    return Target(protocol, address.strip("[]"), int(port))


def parse_mix(text: str) -> dict[str, float]:
    """Reads `h1=60,h2=30,h3=10`; raises ValueError."""
    mix: dict[str, float] = {}
    for part in text.split(","):
        protocol, equals, share = part.partition("=")
        if protocol not in PROTOCOLS or not equals:
            raise ValueError(f"{part!r} is not a share, write for example h1=60,h2=30,h3=10")
        mix[protocol] = float(share)
    return mix


def parse_offer(arguments: Sequence[str] | None = None) -> tuple[Offer, argparse.Namespace]:
    """Reads the command line: the offer, and the options for its output. Exits with status 2 if it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m chaosmeridian.load", description="Open-loop load over h1, h2, h3.")
    parser.add_argument("--target", action="append", required=True, metavar="PROTOCOL=ADDRESS:PORT")
    parser.add_argument("--rate", type=float, default=500.0, metavar="PER_SECOND")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--host", required=True, help="Host, :authority and SNI")
    parser.add_argument("--path", action="append", metavar="PATH", help="several are taken in turn")
    parser.add_argument("--mix", metavar="h1=60,h2=30,h3=10", help="shares of the protocols")
    parser.add_argument(
        "--follow", default="", metavar="NAME", help="ask only those whose addresses DNS answers for it"
    )
    parser.add_argument("--dns", action="append", metavar="ADDRESS:PORT", help="several are asked each")
    parser.add_argument("--ca-file")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--expect-status", type=int, default=200)
    parser.add_argument("--expect-bytes", type=int, help="length of the body")
    parser.add_argument("--expect-sha256", help="digest of the body")
    parser.add_argument("--expect-contains", help="text near the body's start")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--announce", action="store_true", help='a line {"began_at": ...} on stderr at the first request'
    )
    options = parser.parse_args(arguments)
    contains = options.expect_contains
    try:
        offer = Offer(
            targets=tuple(parse_target(text) for text in options.target),
            rate_per_second=options.rate,
            seconds=options.seconds,
            host=options.host,
            paths=tuple(options.path or ["/"]),
            mix=parse_mix(options.mix) if options.mix else MIX,
            ca_file=options.ca_file,
            timeout_seconds=options.timeout,
            expectation=Expectation(
                options.expect_status,
                options.expect_bytes,
                options.expect_sha256,
                contains.encode() if contains is not None else None,
            ),
            follow=options.follow,
            dns_servers=tuple(options.dns or ()),
        )
        ssl.create_default_context(cafile=offer.ca_file)
    except (ValueError, OSError) as error:
        parser.error(f"{error} (--ca-file {options.ca_file})" if isinstance(error, OSError) else str(error))
    return offer, options


def summary(tally: Tally) -> str:
    """A few lines for people."""
    lines = [
        f"{tally.offered} offered, {tally.answered} answered, {tally.failed} failed in {tally.seconds:.1f} s; "
        f"p50 {tally.p50_seconds * 1000:.1f} ms, p99 {tally.p99_seconds * 1000:.1f} ms, "
        f"max {tally.max_seconds * 1000:.1f} ms; {tally.connections} connections"
    ]
    for name, counts in tally.protocols.items():
        lines.append(
            f"  {name}: {counts.answered} of {counts.offered}; p50 {counts.p50_seconds * 1000:.1f} ms, "
            f"p99 {counts.p99_seconds * 1000:.1f} ms, max {counts.max_seconds * 1000:.1f} ms"
        )
    for failure in tally.examples:
        lines.append(f"  {failure.at_seconds:7.3f} s {failure.target} {failure.reason}: {failure.detail}")
    return "\n".join(lines) + "\n"


async def _main(offer: Offer, announce: bool) -> Tally:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await offer_load(offer, stop, _announce if announce else lambda _: None)


def _announce(began_at: float) -> None:
    sys.stderr.write(json.dumps({"began_at": began_at}) + "\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command of the module's head; returns its exit status."""
    import uvloop

    offer, options = parse_offer(arguments)
    gc.freeze()  # what is imported lives on; only requests are worth collecting
    tally = uvloop.run(_main(offer, options.announce))
    sys.stdout.write(tally.to_json() + "\n" if options.json else summary(tally))
    return 1 if tally.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
