"""/v1/explain: why a question is answered as it is, in the words that the command line prints."""

from typing import Annotated

from fastapi import APIRouter, Query

from meridian.admin.explained import DnsExplanation, RequestExplanation, RequestQuestion
from meridian.admin.panel import Panel


def explain_router(panel: Panel) -> APIRouter:
    """The routes below /v1/explain."""
    router = APIRouter(prefix="/v1/explain", tags=["explain"])

    @router.get("/dns")
    async def dns(
        name: Annotated[str, Query(max_length=1024)],
        type: Annotated[str, Query(max_length=16)] = "A",
        client: Annotated[
            str, Query(max_length=64, description="an address, or a network passed on by a resolver")
        ] = "",
    ) -> DnsExplanation:
        """How this node answers a DNS question: the steps, who could be named and why not, the answer."""
        return await panel.zones.explain(name, type, client)

    @router.post("/request")
    async def request(question: RequestQuestion) -> RequestExplanation:
        """What this node would do with a request, which is not sent: the routes and why they take it or not, what the
        stages would say, the endpoints. Nothing is spent or changed. (A POST, so that fields stay out of logs.)"""
        return await panel.requests.explain(question)

    return router
