"""How much this node serves: requests per second over all its gateway workers, smoothed."""

from collections.abc import Callable, Iterable, Mapping

from meridian.core.capacity import smoothed
from meridian.telemetry.metrics import REQUESTS, Series

SAMPLE_SECONDS = 0.4  # reports are made more often when something changes

Labels = tuple[tuple[str, str], ...]


class LoadMeter:
    """Reads the workers' counters. `read` is called with every report."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sampled = clock()
        self._counts: dict[str, dict[Labels, float]] = {}
        self._load = 0.0

    def read(self, workers: Mapping[str, Iterable[Series]]) -> float:
        """Returns requests per second. `workers`: by label, what each told last. A count that fell began anew, one that
        came began at nothing, and one that left says nothing: its route has left the document."""
        now = self._clock()
        seconds = now - self._sampled
        if seconds < SAMPLE_SECONDS:
            return self._load
        counts = {
            label: {tuple(sorted(one.labels.items())): one.value for one in series if one.name == REQUESTS}
            for label, series in workers.items()
        }
        # A worker that is seen for the first time has counted for longer than this sample: what it says is a beginning.
        known = [(one, self._counts[label]) for label, one in counts.items() if label in self._counts]
        told = [(count, before.get(labels, 0.0)) for one, before in known for labels, count in one.items()]
        news = sum(count - was if count >= was else count for count, was in told)
        self._sampled, self._counts = now, counts
        self._load = smoothed(self._load, news / seconds, seconds)
        return self._load
