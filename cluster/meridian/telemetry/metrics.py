"""Counters, gauges and histograms for workers: an increment is one integer addition, with no lock and no lookup.

An instrument is looked up once by name and labels (when a snapshot is compiled, not per request) and then held.
The agent joins the workers' `Series` and renders them (`exposition.py`). Names follow Prometheus: units in the name,
`_total` on counters, base units (seconds, bytes).
"""

from bisect import bisect_left
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

# Upper bounds in seconds: fine where a gateway's answers lie (1 ms to 1 s), coarse up to its longest timeout.
DURATION_BOUNDS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
)  # fmt: skip
SERIES_MAX = 10_000  # per worker, 2 MB in a report: a label that takes any value shows here, not as a full memory

# Of the gauges that every process of a node has: what they say must be one.
IN_FORCE = "The verdict in force here."
MERGED = "What this node merged itself upon that verdict, as no leader was heard; else 0."

REQUESTS = "meridian_requests_total"  # by which a node knows its load

SeriesKind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Series:
    """One series at one moment, as it travels from a worker to the agent.

    `counts` of a histogram are per bucket (not cumulative), one more than `bounds`: the last is +Inf.
    """

    name: str
    kind: SeriesKind
    help: str
    labels: Mapping[str, str]
    value: float = 0.0
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    sum: float = 0.0


@dataclass(slots=True)
class Counter:
    """Only rises. On a hot path `counter.value += 1` is as good as `add`."""

    value: int = 0

    def add(self, count: int = 1) -> None:
        """Adds `count`, which is not negative."""
        self.value += count


@dataclass(slots=True)
class Gauge:
    """A level that rises and falls."""

    value: float = 0.0


@dataclass(slots=True)
class Histogram:
    """How often a value fell into which bucket. `bounds` rise."""

    bounds: tuple[float, ...] = DURATION_BOUNDS_SECONDS
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        """Makes the buckets, all empty."""
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Counts one value into the bucket with the lowest bound that is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


Instrument = Counter | Gauge | Histogram
Made = TypeVar("Made", Counter, Gauge, Histogram)


class Metrics:
    """All instruments of one process. Not for several threads."""

    def __init__(self, series_max: int = SERIES_MAX) -> None:
        """Starts empty; from the `series_max`-th series on, new ones work but are not reported (and are counted)."""
        self._series_max = series_max
        self._instruments: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[str, Instrument]] = {}
        self._refused = self.counter("meridian_metric_series_refused_total", "Series not kept: too many label values.")

    def counter(self, name: str, help: str, **labels: str) -> Counter:
        """The counter of that name and those labels; the same object each time. `name` ends in _total."""
        assert name.endswith("_total"), name
        return self._instrument(Counter(), name, help, labels)

    def gauge(self, name: str, help: str, **labels: str) -> Gauge:
        """The gauge of that name and those labels; the same object each time."""
        return self._instrument(Gauge(), name, help, labels)

    def histogram(
        self, name: str, help: str, bounds: Sequence[float] = DURATION_BOUNDS_SECONDS, **labels: str
    ) -> Histogram:
        """The histogram of that name and those labels; the same object each time. `bounds` count the first time."""
        return self._instrument(Histogram(tuple(bounds)), name, help, labels)

    def series(self) -> list[Series]:
        """All series as they stand now, for one report."""
        return list(self._series())

    def forget(self, label: str, kept: Container[str]) -> None:
        """Drops the series that have this label with another value than those kept. Who still holds their instruments
        counts for nobody; one that is asked for again begins anew."""

        def stays(labels: tuple[tuple[str, str], ...]) -> bool:
            return all(name != label or value in kept for name, value in labels)

        self._instruments = {key: found for key, found in self._instruments.items() if stays(key[1])}

    def _series(self) -> Iterator[Series]:
        for (name, labels), (help, instrument) in self._instruments.items():
            match instrument:
                case Counter(value=value):
                    yield Series(name, "counter", help, dict(labels), float(value))
                case Gauge(value=level):
                    yield Series(name, "gauge", help, dict(labels), level)
                case Histogram(bounds=bounds, counts=counts, sum=sum):
                    yield Series(name, "histogram", help, dict(labels), bounds=bounds, counts=tuple(counts), sum=sum)

    def _instrument(self, made: Made, name: str, help: str, labels: dict[str, str]) -> Made:
        key = (name, tuple(sorted(labels.items())))
        found = self._instruments.get(key)
        if found is not None:
            assert isinstance(found[1], type(made)), f"{name} is a {type(found[1]).__name__} already"
            return found[1]
        if len(self._instruments) < self._series_max:
            self._instruments[key] = (help, made)
        else:
            self._refused.add()
        return made
