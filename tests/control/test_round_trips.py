"""What a node tells of how far the other regions are."""

from meridian.control.round_trips import KEPT, NEEDED, RoundTrips
from meridian.core.distances import REGIONS_MAX


def seen(trips: RoundTrips, host: str, *seconds: float) -> None:
    for one in seconds:
        trips.note(host, one)


def test_the_median_of_the_last_probes_to_the_nearest_node_is_told() -> None:
    trips = RoundTrips()
    trips.follow({"192.0.2.1": "us", "192.0.2.2": "us", "192.0.2.3": "ap"})
    seen(trips, "192.0.2.1", 0.5, 0.08, 0.07, 0.09, 9.0)
    assert trips.by_region() == {"us": 0.09}
    seen(trips, "192.0.2.2", *[0.06] * NEEDED)
    seen(trips, "192.0.2.3", *[0.2] * (NEEDED - 1))
    assert trips.by_region() == {"us": 0.06}, "what is known of ap is not enough yet"
    seen(trips, "192.0.2.2", *[0.1] * KEPT)
    assert trips.by_region() == {"us": 0.09}, "old ones are let go of"


def test_what_is_no_round_trip_or_of_nobody_followed_counts_nothing() -> None:
    trips = RoundTrips()
    trips.follow({"192.0.2.1": "us"})
    seen(trips, "192.0.2.1", *[float("nan"), -1.0, float("inf")] * NEEDED)
    seen(trips, "192.0.2.9", *[0.1] * NEEDED)
    assert trips.by_region() == {}


def test_a_host_that_goes_is_forgotten_and_one_that_stays_is_not() -> None:
    trips = RoundTrips()
    trips.follow({"192.0.2.1": "us", "192.0.2.2": "ap"})
    seen(trips, "192.0.2.1", *[0.1] * NEEDED)
    seen(trips, "192.0.2.2", *[0.2] * NEEDED)
    trips.follow({"192.0.2.1": "us"})
    trips.follow({"192.0.2.1": "us", "192.0.2.2": "ap"})
    assert trips.by_region() == {"us": 0.1}


def test_no_more_regions_are_told_than_are_surveyed() -> None:
    trips = RoundTrips()
    hosts = {f"192.0.2.{number}": f"region-{number}" for number in range(REGIONS_MAX + 1)}
    trips.follow(hosts)
    for host in hosts:
        seen(trips, host, *[0.1] * NEEDED)
    assert len(trips.by_region()) == REGIONS_MAX
