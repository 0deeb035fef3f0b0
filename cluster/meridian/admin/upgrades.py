"""/v1/upgrade: new workers for this node, and how that stands. Thin: the launcher does it."""

from typing import Annotated

from fastapi import APIRouter, Query

from meridian.admin.panel import Panel, UpgradeReport

SECONDS_MAX = 24 * 3600.0


def upgrade_router(panel: Panel) -> APIRouter:
    """The routes about upgrades."""
    router = APIRouter(tags=["node"])

    @router.post("/v1/upgrade", status_code=202)
    async def begin(seconds: Annotated[float, Query(ge=0.0, le=SECONDS_MAX)] = 300.0) -> UpgradeReport:
        """Starts workers with the code that is installed now; they take over when all of them could serve. Connections
        that the present ones hold have `seconds` to end."""
        return await panel.upgrades.begin(seconds)

    @router.get("/v1/upgrade")
    async def stands() -> UpgradeReport:
        """How this node's last upgrade stands."""
        return panel.upgrades.report()

    return router
