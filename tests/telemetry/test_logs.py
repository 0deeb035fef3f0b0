"""The agent's lines are JSON with a time and a level, from structlog and logging alike, and hold no secret."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from meridian.telemetry import logs
from meridian.telemetry.logs import REDACTED


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Everything logged during the test; the process's own set-up is put back after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_structlog_and_logging_make_the_same_lines(stream: io.StringIO) -> None:
    structlog.get_logger().info("applied", version=7)
    logging.getLogger("some.library").warning("odd: %s", "thing")
    structlog.get_logger().debug("not shown")
    first, second = lines(stream)
    assert (first["event"], first["level"], first["version"]) == ("applied", "info", 7)
    assert (second["event"], second["level"], second["logger"]) == ("odd: thing", "warning", "some.library")
    assert first["time"].endswith("Z")


def test_an_exception_is_one_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("broken\nin two lines")
    except ValueError:
        structlog.get_logger().exception("failed")
    [line] = lines(stream)
    assert "ValueError: broken" in line["exception"]


@pytest.mark.parametrize(
    "key", ["token", "key", "password", "Authorization", "api-key", "apiKey", "private_key", "set_cookie", "PASSWORD"]
)
def test_values_under_secret_keys_are_redacted_at_any_depth(stream: io.StringIO, key: str) -> None:
    structlog.get_logger().info("x", **{key: "hunter2"}, inner={"list": [{key: b"hunter2"}]})
    [line] = lines(stream)
    assert line[key] == REDACTED
    assert line["inner"]["list"][0][key] == REDACTED
    assert "hunter2" not in stream.getvalue()


def test_names_that_only_look_alike_stay(stream: io.StringIO) -> None:
    structlog.get_logger().info("x", monkey="a", token_file="/run/token", keyspace="b", has_key=True, key=None)
    [line] = lines(stream)
    assert (line["monkey"], line["token_file"], line["keyspace"]) == ("a", "/run/token", "b")
    assert (line["has_key"], line["key"]) == (True, None)


def test_a_cycle_ends(stream: io.StringIO) -> None:
    loop: dict[str, Any] = {"token": "hunter2"}
    loop["again"] = loop
    structlog.get_logger().info("x", value=loop)
    assert "hunter2" not in stream.getvalue()
