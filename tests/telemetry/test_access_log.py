"""Lines are complete JSON, secrets have no place in them, and a reader that does not read costs lines only."""

import fcntl
import os
import time

import msgspec
import pytest

from meridian.telemetry.access_log import PATH_CHARACTERS_MAX, AccessLog, AccessRecord, path_of
from meridian.telemetry.line_log import FLUSH_BYTES, KEPT_BYTES_MAX, write_without_waiting


def make_record(status: int = 200, tries: int = 1, path: str = "/api/products") -> AccessRecord:
    return AccessRecord(
        time="2026-01-01T00:00:00.000Z", request_id="r1", client="192.0.2.1", protocol="2", method="GET",
        host="shop.example.com", path=path, status=status, duration_seconds=0.0125, tries=tries, route="products",
    )  # fmt: skip


class Sink:
    """Takes everything, or only `room` bytes a call."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.taken = bytearray()
        self.calls = 0

    def write(self, data: memoryview) -> int:
        self.calls += 1
        part = data if self.room is None else data[: self.room]
        self.taken += part
        return len(part)


def test_one_json_line_per_request_without_empty_fields() -> None:
    sink = Sink()
    log = AccessLog(sink.write)
    log.log(make_record())
    assert not sink.taken
    log.flush()
    assert msgspec.json.decode(sink.taken) == {
        "log": "access", "time": "2026-01-01T00:00:00.000Z", "request_id": "r1", "client": "192.0.2.1",
        "protocol": "2", "method": "GET", "host": "shop.example.com", "path": "/api/products", "status": 200,
        "duration_seconds": 0.0125, "tries": 1, "route": "products",
    }  # fmt: skip
    assert sink.taken.endswith(b"\n")


def test_a_line_cannot_be_forged_from_a_path() -> None:
    sink = Sink()
    log = AccessLog(sink.write)
    log.log(make_record(path='/x"}\n{"log":"access"'))
    log.flush()
    assert sink.taken.count(b"\n") == 1


def test_a_path_loses_its_query_and_its_excess() -> None:
    assert path_of(b"/login?token=abc") == "/login"
    assert path_of(b"/\xff") == "/ÿ"
    assert len(path_of(b"/" * 5000)) == PATH_CHARACTERS_MAX


def test_it_flushes_itself_at_64_kib() -> None:
    sink = Sink()
    log = AccessLog(sink.write)
    while not sink.calls:
        log.log(make_record())
    assert FLUSH_BYTES <= len(sink.taken) < FLUSH_BYTES + 1024


@pytest.mark.parametrize(
    ("status", "tries", "kept"), [(200, 1, False), (404, 1, False), (502, 1, True), (200, 2, True), (0, 1, True)]
)
def test_sampling_never_hides_what_went_wrong(status: int, tries: int, kept: bool) -> None:
    sink = Sink()
    log = AccessLog(sink.write, sample_ratio=0.1, draw=lambda: 0.5)
    log.log(make_record(status, tries))
    log.flush()
    assert bool(sink.taken) is kept


def test_sampling_follows_the_ratio() -> None:
    sink = Sink()
    draws = iter([0.05, 0.5, 0.0999, 0.1])
    log = AccessLog(sink.write, sample_ratio=0.1, draw=lambda: next(draws))
    for _ in range(4):
        log.log(make_record())
    log.flush()
    assert sink.taken.count(b"\n") == 2


def test_a_reader_that_does_not_read_costs_lines_and_the_rest_arrives_whole() -> None:
    sink = Sink(room=0)
    log = AccessLog(sink.write)
    for _ in range(10_000):
        log.log(make_record())
    assert log.dropped_lines > 0
    assert sink.calls < 100  # not one try per line
    sink.room = 1000
    while len(sink.taken) < KEPT_BYTES_MAX:
        log.flush()
    for _ in range(10):
        log.flush()
    lines = sink.taken.splitlines()
    assert len(lines) + log.dropped_lines == 10_000
    assert all(msgspec.json.decode(line)["status"] == 200 for line in lines)


def test_a_full_pipe_is_not_waited_for_and_a_closed_one_raises_nothing() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 65536)
    write = write_without_waiting(writer)
    begin = time.monotonic()
    first = write(memoryview(bytes(1_000_000)))
    assert 0 < first <= 65536
    assert write(memoryview(b"x" * 10)) == 0
    assert time.monotonic() - begin < 1
    assert len(os.read(reader, 65536)) == first
    assert write(memoryview(b"x" * 10)) == 10
    os.close(reader)
    assert write(memoryview(b"x" * 10)) == 0
    os.close(writer)
