"""What an explanation says, in the words that the admin API answers and the command line prints."""

from pydantic import BaseModel, ConfigDict


class CannotExplain(Exception):
    """The question is none, or this node has no document yet; the message says which."""


class UnknownZone(Exception):
    """There is no such zone in the document; the message names those that there are."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class ExplainedStep(_Frozen):
    """One step of the way. `topic`: node, zone, name, client, verdict, steering or answer."""

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
    """All that is to be said of a zone as a node serves it, the grave first."""

    zone: str
    findings: tuple[ZoneFinding, ...]
