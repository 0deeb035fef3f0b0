"""/v1/backup, /v1/store, /v1/limits: what an operator does with what the store holds. Thin: control/ does it."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from meridian.admin.panel import Panel
from meridian.control.backup import Restored
from meridian.control.upkeep import Defragmented


class Defragmentation(BaseModel):
    members: tuple[Defragmented, ...]


class FreedSeats(BaseModel):
    seats: int


def store_router(panel: Panel) -> APIRouter:
    """The routes about the store."""
    router = APIRouter(tags=["store"])

    @router.get("/v1/backup", response_class=Response)
    async def back_up() -> Response:
        """One file with all versions of the document, orders to drain, secrets as they are stored, limits' values."""
        made, raw = await panel.back_up()
        name = f"meridian-{made.cluster}-{made.made_at.replace(':', '')}.backup"
        fields = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(raw, media_type="application/octet-stream", headers=fields)

    @router.put("/v1/backup")
    async def restore(
        request: Request, author: Annotated[str, Query(max_length=200)] = "", force: bool = False
    ) -> Restored:
        """Puts a backup, which is the body, into the store; refused without force if that holds decisions already."""
        return await panel.restore(await request.body(), author=author, force=force)

    @router.post("/v1/store/defragment")
    async def defragment() -> Defragmentation:
        """Makes the files of the store's members small, one member at a time; takes NOSPACE back if there is room."""
        return Defragmentation(members=tuple(await panel.defragment()))

    @router.post("/v1/limits/settle", status_code=204)
    async def settle() -> None:
        """Says that after a restore every node of before is back, or off for good: seats and values move again."""
        await panel.settle_limits()

    @router.delete("/v1/limits/seats/{node}")
    async def free(node: str) -> FreedSeats:
        """Says that a machine is off for good: others may have its home seats."""
        return FreedSeats(seats=await panel.free_seats(node))

    return router
