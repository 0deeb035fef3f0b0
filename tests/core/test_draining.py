"""Leaving by conversation, and the answer to an operator who asks for too much."""

from meridian.core.draining import (
    LEAVE_SECONDS,
    Announce,
    Depart,
    Drain,
    Judged,
    Leave,
    Ordered,
    Phase,
    Resign,
    Stop,
    Woken,
    deadline,
    refusal,
    step,
)
from meridian.core.verdicts import NodeVerdict, Standing, Verdict


def test_an_order_is_obeyed_and_withdrawn() -> None:
    ordered = step(Drain(), Ordered(True), 0.0)
    assert ordered.commands == (Announce(True),)
    assert ordered.state.says_draining
    assert step(ordered.state, Ordered(True), 1.0).commands == ()
    assert step(ordered.state, Judged(Standing.DRAINING), 1.0).commands == ()  # it stays, drained
    assert step(ordered.state, Ordered(False), 2.0).commands == (Announce(False),)


def test_a_stop_waits_for_the_verdict() -> None:
    leaving = step(Drain(), Stop(), 5.0)
    assert leaving.commands == (Announce(True),)
    assert deadline(leaving.state) == 5.0 + LEAVE_SECONDS
    assert step(leaving.state, Judged(Standing.SERVING), 5.1).commands == ()
    assert step(leaving.state, Depart(), 5.15).commands == ()  # DNS still sends clients
    out = step(leaving.state, Judged(Standing.DRAINING), 5.2)
    assert (out.state.phase, out.commands) == (Phase.OUT, (Resign(),))
    assert out.state.says_draining and deadline(out.state) is None
    assert step(out.state, Judged(None), 5.3).commands == ()
    left = step(out.state, Depart(), 9.0)
    assert (left.state.phase, left.commands) == (Phase.LEFT, (Leave(),))
    assert step(left.state, Depart(), 9.1).commands == ()


def test_a_stop_does_not_wait_for_ever_nor_for_a_verdict_that_does_not_name_the_node() -> None:
    leaving = step(Drain(), Stop(), 5.0).state
    assert step(leaving, Woken(), 6.9).commands == ()
    assert step(leaving, Woken(), 7.0).commands == (Resign(),)
    assert step(leaving, Judged(None), 5.1).commands == (Resign(),)
    assert step(leaving, Ordered(False), 5.1).state == leaving


def test_an_operator_is_refused_what_would_leave_nobody() -> None:
    nodes = {
        "a": NodeVerdict("a", "eu", (), Standing.SERVING),
        "b": NodeVerdict("b", "eu", (), Standing.SERVING),
        "c": NodeVerdict("c", "us", (), Standing.WITHDRAWN),
    }
    verdict = Verdict(1, 1, nodes, {})
    assert refusal(verdict, "a") is None
    assert refusal(verdict, "c") is None
    assert "nobody serving" in (refusal(verdict, "eu") or "")
    assert "no node or region 'x'" in (refusal(verdict, "x") or "")
