"""The data plane runs on uvloop, so its tests do too."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio makes the loops of this directory's tests with these."""
    return {"uvloop": uvloop.new_event_loop}
