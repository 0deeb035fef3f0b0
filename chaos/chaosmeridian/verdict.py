"""Judges an experiment's journal by the SLO that stands in the experiment. Pure.

An experiment passes if Chaos Toolkit completed it, every step of its method did what it should, the steady state held
before and after, and every number named by the SLO was measured and is within its bound. A number that could not be
measured fails: an experiment that saw nothing proves nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chaosmeridian.tally import SLICE_SECONDS, Tally

EXTENSION = "meridian"
Changes = list[tuple[float, frozenset[str] | None]]


class UnjudgedError(Exception):
    """The journal or the experiment is not one that can be judged; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Check:
    """One bound of the SLO, or one thing that must hold; `measured` is None if it was not seen."""

    name: str
    passed: bool
    measured: float | None
    limit: float | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, in seconds since the load began."""

    at_seconds: float
    mark: str  # one letter, for the plot
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an experiment showed. Seconds are since the kill for `moved`, since the start for `healed`, by server."""

    experiment: str
    title: str
    began: str
    passed: bool
    checks: tuple[Check, ...]
    tally: Tally | None
    moved_seconds: dict[str, float | None]
    healed_seconds: dict[str, float | None]
    moments: tuple[Moment, ...]

    def to_plain(self) -> dict[str, Any]:
        """As dictionaries and lists."""
        return asdict(self)


def judge(name: str, journal: Mapping[str, Any]) -> Verdict:
    """The verdict on a run of the experiment `name`; raises UnjudgedError if the experiment has no SLO."""
    experiment = journal["experiment"]
    slo = _slo(experiment)
    tally = _tally(journal)
    killed_at = _output(journal, "kill_node").get("at")
    started_at = _output(journal, "start_node").get("at")
    seen = _output(journal, "watch_dns")
    moved, healed = _dns_times(seen, killed_at, started_at)
    checks = (
        *_conduct(journal),
        *_covered(tally, killed_at, started_at, healed),
        *_bounds(slo, tally, moved, healed),
    )
    return Verdict(
        experiment=name,
        title=experiment["title"],
        began=journal.get("start", ""),
        passed=all(check.passed for check in checks),
        checks=checks,
        tally=tally,
        moved_seconds=moved,
        healed_seconds=healed,
        moments=tuple(_moments(tally, killed_at, started_at, moved, healed)),
    )


def settled_seconds(changes: Changes, since: float, until: float | None, right: "Right") -> float | None:
    """Seconds from `since` until the answer was right and stayed so up to `until`; None if it was not right then.

    An answer that is right for a moment and wrong again does not count as settled.
    """
    before = [change for change in changes if change[0] <= since][-1:]
    within = [change for change in changes if change[0] > since and (until is None or change[0] < until)]
    settled: float | None = None
    for at, answer in (*((since, answer) for _, answer in before), *within):
        if not right(answer):
            settled = None
        elif settled is None:
            settled = at - since
    return settled


@dataclass(frozen=True, slots=True)
class Right:
    """An answer that names all of `wanted` and none of `unwanted`."""

    wanted: frozenset[str]
    unwanted: frozenset[str] = frozenset()

    def __call__(self, answer: frozenset[str] | None) -> bool:
        """Whether it is."""
        return answer is not None and answer >= self.wanted and not answer & self.unwanted


def _slo(experiment: Mapping[str, Any]) -> Mapping[str, float]:
    for extension in experiment.get("extensions") or ():
        if extension.get("name") == EXTENSION and extension.get("slo"):
            slo: Mapping[str, float] = extension["slo"]
            return slo
    raise UnjudgedError(f"the experiment has no SLO: give it an extension {EXTENSION!r} with `slo`")


def _output(journal: Mapping[str, Any], function: str) -> Mapping[str, Any]:
    """What the first activity of the method that calls `function` returned; nothing if it did not succeed."""
    for run in journal.get("run", ()):
        if run["activity"]["provider"].get("func") == function and run["status"] == "succeeded":
            output = run.get("output")
            return output if isinstance(output, Mapping) else {}
    return {}


def _tally(journal: Mapping[str, Any]) -> Tally | None:
    plain = _output(journal, "stop_load").get("tally")
    return Tally.from_plain(plain) if plain is not None else None


def _dns_times(
    seen: Mapping[str, Any], killed_at: float | None, started_at: float | None
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    if not seen or killed_at is None:
        return {}, {}
    addresses, others = frozenset(seen["addresses"]), frozenset(seen["others"])
    changes: dict[str, Changes] = {
        server: [(at, frozenset(answer) if answer is not None else None) for at, answer in all_changes]
        for server, all_changes in seen["changes"].items()
    }
    moved = {
        server: settled_seconds(all_changes, killed_at, started_at, Right(others, addresses))
        for server, all_changes in changes.items()
        if server != seen["node"]  # its own server is dead: nobody can be misled by it
    }
    if started_at is None:
        return moved, {}
    healed = {
        server: settled_seconds(all_changes, started_at, None, Right(others | addresses))
        for server, all_changes in changes.items()
    }
    return moved, healed


def _conduct(journal: Mapping[str, Any]) -> Iterator[Check]:
    status = journal.get("status", "unknown")
    deviated = bool(journal.get("deviated"))
    yield Check("completed", status == "completed" and not deviated, None, None, "deviated" if deviated else status)
    failed = [run for run in journal.get("run", ()) if run["status"] != "succeeded" or run.get("output") is False]
    for run in failed:
        lines = run.get("exception") or ["it did not come to hold in time"]
        yield Check(run["activity"]["name"], False, None, None, str(lines[-1]).strip())
    for when in ("before", "after"):
        state = (journal.get("steady_states") or {}).get(when)
        met = bool(state and state.get("steady_state_met"))
        yield Check(f"steady state {when}", met, None, None, "" if met else _unmet(state))


def _covered(
    tally: Tally | None, killed_at: float | None, started_at: float | None, healed: Mapping[str, float | None]
) -> Iterator[Check]:
    """The load must have run from before the kill until all was healed: else nobody knows what users felt."""
    if tally is None or killed_at is None or started_at is None:
        return  # each is a red step of its own already
    until = started_at + (_slowest(healed.values()) or 0.0)
    last = tally.timeline[-1].at_seconds if tally.timeline else 0.0
    covered = tally.started_at < killed_at and until <= tally.started_at + last + SLICE_SECONDS
    yield Check("load ran throughout", covered, None, None, "" if covered else "it began too late or ended too soon")


def _unmet(state: Mapping[str, Any] | None) -> str:
    for probe in (state or {}).get("probes", ()):
        if not probe.get("tolerance_met"):
            lines = probe.get("exception") or [f"{probe['activity']['name']} gave {probe.get('output')!r}"]
            return str(lines[-1]).strip()
    return "it was not looked at"


def _bounds(
    slo: Mapping[str, float],
    tally: Tally | None,
    moved: Mapping[str, float | None],
    healed: Mapping[str, float | None],
) -> Iterator[Check]:
    for bound, limit in slo.items():
        match bound:
            case "failed_max":
                measured = float(tally.failed) if tally is not None and tally.offered else None
                yield _bound("requests failed", measured, limit)
            case "dns_seconds_max":
                yield _bound("seconds until DNS moved", _slowest(moved.values()), limit)
            case "heal_seconds_max":
                yield _bound("seconds until healed", _slowest(healed.values()), limit)
            case "p99_seconds_max":
                yield _bound("p99 in seconds", tally.p99_seconds if tally is not None else None, limit)
            case _:
                raise UnjudgedError(f"the SLO names {bound!r}, which is not known here")


def _bound(name: str, measured: float | None, limit: float) -> Check:
    return Check(
        name, measured is not None and measured <= limit, measured, limit, "" if measured is not None else "not seen"
    )


def _slowest(times: Iterable[float | None]) -> float | None:
    """The longest; None if there is none, or one of them never came."""
    longest = 0.0
    for seconds in (known := list(times)):
        if seconds is None:
            return None
        longest = max(longest, seconds)
    return longest if known else None


def _moments(
    tally: Tally | None,
    killed_at: float | None,
    started_at: float | None,
    moved: Mapping[str, float | None],
    healed: Mapping[str, float | None],
) -> Iterator[Moment]:
    if tally is None:
        return
    begin = tally.started_at
    if killed_at is not None:
        yield Moment(killed_at - begin, "K", "node killed")
        if (seconds := _slowest(moved.values())) is not None:
            yield Moment(killed_at + seconds - begin, "D", "DNS moved everywhere")
    if started_at is not None:
        yield Moment(started_at - begin, "S", "node told to start")
        if (seconds := _slowest(healed.values())) is not None:
            yield Moment(started_at + seconds - begin, "H", "healed everywhere")
