"""The one mapping from our named errors to HTTP answers. No answer shows internals; every one says what to do next."""

from collections.abc import Callable
from dataclasses import asdict

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse

from meridian.admin.explained import CannotExplain, UnknownZone
from meridian.admin.gate import error_body
from meridian.admin.panel import CannotUpgrade
from meridian.control.backup import BackupError, NotEmpty
from meridian.control.bundle import BundleError
from meridian.control.configuration import ChangedMeanwhile, NoRollout, NoSuchVersion, PlanRefused, RolloutRunning
from meridian.control.drains import DrainRefused
from meridian.control.seat_orders import SeatsRefused
from meridian.control.zone_keys import KeysRefused, NotSigned
from meridian.core.document import DocumentError
from meridian.store.documents import RolloutChanged, VersionConflict
from meridian.store.port import OutcomeUnknown, StoreError


class UnknownTarget(Exception):
    """There is no node and no region of that name; the message names those that are known."""


# Exception, status, remedy. The most special class first: OutcomeUnknown is a StoreError.
_MAPPING: tuple[tuple[type[Exception], int, str], ...] = (
    (RolloutRunning, 409, "see meridian rollout status; meridian rollout promote or abort ends it, then apply again"),
    (NoRollout, 409, "meridian history shows how rollouts ended"),
    (ChangedMeanwhile, 409, "see meridian plan, take the change into your file, then apply again"),
    (RolloutChanged, 409, "see meridian rollout status, then try again"),
    (PlanRefused, 409, "if that is meant, apply again with force (--force)"),
    (VersionConflict, 409, "somebody else applied meanwhile: look at the plan again, then apply"),
    (NoSuchVersion, 404, "the history lists the versions that exist"),
    (UnknownTarget, 404, "the status lists nodes and regions"),
    (DrainRefused, 409, "bring another node back first; --force gives the order all the same"),
    (CannotUpgrade, 409, "meridian upgrade --status shows how the last one stands"),
    (SeatsRefused, 409, "meridian status shows who sits where and what limits wait for"),
    (NotEmpty, 409, "if that is meant, restore again with force (--force); back up what is there first"),
    (BackupError, 422, "nothing was changed"),
    (NotSigned, 404, "keys are made within seconds of the first document that says `dnssec` for the zone"),
    (
        CannotExplain,
        400,
        "ask for example: meridian explain dns www.example.com --type A, or explain request http://example.com/",
    ),
    (UnknownZone, 404, "meridian get shows the document with its zones"),
    (KeysRefused, 409, "meridian dns keys show ZONE says what is next"),
    (OutcomeUnknown, 503, "the answer was lost: read the current version before trying again"),
    (StoreError, 503, "nodes go on serving what they have; try again when the store answers"),
    (BundleError, 500, "give every node the same cluster key"),
)


def _answer(status: int, message: str, remedy: str = "", problems: tuple[dict[str, object], ...] = ()) -> JSONResponse:
    return JSONResponse(error_body(message, remedy, problems), status)


def _named(status: int, remedy: str) -> Callable[[Request, Exception], JSONResponse]:
    def handle(_: Request, error: Exception) -> JSONResponse:
        return _answer(status, str(error), remedy)

    return handle


def _document(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DocumentError)
    count = len(error.problems)
    problems = tuple(asdict(problem) for problem in error.problems)
    return _answer(
        422,
        f"the document has {count} problem{'s' * (count > 1)}",
        "correct it and apply again; nothing was changed",
        problems,
    )


def _request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Only place and message: pydantic's own errors repeat the input, which may be a private key.
    problems: tuple[dict[str, object], ...] = tuple(
        {"line": 0, "column": 0, "place": ".".join(map(str, found["loc"])), "message": found["msg"]}
        for found in error.errors()
    )
    return _answer(400, "the request is not what this call takes", "see /v1/openapi.json", problems)


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    response = _answer(error.status_code, str(error.detail), "see /v1/openapi.json")
    response.headers.update(error.headers or {})
    return response


def _unexpected(_: Request, __: Exception) -> JSONResponse:
    return _answer(500, "this request failed inside the node", "the node's log has the reason")


def install(app: FastAPI) -> None:
    """Makes `app` answer every error in the one shape."""
    for kind, status, remedy in _MAPPING:
        app.add_exception_handler(kind, _named(status, remedy))
    app.add_exception_handler(DocumentError, _document)
    app.add_exception_handler(RequestValidationError, _request)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
