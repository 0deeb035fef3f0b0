"""Response rate limiting on a clock of our own."""

from meridian_dns.throttle import Judgement, Throttle

SEND, SLIP, DROP = Judgement.SEND, Judgement.SLIP, Judgement.DROP


def test_burst_then_slip_then_rate() -> None:
    throttle = Throttle(10, 3, slip=2)
    assert [throttle.judge("192.0.2.1", 0.0) for _ in range(7)] == [SEND, SEND, SEND, DROP, SLIP, DROP, SLIP]
    assert throttle.judge("192.0.2.1", 0.1) is SEND
    assert throttle.judge("192.0.2.1", 0.1) is DROP
    assert throttle.judge("192.0.2.77", 0.1) is SLIP, "the whole /24 is one network"
    assert throttle.judge("192.0.3.1", 0.1) is SEND
    assert [throttle.judge("192.0.2.1", 100.0) for _ in range(4)] == [SEND, SEND, SEND, DROP]


def test_ipv6_networks_are_56_bits() -> None:
    throttle = Throttle(1, 1, slip=0)
    assert throttle.judge("2001:db8:0:1::1", 0.0) is SEND
    assert throttle.judge("2001:db8:0:ff::2", 0.0) is DROP
    assert throttle.judge("2001:db8:0:100::1", 0.0) is SEND


def test_clients_of_ipv4_at_a_dual_stack_socket_are_not_one_network() -> None:
    throttle = Throttle(1, 1, slip=0)
    assert throttle.judge("::ffff:192.0.2.1", 0.0) is SEND
    assert throttle.judge("::ffff:198.51.100.1", 0.0) is SEND
    assert throttle.judge("192.0.2.9", 0.0) is DROP, "however it came, it is of the first one's network"


def test_table_is_bounded_and_forgets_the_longest_unseen() -> None:
    throttle = Throttle(1, 1, networks_max=2)
    for network in ("192.0.2.1", "192.0.3.1", "192.0.2.1", "192.0.4.1"):
        throttle.judge(network, 0.0)
    assert len(throttle) == 2
    assert throttle.judge("192.0.2.1", 0.0) is not SEND, "seen later than 192.0.3.1, so still known"
    assert throttle.judge("192.0.3.1", 0.0) is SEND


def test_admits_at_most_rate_times_window_plus_burst() -> None:
    throttle = Throttle(50, 20)
    sent = sum(throttle.judge("192.0.2.1", tick / 1000) is SEND for tick in range(4000))
    assert 50 * 4 <= sent <= 50 * 4 + 20
