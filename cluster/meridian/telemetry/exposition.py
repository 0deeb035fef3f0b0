"""The workers' series, joined into one page in Prometheus' text format. Agent only: prometheus-client lives here.

Every series gets the label `worker`, so that two workers' counters never fall together and a restarted worker's
counter resets by itself alone, which Prometheus understands.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from meridian.telemetry.metrics import Series

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def render(series_by_worker: Mapping[str, Iterable[Series]]) -> str:
    """The page for `/metrics` (`CONTENT_TYPE`). A series whose kind contradicts its name's first one is left out."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(series_by_worker))
    return generate_latest(registry).decode()


class _Page(Collector):
    def __init__(self, series_by_worker: Mapping[str, Iterable[Series]]) -> None:
        self._series_by_worker = series_by_worker

    def collect(self) -> Iterator[Metric]:
        """One family per name, whichever workers have it."""
        families: dict[str, Metric] = {}
        for worker, all_series in self._series_by_worker.items():
            for series in all_series:
                base = series.name.removesuffix("_total") if series.kind == "counter" else series.name
                family = families.setdefault(base, Metric(base, series.help, series.kind))
                if family.type == series.kind:
                    _add(family, series, {**series.labels, "worker": worker})
        yield from families.values()


def _add(family: Metric, series: Series, labels: dict[str, str]) -> None:
    if series.kind == "counter":
        family.add_sample(f"{family.name}_total", labels, series.value)
    elif series.kind == "gauge":
        family.add_sample(family.name, labels, series.value)
    else:
        cumulative = list(accumulate(series.counts))
        for bound, count in zip((*series.bounds, inf), cumulative, strict=True):
            family.add_sample(f"{family.name}_bucket", {**labels, "le": "+Inf" if bound == inf else repr(bound)}, count)
        family.add_sample(f"{family.name}_count", labels, cumulative[-1])
        family.add_sample(f"{family.name}_sum", labels, series.sum)
