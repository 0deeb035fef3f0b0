"""/v1/cache: what an operator says of answers that gateway workers keep. Thin: control/purges does it."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from meridian.admin.panel import Panel
from meridian.core.purging import Purge


class PurgeOrder(BaseModel, extra="forbid"):
    """What is to be forgotten: whatever fits all that is given; nothing given is everything."""

    route: Annotated[str, Field(max_length=63)] = ""
    host: Annotated[str, Field(max_length=255)] = ""
    path: Annotated[str, Field(max_length=2048, description="exactly, with all its queries")] = ""
    path_prefix: Annotated[str, Field(max_length=2048, description="by whole segments")] = ""
    tag: Annotated[str, Field(max_length=255, description="of Cache-Tag or Surrogate-Key")] = ""


class PurgeOrdered(BaseModel):
    """The order's number."""

    number: int


def cache_router(panel: Panel) -> APIRouter:
    """The routes below /v1/cache."""
    router = APIRouter(prefix="/v1/cache", tags=["cache"])

    @router.post("/purges")
    async def purge(order: PurgeOrder) -> PurgeOrdered:
        """Lets all gateway workers of the cluster forget answers that they keep. Those that can be reached do so within
        a second, the others before they hear anything else."""
        return PurgeOrdered(number=await panel.purge(Purge(0, **order.model_dump())))

    return router
