"""Packets and descriptors between launcher and child, on a real socket pair."""

import json
import os
import socket
from pathlib import Path

import pytest

from meridian.nodes.line import Line, LineClosed, pair


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def ends() -> tuple[Line, Line]:
    ours, theirs = pair()
    return ours, Line(theirs)


def test_messages_arrive_whole_and_in_order() -> None:
    one, other = ends()
    one.send({"say": "ready"})
    one.send({"say": "failed", "reason": "x" * 20_000})
    assert other.receive() == ({"say": "ready"}, [])
    received = other.receive()
    assert received is not None and len(received[0]["reason"]) == 20_000
    assert other.receive() is None
    one.close()
    other.close()


def test_descriptors_come_with_their_message() -> None:
    one, other = ends()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one.send({"say": "sockets"}, [listening, listening])
        received = other.receive()
        assert received is not None
        for descriptor in received[1]:
            with socket.socket(fileno=descriptor) as same:
                assert same.getsockname() == listening.getsockname()
    one.close()
    other.close()


def test_a_child_that_does_not_read_gets_only_the_latest_of_each_kind() -> None:
    one, other = ends()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        before = open_descriptors()
        for number in range(1000):
            one.send({"say": "sockets", "number": number}, [listening])
            one.send({"say": "channel", "kind": "gateway", "slot": 1, "number": number}, [listening])
        assert one.waiting
        assert open_descriptors() == before  # what waits holds no descriptors of its own
        seen: dict[str, int] = {}
        while one.waiting or seen.get("channel") != 999:
            while (received := other.receive()) is not None:
                message, descriptors = received
                for descriptor in descriptors:
                    os.close(descriptor)
                assert message["number"] >= seen.get(message["say"], -1)
                seen[message["say"]] = message["number"]
            one.flush()
        assert seen == {"sockets": 999, "channel": 999}
    one.close()
    other.close()


def test_the_end_of_the_other_side() -> None:
    one, other = ends()
    other.send({"say": "left"})
    other.close()
    assert one.receive() == ({"say": "left"}, [])
    with pytest.raises(LineClosed):
        one.receive()
    one.send({"say": "drain"})  # swallowed
    assert not one.waiting
    one.close()


def test_a_packet_that_was_cut_ends_the_line_and_leaks_nothing() -> None:
    one, other = ends()
    other.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        packet = json.dumps({"say": "sockets", "filler": "x" * 100_000}).encode()
        socket.send_fds(other.socket, [packet], [listening.fileno()])
        before = open_descriptors()
        with pytest.raises(LineClosed, match="cut"):
            one.receive()
        assert open_descriptors() == before
    one.close()
    other.close()
