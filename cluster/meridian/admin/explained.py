"""What an explanation says, in the words that the admin API answers and the command line prints."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class CannotExplain(Exception):
    """The question is none, or this node has no document yet; the message says which."""


class UnknownZone(Exception):
    """There is no such zone in the document; the message names those that there are."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class ExplainedStep(_Frozen):
    """One step of the way. `topic`: node, zone, name, client, verdict, steering or answer; of a request: node, client,
    path, route, upstream or answer."""

    topic: str
    text: str


class ExplainedCandidate(_Frozen):
    """A node (or a region's own address) that could be in the answer to (`owner`, `type`). `standing` is the verdict's,
    empty where it says nothing of it."""

    owner: str
    type: str
    region: str
    node: str
    addresses: tuple[str, ...]
    standing: str
    answered: bool
    reason: str


class ExplainedRecord(_Frozen):
    """One record of the answer, as a zone file has it; `section`: answer, authority or additional."""

    section: str
    owner: str
    ttl_seconds: int
    type: str
    value: str


class DnsExplanation(_Frozen):
    """How `node` answers a question. `scope` in bits of the client's address (RFC 7871); `extended_error` is empty if
    there is none; `verdict_fallback` counts what the node merged itself upon the verdict."""

    node: str
    region: str
    question: str
    client: str
    config_version: int
    verdict_version: int
    verdict_fallback: int
    steps: tuple[ExplainedStep, ...]
    candidates: tuple[ExplainedCandidate, ...]
    rcode: str
    extended_error: str
    scope: int
    records: tuple[ExplainedRecord, ...]


class ZoneFinding(_Frozen):
    """One thing to say of a zone. `level`: error (fails for clients now), warning (will one day), note."""

    level: str
    name: str
    problem: str
    remedy: str


class ZoneCheck(_Frozen):
    """All that is to be said of a zone as a node serves it, to clients of a view (empty: of none), the grave first."""

    zone: str
    view: str
    findings: tuple[ZoneFinding, ...]


class RequestField(_Frozen):
    """A header field of a request, in Latin-1."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=256)]
    value: Annotated[str, Field(pattern=r"^[\t\x20-\x7e\xa0-\xff]*$", max_length=8192)]


class RequestQuestion(_Frozen):
    """A request that is not sent. `client` is the address that would connect; empty: this machine."""

    url: Annotated[str, Field(max_length=8192, examples=["http://shop.example.com/api/products"])]
    method: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=64)] = "GET"
    headers: Annotated[tuple[RequestField, ...], Field(max_length=100)] = ()
    client: Annotated[str, Field(max_length=64)] = ""


class ExplainedRoute(_Frozen):
    """A route, what it takes in words, and why it takes this request or not."""

    route: str
    match: str
    takes: bool
    why: str


class ExplainedStage(_Frozen):
    """What a stage of the route would say."""

    stage: str
    refuses: bool
    text: str


class ExplainedEndpoint(_Frozen):
    """An endpoint of the upstream as balancing sees it. `tier` counts from 1 in the order in which they are tried;
    `share` is the part of first tries that it gets by weight; `next`: it would take this request."""

    address: str
    region: str
    state: str
    tier: int
    share: float
    active: int
    next: bool


class RequestExplanation(_Frozen):
    """What gateway worker `worker` of `node` would do with a request now. `status` is 0 where the upstream answers;
    `candidate_version` is of a document that is tried beside the one in force, 0 if none is."""

    node: str
    region: str
    worker: int
    config_version: int
    candidate_version: int
    verdict_version: int
    verdict_fallback: int
    steps: tuple[ExplainedStep, ...]
    routes: tuple[ExplainedRoute, ...]
    stages: tuple[ExplainedStage, ...]
    upstream: str
    balance: str
    endpoints: tuple[ExplainedEndpoint, ...]
    status: int
    why: str

    @classmethod
    def of(cls, node: str, region: str, told: bytes) -> "RequestExplanation":
        """From what a worker has told (JSON of gateway.explaining.Explanation)."""
        found = _Told.model_validate_json(told)
        version, candidate = found.config_version, found.candidate_version
        verdict = f"verdict {found.verdict_version}"
        if found.verdict_fallback:
            verdict += f" with {found.verdict_fallback} merges of its own, because no leader is heard"
        text = f"gateway worker {found.worker} of node {node} in region {region} answers by document version {version}"
        steps = [ExplainedStep(topic="node", text=f"{text} and {verdict}")]
        if candidate:
            text = f"version {candidate} is tried on some requests; this tells of version {version}"
            steps.append(ExplainedStep(topic="node", text=text))
        rest = dict(found) | {"node": node, "region": region, "steps": (*steps, *found.steps)}
        return cls.model_validate(rest)


class _Told(RequestExplanation):
    """What the worker knows of it."""

    node: str = ""
    region: str = ""
