"""Children's lines on their way to our stderr."""

import json
import os

from hypothesis import given
from hypothesis import strategies as st

from meridian.nodes.relay import BACKLOG_BYTES_MAX, LINE_BYTES_MAX, Cutter, Writer


def test_names_are_put_into_json_lines_and_words_become_one() -> None:
    cutter = Cutter("one", "gateway-0")
    lines = cutter.lines(b'{"level":"info","event":"x"}\n\nTraceback "quoted"\n{"event":')
    assert [json.loads(line) for line in lines] == [
        {"node": "one", "worker": "gateway-0", "level": "info", "event": "x"},
        {"node": "one", "worker": "gateway-0", "level": "error", "event": "output", "text": 'Traceback "quoted"'},
    ]
    assert json.loads(cutter.lines(b'"y"}\n')[0])["event"] == "y"


def test_the_rest_at_the_end_is_a_line() -> None:
    cutter = Cutter("one", "agent")
    assert cutter.lines(b"half") == []
    assert json.loads(cutter.lines(b"")[0])["text"] == "half"
    assert cutter.lines(b"") == []


def test_a_long_line_is_cut_and_the_next_one_is_whole() -> None:
    cutter = Cutter("one", "agent")
    lines = []
    for _ in range(10):
        lines += cutter.lines(b"x" * 10_000)
    lines += cutter.lines(b"tail\nnext\n")
    assert [len(json.loads(line)["text"]) for line in lines] == [LINE_BYTES_MAX, 4]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=30), st.data())
def test_however_it_is_split_the_lines_are_the_same(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    one, other = Cutter("n", "w"), Cutter("n", "w")
    split = [line for piece in pieces for line in one.lines(piece)] + one.lines(b"")
    at_once = (other.lines(whole) if whole else []) + other.lines(b"")
    assert split == at_once


def test_a_pipe_that_nobody_reads_drops_whole_lines_and_never_blocks() -> None:
    read, write = os.pipe()
    writer = Writer(write)
    line = b"x" * 999 + b"\n"
    for _ in range(3000):
        writer.write(line)
    assert writer.dropped > 1000 and writer.waiting
    received = bytearray()
    while writer.waiting:
        received += os.read(read, 1 << 20)
        writer.flush()
    received += os.read(read, 1 << 20)
    assert set(bytes(received).split(b"\n")) == {line[:-1], b""}
    assert len(received) <= BACKLOG_BYTES_MAX + (1 << 17)
    os.close(read), os.close(write)


def test_a_reader_that_is_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    writer = Writer(write)
    writer.write(b"x\n")
    assert not writer.waiting or writer.dropped == 0
    os.close(write)
