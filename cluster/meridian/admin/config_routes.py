"""/v1/config: what an operator does with the document. Thin: control/configuration.py decides."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from meridian.admin.panel import Panel
from meridian.admin.rollouts import rollout_status
from meridian.admin.status import RolloutStatus
from meridian.control.configuration import Applied, Planned, Stored
from meridian.core.document import schema
from meridian.store.documents import VersionMeta


class DocumentIn(BaseModel):
    """A document's text, and the contents (base64) of the files it names, by the names it uses."""

    model_config = ConfigDict(extra="forbid")

    text: str
    files: dict[str, Base64Bytes] = Field(default_factory=dict, max_length=1000)


class ApplyIn(DocumentIn):
    """`expected_version` is the version that the operator saw; another one in force by then is a conflict (409)."""

    author: str = Field(default="", max_length=200)
    message: str = Field(default="", max_length=2000)
    force: bool = False
    expected_version: int | None = Field(default=None, ge=0)
    staged: bool = False
    stage_seconds: float | None = Field(default=None, gt=0, le=86_400)


class RollbackIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1)
    author: str = Field(default="", max_length=200)


class By(BaseModel):
    model_config = ConfigDict(extra="forbid")

    author: str = Field(default="", max_length=200)


class History(BaseModel):
    """`outcomes`: how the rollouts of versions ended, by version."""

    versions: tuple[VersionMeta, ...]
    outcomes: dict[int, RolloutStatus] = {}


def config_router(panel: Panel) -> APIRouter:
    """The routes below /v1/config. Fixed words stand before {version}: the first match wins."""
    router = APIRouter(prefix="/v1/config", tags=["configuration"])

    @router.get("")
    async def current() -> Stored:
        """The current document; its files are named with their fingerprints only."""
        return await panel.configuration.get()

    @router.put("")
    async def apply(body: ApplyIn) -> Applied:
        """Makes a document current by one compare-and-put, or (`staged`) begins to roll it out."""
        return await panel.configuration.apply(
            body.text,
            body.files,
            author=body.author,
            message=body.message,
            force=body.force,
            expected_version=body.expected_version,
            staged=body.staged,
            stage_seconds=body.stage_seconds,
        )

    @router.post("/plan")
    async def plan(body: DocumentIn) -> Planned:
        """What applying would change. Changes nothing."""
        return await panel.configuration.plan(body.text, body.files)

    @router.get("/history")
    async def history(limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> History:
        """The newest versions first, without their texts."""
        versions = await panel.configuration.history(limit)
        outcomes = {number: rollout_status(record) for number, record in (await panel.configuration.outcomes()).items()}
        return History(versions=versions, outcomes={n: found for n, found in outcomes.items() if found is not None})

    @router.get("/rollout")
    async def rollout() -> RolloutStatus | None:
        """The document on its way, or how the last one ended."""
        return rollout_status(await panel.configuration.rollout())

    @router.post("/rollout/promote")
    async def promote(body: By) -> RolloutStatus | None:
        """Makes the candidate current everywhere now."""
        return rollout_status(await panel.configuration.promote(author=body.author))

    @router.post("/rollout/abort")
    async def abort(body: By) -> RolloutStatus | None:
        """Ends the rollout; what was current stays."""
        return rollout_status(await panel.configuration.abort(author=body.author))

    @router.post("/rollback")
    async def rollback(body: RollbackIn) -> Applied:
        """Makes an old version's content current again, as a new version."""
        return await panel.configuration.rollback(body.version, author=body.author)

    @router.get("/schema")
    async def document_schema() -> dict[str, object]:
        """The JSON Schema of a document."""
        return schema()

    @router.get("/{version}")
    async def one(version: int) -> Stored:
        """One version of the document."""
        return await panel.configuration.get(version)

    return router
