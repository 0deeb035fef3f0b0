"""The admin API on a socket of the launcher's. A module of its own because of what it imports: FastAPI and uvicorn take
longer to load than all the rest of an agent, and a node serves before its operators can ask it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Generator, Sequence

import uvicorn

from meridian.admin.app import build_app
from meridian.admin.panel import Panel


async def serve(panel: Panel, sock: socket.socket, token: str, hosts: Sequence[str]) -> None:
    """Serves the API on a listening socket until cancelled; then finishes what is under way, within a second."""
    app = build_app(panel, token, hosts)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=1
    )
    server = _AdminServer(config)
    serving = asyncio.get_running_loop().create_task(server.serve([sock]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        raise


class _AdminServer(uvicorn.Server):
    """Signals are the process's own business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Captures none."""
        yield
