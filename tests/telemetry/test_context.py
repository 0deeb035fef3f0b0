"""Trace context: strict in, valid out, and one consistent decision per trace."""

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.telemetry import context
from meridian.telemetry.context import TraceContext

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01".encode()


def test_reads_the_example_of_the_specification() -> None:
    assert context.parse(VALID) == TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), True)
    assert context.parse(VALID[:-1] + b"0") == TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), False)
    assert context.parse(VALID[:-1] + b"3") == TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), True, True)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        VALID[:-1],
        VALID + b"0",
        VALID + b"-00",  # version 00 has exactly four fields
        VALID.upper(),
        b"ff" + VALID[2:],
        b"0x" + VALID[2:],
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00_{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE}_{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}_01".encode(),
        f"00-{TRACE[:-2]} a-{SPAN}-01".encode(),  # bytes.fromhex skips blanks
        f"00-{TRACE}-{SPAN}-0g".encode(),
        b" " + VALID,
        f"cc-{TRACE}-{SPAN}-01.what-comes".encode(),  # a later version continues with "-" or ends
        VALID.replace(b"4b", b"\xff\xfe"),
    ],
)
def test_what_is_not_strictly_valid_is_as_if_absent(value: bytes) -> None:
    assert context.parse(value) is None


@pytest.mark.parametrize("rest", [b"", b"-", b"-what-the-future-will-be-like"])
def test_the_first_fields_of_a_later_version_are_read(rest: bytes) -> None:
    assert context.parse(b"cc" + VALID[2:] + rest) == context.parse(VALID)


@given(st.binary(max_size=64))
def test_no_bytes_raise_and_what_is_read_survives_a_round_trip(value: bytes) -> None:
    read = context.parse(value)
    assert read is None or context.parse(context.format(read)) == read


def test_a_new_trace_and_its_child() -> None:
    root = context.new(os.urandom, True)
    assert (len(root.trace_id), len(root.span_id), root.sampled, root.random) == (16, 8, True, True)
    assert context.parse(context.format(root)) == root
    below = context.child(root, os.urandom)
    assert below.trace_id == root.trace_id
    assert below.span_id != root.span_id
    assert below.sampled


def test_ids_of_zeros_are_drawn_again() -> None:
    draws = iter([bytes(16), bytes(15) + b"\x01", bytes(8), bytes(7) + b"\x02"])
    assert context.new(lambda _: next(draws), False) == TraceContext(
        bytes(15) + b"\x01", bytes(7) + b"\x02", False, True
    )


def test_the_callers_decision_stands() -> None:
    caller = context.parse(VALID)
    assert caller is not None
    assert context.start(caller, 0.0, os.urandom).sampled
    assert context.start(caller, 0.0, os.urandom).trace_id == caller.trace_id
    unsampled = context.parse(VALID[:-1] + b"0")
    assert not context.start(unsampled, 1.0, os.urandom).sampled


def test_decisions_follow_the_ratio_agree_everywhere_and_grow_with_it() -> None:
    draw = random.Random(7)
    ids = [draw.randbytes(16) for _ in range(20_000)]
    kept = {ratio: {i for i in ids if context.decide(i, ratio)} for ratio in (0.0, 0.01, 0.25, 1.0)}
    assert not kept[0.0]
    assert len(kept[1.0]) == len(ids)
    assert 0.008 < len(kept[0.01]) / len(ids) < 0.012
    assert 0.23 < len(kept[0.25]) / len(ids) < 0.27
    assert kept[0.01] < kept[0.25]
    assert context.start(None, 1.0, os.urandom).sampled
    assert not context.start(None, 0.0, os.urandom).sampled
