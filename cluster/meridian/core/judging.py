"""Whether a candidate document does worse than the one in force, by the exchanges that both served at the same time.

Who takes the candidate is drawn: each exchange of a node that tries it takes it with probability `share`, whatever it
asks. So if the candidate changes nothing, each exchange that goes wrong is the candidate's with probability `share`,
however often things go wrong and however that changes with time: an upstream that dies meanwhile hits both alike.

The test asks, of the m exchanges that went wrong in one way, whether the candidate's k are more than that draw and
`TOLERATED` times the odds explain. Its statistic is the mean likelihood ratio over a few alternatives (a test
martingale: Robbins 1970; Ramdas et al. 2023, "Game-theoretic statistics and safe anytime-valid inference"), so by
Ville's inequality it may be looked at as often as one likes: the chance that it ever exceeds 1 / alpha is at most
alpha. `ALARM` is divided by the number of tests (Bonferroni): a stage undoes a candidate that changes nothing once in a
thousand at most, and a rollout, which has two stages that are judged, twice in a thousand. For single routes the share
is that of the route's own exchanges where this is greater, since routes change what they take: there the bound is
approximate. Latency is tested at fixed thresholds, which is a test of quantiles without any assumption on their
distribution.

What is sampled besides exchanges (`Sample`) is tested in the same way, each with a share of its own. Of DNS questions
both versions answer the same ones, and those count where the two differ: the share is a half (McNemar's test).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ALARM = 1e-3
TOLERATED = 1.5  # times the odds of the version in force: less is not worth a rollback
ALTERNATIVES = (2.0, 4.0, 10.0, 30.0, 100.0, 1000.0)  # times the tolerated odds
FAILED_MIN = 0.01  # of the candidate's exchanges; a significant difference below it is one that nobody would act on
SLOWER_MIN = 0.2
SLOWER_EXCHANGES_MIN = 50  # the first exchanges open connections, which the others had open
OPENED_SECONDS = 1.0  # by then a connection is open, or the candidate is to blame
ROUTES_MAX = 50  # judged one by one, those with most exchanges; all are judged together

KINDS = {
    "failed": "failed",
    "rejected": "were rejected by a limit",
    "unrouted": "found no route",
    "refused": "were answered with 4xx",
}

HANDSHAKES, QUESTIONS = "TLS handshakes", "DNS questions"
SAMPLED = {
    HANDSHAKES: {"failed": "failed"},
    QUESTIONS: {"failed": "failed", "unrouted": "got no records"},
}
PAIRED_SHARE = 0.5  # of what both versions answer
TESTS = (1 + ROUTES_MAX) * (len(KINDS) + len(BOUNDS_SECONDS)) + sum(len(kinds) for kinds in SAMPLED.values())


@dataclass(frozen=True, slots=True)
class Tally:
    """Exchanges that ended: all, and those that went wrong, by how. `slower[i]`: took longer than BOUNDS_SECONDS[i]."""

    exchanges: int = 0
    failed: int = 0
    rejected: int = 0
    unrouted: int = 0
    refused: int = 0
    slower: tuple[int, ...] = (0,) * len(BOUNDS_SECONDS)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.exchanges + other.exchanges,
            self.failed + other.failed,
            self.rejected + other.rejected,
            self.unrouted + other.unrouted,
            self.refused + other.refused,
            tuple(a + b for a, b in zip(self.slower, other.slower, strict=True)),
        )


NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class Sample:
    """What is no exchange and was tried at the same time. If nothing differs, one that goes wrong is the candidate's
    with probability `share`. Of a tally only the counts that SAMPLED names are used."""

    share: float
    current: Tally = NOTHING
    candidate: Tally = NOTHING

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(self.share, self.current + other.current, self.candidate + other.candidate)


@dataclass(frozen=True, slots=True)
class Arms:
    """What served at the same time where the candidate was drawn with one `share`. Tallies by route, "" for none.

    `samples` by what they are of, a key of SAMPLED; there is none where both versions are alike.
    """

    share: float
    current: Mapping[str, Tally]
    candidate: Mapping[str, Tally]
    samples: Mapping[str, Sample] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference that chance does not explain. `route` is None where all are meant; `of`: what was counted."""

    what: str
    route: str | None
    candidate_count: int
    candidate_exchanges: int
    current_count: int
    current_exchanges: int
    of: str = "exchanges"

    def __str__(self) -> str:
        of = f"{self.of} of route {self.route}" if self.route else self.of
        ours = _percent(self.candidate_count, self.candidate_exchanges)
        theirs = _percent(self.current_count, self.current_exchanges)
        return (
            f"{self.candidate_count} of {self.candidate_exchanges} {of} ({ours}) {self.what},"
            f" against {self.current_count} of {self.current_exchanges} ({theirs}) with the version in force"
        )


def total(tallies: Mapping[str, Tally]) -> Tally:
    """All routes together."""
    return sum(tallies.values(), NOTHING)


def merged(parts: Iterable[Arms]) -> Arms | None:
    """The sum of arms that have one share; None of none."""
    share, current, candidate = 0.0, dict[str, Tally](), dict[str, Tally]()
    samples: dict[str, Sample] = {}
    for part in parts:
        assert share in (0.0, part.share), "arms of different shares are judged apart"
        share = part.share
        for into, tallies in ((current, part.current), (candidate, part.candidate)):
            for route, tally in tallies.items():
                into[route] = into.get(route, NOTHING) + tally
        for of, sample in part.samples.items():
            samples[of] = samples.get(of, Sample(sample.share)) + sample
    return Arms(share, current, candidate, samples) if share else None


def judge(arms: Arms) -> Finding | None:
    """The first difference that speaks against the candidate, None if there is none (yet)."""
    named = sorted(arms.candidate, key=lambda route: -arms.candidate[route].exchanges)
    both = [route for route in named if arms.candidate[route].exchanges and arms.current.get(route, NOTHING).exchanges]
    routes = [route for route in both if route][:ROUTES_MAX]
    threshold = math.log(TESTS / ALARM)
    finding = next(_compare(None, total(arms.current), total(arms.candidate), arms.share, threshold), None)
    finding = finding or next(_compare_samples(arms.samples, threshold), None)
    for route in routes:
        if finding is not None:
            break
        current, candidate = arms.current[route], arms.candidate[route]
        share = max(arms.share, candidate.exchanges / (candidate.exchanges + current.exchanges))
        finding = next(_compare(route, current, candidate, share, threshold), None)
    return finding


def _compare(route: str | None, current: Tally, candidate: Tally, share: float, threshold: float) -> Iterator[Finding]:
    yield from _compare_counts(KINDS, Finding("", route, 0, 0, 0, 0), current, candidate, share, threshold)
    for bound, ours, theirs in zip(BOUNDS_SECONDS, candidate.slower, current.slower, strict=True):
        if bound < OPENED_SECONDS and candidate.exchanges < SLOWER_EXCHANGES_MIN:
            continue
        if ours >= SLOWER_MIN * candidate.exchanges and log_evidence(ours, theirs, share) > threshold:
            words = f"took more than {bound * 1000:g} ms"
            yield Finding(words, route, ours, candidate.exchanges, theirs, current.exchanges)


def _compare_samples(samples: Mapping[str, Sample], threshold: float) -> Iterator[Finding]:
    for of, kinds in SAMPLED.items():
        if (found := samples.get(of)) is not None:
            empty = Finding("", None, 0, 0, 0, 0, of)
            yield from _compare_counts(kinds, empty, found.current, found.candidate, found.share, threshold)


def _compare_counts(
    kinds: Mapping[str, str], empty: Finding, current: Tally, candidate: Tally, share: float, threshold: float
) -> Iterator[Finding]:
    for name, words in kinds.items():
        ours, theirs = getattr(candidate, name), getattr(current, name)
        if ours >= FAILED_MIN * candidate.exchanges and log_evidence(ours, theirs, share) > threshold:
            yield Finding(words, empty.route, ours, candidate.exchanges, theirs, current.exchanges, empty.of)


def log_evidence(ours: int, theirs: int, share: float) -> float:
    """The logarithm of the test martingale after `ours` events of the candidate and `theirs` of the version in force.

    Null: an event is the candidate's with at most TOLERATED times the odds of `share` (between 0 and 1, exclusive).
    """
    odds = TOLERATED * share / (1 - share)
    logs = []
    for ratio in ALTERNATIVES:
        # p / p0 and (1 - p) / (1 - p0), with p = odds / (1 + odds)
        grown = (1 + odds) / (1 + ratio * odds)
        logs.append(ours * math.log(ratio * grown) + theirs * math.log(grown))
    top = max(logs)
    return top + math.log(sum(math.exp(one - top) for one in logs) / len(logs))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
