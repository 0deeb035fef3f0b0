"""/v1/zones/{zone}/keys: the keys of a signed zone, as the API answers them and the command line prints them."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from meridian.admin.panel import Panel, RoleName
from meridian.admin.status import ZoneKeysStatus

Word = Literal["seen", "gone"]


class RollIn(BaseModel):
    """Which of the zone's keys is to be replaced: csk where it has one key, else ksk or zsk."""

    model_config = ConfigDict(extra="forbid")

    role: RoleName = "csk"


def zone_keys_router(panel: Panel) -> APIRouter:
    """The routes below /v1/zones."""
    router = APIRouter(prefix="/v1/zones/{zone}/keys", tags=["zones"])

    @router.get("")
    async def keys(zone: str) -> ZoneKeysStatus:
        """The zone's keys and where their rollover stands; public parts only."""
        return panel.zone_keys(zone)

    @router.post("/roll", status_code=204)
    async def roll(zone: str, body: RollIn) -> None:
        """Begins to replace a key by a new one."""
        await panel.tell_zone_keys(zone, body.role)

    @router.post("/{word}", status_code=204)
    async def tell(zone: str, word: Word) -> None:
        """Says what the parent was seen to do: give the DS that was asked for, or (gone) none any more."""
        await panel.tell_zone_keys(zone, word)

    return router
