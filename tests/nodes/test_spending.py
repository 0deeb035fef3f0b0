"""What is said of limits survives its encoding; garbage is dropped; letters that come together go together."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.granting.messages import Ask, Back, Consult, Consulted, Grant, Message, addressee
from meridian.core.granting.shares import Cut, Rule, Value
from meridian.core.granting.spender import Allowance
from meridian.core.metering.portions import Portion
from meridian.core.snapshot import Limit
from meridian.gateway.limits import Limits, Told
from meridian.gateway.meters import Meters
from meridian.nodes.spending import (
    Postbox,
    message_from_proto,
    message_to_proto,
    portion_of,
    spenders_frame,
    told_from_proto,
    told_to_proto,
)
from meridian_proto.v1.channel_pb2 import Frame
from meridian_proto.v1.spending_pb2 import Letter, Letters, Spending

_names, _numbers = st.text(max_size=20), st.integers(0, 2**63)
_amounts = st.floats(0, 1e9, allow_nan=False)
_messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Ask, _names, _names, _names, _numbers, _names, _numbers, _numbers, _amounts, st.tuples(_numbers, _numbers)
    ),
    st.builds(Grant, _names, _names, _names, _numbers, _names, _numbers, _amounts, _amounts),
    st.builds(Back, _names, _names, _names, _numbers, _names, _numbers),
    st.builds(Consult, _names, _names, _names, _numbers, _names),
    st.builds(Consulted, _names, _names, _names, _numbers, st.booleans(), _amounts, _amounts, _amounts),
)
_rules = st.builds(Rule, _amounts, st.integers(1, 10**7))
_seats = st.frozensets(st.integers(0, 500))


@given(_messages)
def test_a_message_survives(message: Message) -> None:
    assert message_from_proto(message_to_proto(message)) == message


@given(st.binary(max_size=200))
def test_garbage_is_no_message_and_no_error(body: bytes) -> None:
    message_from_proto(body)


@pytest.mark.parametrize("tokens", [math.nan, math.inf, -math.inf])
def test_a_number_that_counts_nothing_is_no_message(tokens: float) -> None:
    for message in (
        Ask("few", "k", "a/0", 1, "b/0", 1, 1, tokens, (0, 0)),
        Grant("few", "k", "a/0", 1, "b/0", 1, tokens, 0.0),
        Consulted("few", "k", "a/0", 1, True, tokens, 0.0, 0.0),
    ):
        assert message_from_proto(message_to_proto(message)) is None


def test_an_empty_letter_is_no_message() -> None:
    assert message_from_proto(Spending().SerializeToString()) is None


@given(
    st.builds(
        Told,
        st.builds(Cut, seats=st.integers(4, 500), slices=st.integers(1, 64)),
        st.builds(Allowance, _names, _numbers, _seats, _seats, st.floats(allow_nan=False)),
        st.dictionaries(_names, st.builds(Value, _numbers, _numbers, _rules, st.none() | _rules)),
        st.booleans(),
        st.booleans(),
    )
)
def test_what_is_told_survives(told: Told) -> None:
    assert told_from_proto(told_to_proto(told)) == told


def test_who_sits_where_survives() -> None:
    spenders = spenders_frame(["b/0", "a/0"], {3: "a"}).spenders
    assert (list(spenders.addresses), dict(spenders.sitting)) == (["a/0", "b/0"], {3: "a"})


def test_counts_are_cut_by_home_seats_and_slots() -> None:
    cut = Cut(seats=12, slices=2, homes=3)
    told = Told(cut, Allowance("agent", 7, frozenset({1}), frozenset({5, 6})), {})
    assert portion_of(told, 0) == (Portion(6, (1,)), frozenset())
    assert portion_of(told, 1) == (Portion(6, (4,)), frozenset())
    assert portion_of(told, 2) == (Portion(6, ()), frozenset()), "more workers than the limits are cut for"
    fresh = replace(told, allowance=replace(told.allowance, fresh=told.allowance.home))
    assert told_from_proto(told_to_proto(fresh)) == fresh
    assert portion_of(fresh, 1) == (Portion(6, (4,)), frozenset({4}))


def test_seats_given_up_are_confirmed_when_what_they_admitted_has_ended_and_letters_find_their_limit() -> None:
    frames: list[Frame] = []
    soon: list[Callable[[], None]] = []
    limits, meters = Limits(lambda: 100.0, alone=False), Meters("a/0", 1)
    limits.join("a/0", 0)
    postbox = Postbox(limits, meters, soon.append)
    postbox.send = frames.append
    few = Limit("few", ("route",), kind="concurrent", amount=1)
    hourly = Limit("hourly", ("route",), kind="window", amount=8, window_seconds=60.0)
    meters.replace({"few": few, "hourly": hourly}, 100.0, 1e9)
    meters.take(Portion(1, (0,)), 100.0, 1e9)
    assert meters.admit(few, "k", 100.0, 1e9) == 0.0
    limits.allow(Told(Cut(), Allowance("agent", 8, frozenset()), {}), 100.0)
    meters.take(Portion(1, ()), 100.0, 1e9)
    postbox.tick(100.0)
    assert frames == []
    meters.release(few, "k")
    postbox.tick(100.0)
    assert frames.pop().confirmed.sequence == 8
    meters.take(Portion(1, (0,)), 101.0, 1e9)
    ask = Ask("hourly", "k", "b/0", 5, "a/0", 1, 1, 4.0, (60_000, 0))
    postbox.hear(Letters(letters=[Letter(to="a/0", body=message_to_proto(ask))]), lambda: 500.0)
    soon.pop()()
    (letter,) = frames.pop().letters.letters
    assert letter.to == "b/0" and message_from_proto(letter.body) == Grant("hourly", "k", "b/0", 5, "a/0", 1, 4.0, 4.0)


def test_letters_that_come_together_go_in_one_frame_and_each_allowance_is_confirmed_once() -> None:
    frames: list[Frame] = []
    soon: list[Callable[[], None]] = []
    now = [100.0]
    limits = Limits(lambda: now[0], alone=False)
    limits.join("a/0", 0)
    postbox = Postbox(limits, Meters("a/0"), soon.append)
    postbox.send = frames.append
    postbox.tick(now[0])
    assert frames == [], "nothing was told, so nothing is confirmed"
    limits.allow(Told(Cut(), Allowance("agent", 7, frozenset({0})), {}), now[0])
    postbox.tick(now[0])
    postbox.tick(now[0])
    assert [(frame.confirmed.agent, frame.confirmed.sequence) for frame in frames] == [("agent", 7)]
    one, two = Consult("l", "k", "a/0", 1, "b/1"), Consult("l", "k", "a/0", 2, "c/0")
    limits.post(one)
    limits.post(two)
    assert len(frames) == 1 and len(soon) == 1
    soon.pop()()
    letters = frames[1].letters.letters
    assert [(letter.to, message_from_proto(letter.body)) for letter in letters] == [
        (addressee(m), m) for m in (one, two)
    ]
    postbox.hear(Letters(letters=[Letter(to="a/0", body=b"\xff")]), lambda: now[0])
