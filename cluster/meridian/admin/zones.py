"""/v1/zones/{zone}: a zone as it is served, checked and as a file."""

from fastapi import APIRouter
from starlette.responses import PlainTextResponse

from meridian.admin.explained import ZoneCheck
from meridian.admin.panel import Panel


def zones_router(panel: Panel) -> APIRouter:
    """The routes below /v1/zones but for keys."""
    router = APIRouter(prefix="/v1/zones/{zone}", tags=["zones"])

    @router.get("/check")
    async def check(zone: str, view: str = "") -> ZoneCheck:
        """What a good registrar would say of the zone that clients of the view see, the grave first."""
        return await panel.zones.check(zone, view)

    @router.get("/file", response_class=PlainTextResponse)
    async def file(zone: str, view: str = "") -> PlainTextResponse:
        """The zone that clients of the view see, as a zone file (RFC 1035) with steered record sets as comments."""
        return PlainTextResponse(await panel.zones.export(zone, view), media_type="text/dns")

    return router
