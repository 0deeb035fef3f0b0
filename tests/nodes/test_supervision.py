"""When a child is started again. (Starting itself is tested with real processes in test_launcher.)"""

from meridian.nodes.supervision import restart_delay


def test_the_delay_doubles_up_to_a_bound_and_a_long_life_resets_it() -> None:
    delays, delay = [], 0.0
    for _ in range(8):
        delay = restart_delay(delay, lived_seconds=0.01)
        delays.append(delay)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert restart_delay(delay, lived_seconds=10.0) == 0.1
