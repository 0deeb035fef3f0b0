"""What became of every request that was offered. Pure: times come in, nothing is read from a clock.

The invariant: `offered == answered + failed`; a request that is neither at the end is a failure ("timeout").
Latency runs from the time a request was scheduled, not from when a connection was free for it: a stall of the server
delays all requests scheduled meanwhile, and all of them show it (coordinated omission is counted).
"""

import json
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

EXAMPLES_PER_REASON = 5  # enough to see a pattern; the count says how many there were
SLICE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Failure:
    """One request that failed; `at_seconds` is when it was scheduled, since the start."""

    at_seconds: float
    after_seconds: float
    protocol: str
    target: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of one protocol, and their latencies in seconds (0 if none was answered)."""

    offered: int
    answered: int
    failed: int
    p50_seconds: float
    p99_seconds: float
    max_seconds: float


@dataclass(frozen=True, slots=True)
class Slice:
    """Requests scheduled in one tenth of a second."""

    at_seconds: float
    offered: int
    failed: int
    max_seconds: float


@dataclass(frozen=True, slots=True)
class Tally:
    """The result of one run of load.

    `started_at` is CLOCK_MONOTONIC seconds, comparable between processes of one machine. `late_max_seconds` is how
    late the generator itself was at worst: if it is large, the latencies are the generator's, not the server's.
    """

    started_at: float
    seconds: float
    offered: int
    answered: int
    failed: int
    reasons: dict[str, int]
    examples: tuple[Failure, ...]
    p50_seconds: float
    p99_seconds: float
    max_seconds: float
    protocols: dict[str, Counts]
    timeline: tuple[Slice, ...]
    connections: int
    sent_again: int
    late_max_seconds: float
    cpu_seconds: float

    def to_json(self) -> str:
        """One line of JSON, read again by `from_json`."""
        return json.dumps(self.to_plain())

    def to_plain(self) -> dict[str, Any]:
        """As dictionaries and lists, read again by `from_plain`."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Tally":
        """Reads what `to_json` wrote; raises ValueError (KeyError, TypeError) if it is something else."""
        return cls.from_plain(json.loads(text))

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "Tally":
        """From the dictionaries and lists that JSON has."""
        return cls(
            **{
                **values,
                "examples": tuple(Failure(**example) for example in values["examples"]),
                "protocols": {name: Counts(**counts) for name, counts in values["protocols"].items()},
                "timeline": tuple(Slice(**part) for part in values["timeline"]),
            }
        )


@dataclass(slots=True)
class _Protocol:
    offered: int = 0
    failed: int = 0
    latencies: "array[float]" = field(default_factory=lambda: array("d"))


class Recorder:
    """Collects settled requests; memory is 8 bytes per request and 100 per tenth of a second."""

    def __init__(self, started_at: float) -> None:
        """`started_at` is the time of the first request, in the seconds all later times are in."""
        self.started_at = started_at
        self.connections = 0
        self.sent_again = 0
        self.late_max_seconds = 0.0
        self._protocols: dict[str, _Protocol] = {}
        self._reasons: dict[str, int] = {}
        self._examples: list[Failure] = []
        self._slices: dict[int, list[float]] = {}  # offered, failed, longest latency

    def offered(self, protocol: str, scheduled_at: float, now: float) -> None:
        """One request leaves `now` that was scheduled for `scheduled_at`."""
        self._protocols.setdefault(protocol, _Protocol()).offered += 1
        self._slice(scheduled_at)[0] += 1
        self.late_max_seconds = max(self.late_max_seconds, now - scheduled_at)

    def answered(self, protocol: str, scheduled_at: float, now: float) -> None:
        """A request got its whole, right answer."""
        latency = now - scheduled_at
        self._protocols[protocol].latencies.append(latency)
        part = self._slice(scheduled_at)
        part[2] = max(part[2], latency)

    def failed(self, protocol: str, target: str, scheduled_at: float, now: float, reason: str, detail: str) -> None:
        """A request did not."""
        self._protocols[protocol].failed += 1
        part = self._slice(scheduled_at)
        part[1] += 1
        part[2] = max(part[2], now - scheduled_at)
        count = self._reasons[reason] = self._reasons.get(reason, 0) + 1
        if count <= EXAMPLES_PER_REASON:
            at = scheduled_at - self.started_at
            self._examples.append(Failure(at, now - scheduled_at, protocol, target, reason, detail))

    def tally(self, now: float, cpu_seconds: float) -> Tally:
        """The result, when every request is settled."""
        every = array("d")
        for protocol in self._protocols.values():
            every.extend(protocol.latencies)
        p50, p99, longest = _percentiles(every)
        failed = sum(self._reasons.values())
        tally = Tally(
            started_at=self.started_at,
            seconds=now - self.started_at,
            offered=sum(protocol.offered for protocol in self._protocols.values()),
            answered=len(every),
            failed=failed,
            reasons=dict(self._reasons),
            examples=tuple(self._examples),
            p50_seconds=p50,
            p99_seconds=p99,
            max_seconds=longest,
            protocols={name: _counts(protocol) for name, protocol in self._protocols.items()},
            timeline=tuple(
                Slice(round(index * SLICE_SECONDS, 3), int(offered), int(failed), latency)
                for index, (offered, failed, latency) in sorted(self._slices.items())
            ),
            connections=self.connections,
            sent_again=self.sent_again,
            late_max_seconds=self.late_max_seconds,
            cpu_seconds=cpu_seconds,
        )
        assert tally.offered == tally.answered + tally.failed
        return tally

    def _slice(self, scheduled_at: float) -> list[float]:
        return self._slices.setdefault(int((scheduled_at - self.started_at) / SLICE_SECONDS), [0, 0, 0.0])


def _counts(protocol: _Protocol) -> Counts:
    return Counts(protocol.offered, len(protocol.latencies), protocol.failed, *_percentiles(protocol.latencies))


def _percentiles(latencies: Sequence[float]) -> tuple[float, float, float]:
    """50th and 99th percentile (nearest rank) and the maximum."""
    if not latencies:
        return 0.0, 0.0, 0.0
    ordered = sorted(latencies)
    return ordered[(len(ordered) - 1) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], ordered[-1]
