"""The admin API of one node, as an ASGI application. Whoever mounts it brings the socket.

Invariant: it answers while the store is away. Status, health and metrics come from memory; what needs the store says
503 and why.
"""

import asyncio
from collections.abc import Collection
from typing import Annotated

from fastapi import FastAPI, Query
from starlette.responses import PlainTextResponse

from meridian.admin import failures
from meridian.admin.cache_routes import cache_router
from meridian.admin.config_routes import config_router
from meridian.admin.explanations import explain_router
from meridian.admin.gate import Gate
from meridian.admin.panel import Panel
from meridian.admin.status import Status, laggards, why_not_ready
from meridian.admin.store_routes import store_router
from meridian.admin.upgrades import upgrade_router
from meridian.admin.zone_keys import zone_keys_router
from meridian.admin.zones import zones_router

POLL_SECONDS = 0.05  # of the node's own memory, while a client waits for a version
WAIT_SECONDS_MAX = 60.0


def build_app(panel: Panel, token: str, hosts: Collection[str] = ("localhost",)) -> FastAPI:
    """Builds the application. `hosts` are names, besides addresses, that clients may ask for (Host header).

    Raises ValueError for an empty token: an API that anybody may call is never what was meant.
    """
    if not token:
        raise ValueError("the admin API needs a token; put one into the token file")
    app = FastAPI(
        title="Meridian",
        version="1",
        openapi_url="/v1/openapi.json",
        # The bundled pages load scripts from elsewhere; the description itself is enough for tools.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Gate, token=token, hosts=hosts)
    failures.install(app)
    app.include_router(config_router(panel))
    app.include_router(store_router(panel))
    app.include_router(cache_router(panel))
    app.include_router(zone_keys_router(panel))
    app.include_router(zones_router(panel))
    app.include_router(explain_router(panel))
    app.include_router(upgrade_router(panel))

    @app.get("/v1/status", tags=["cluster"])
    async def status(
        version: Annotated[int, Query(ge=0)] = 0,
        wait_seconds: Annotated[float, Query(ge=0, le=WAIT_SECONDS_MAX)] = 0.0,
    ) -> Status:
        """What this node knows now. With `version` it waits, at most `wait_seconds`, until all nodes serve it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        found = panel.status()
        while any(laggards(found, version)) and loop.time() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            found = panel.status()
        return found

    @app.put("/v1/drains/{name}", status_code=204, tags=["cluster"])
    async def drain(name: str, force: bool = False) -> None:
        """Orders a node or a region to leave, with no failed request. Force gives the order also to the last ones."""
        await panel.drain(_known(panel.status(), name), True, force=force)

    @app.delete("/v1/drains/{name}", status_code=204, tags=["cluster"])
    async def undrain(name: str) -> None:
        """Lets a node or a region come back."""
        await panel.drain(_known(panel.status(), name), False)

    @app.get("/metrics", response_class=PlainTextResponse, tags=["cluster"])
    async def metrics() -> PlainTextResponse:
        """All series in Prometheus' text format."""
        return PlainTextResponse(await panel.metrics(), media_type="text/plain; version=0.0.4")

    @app.get("/healthz", response_class=PlainTextResponse, tags=["cluster"])
    async def healthz() -> str:
        """Says ok while the agent runs. Losing the store is not unhealth: the node serves on."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, tags=["cluster"])
    async def readyz() -> PlainTextResponse:
        """Says ok while new clients may be sent to this node; 503 and why while it starts or drains."""
        why = why_not_ready(panel.status())
        return PlainTextResponse("ok\n" if why is None else f"{why}\n", 200 if why is None else 503)

    return app


def _known(status: Status, name: str) -> str:
    """Returns `name` if a node or a region bears it; else raises UnknownTarget: a typing error must not go unseen."""
    known = [node.name for node in status.nodes] + [region.name for region in status.regions]
    if name not in known:
        raise failures.UnknownTarget(f"there is no node and no region {name!r} (known: {', '.join(known) or 'none'})")
    return name
