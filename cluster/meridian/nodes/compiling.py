"""The document as it comes over the channel, read beside a loop that must not stall.

Compiling runs in a thread. A thread shares the interpreter: the loop gets its turn after `SWITCH_SECONDS`, but not in
the middle of one call into compiled code. So the long sections are validated entry by entry; no single call is long.
"""

import gc
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import msgspec
from pydantic import TypeAdapter, ValidationError

from meridian.core import dns_words, model, route_words, upstream_words

SWITCH_SECONDS = 0.0005  # of 5 ms by default; costs nothing while there is only one thread
Compiled = TypeVar("Compiled")

_Sections = dict[str, msgspec.Raw]
_LONG: dict[str, TypeAdapter[Any]] = {
    "upstreams": TypeAdapter(upstream_words.Upstream),
    "routes": TypeAdapter(route_words.Route),
    "zones": TypeAdapter(dns_words.Zone),
}
_RECORD = TypeAdapter(dns_words.Record)
_sections = msgspec.json.Decoder(_Sections)
_entries = msgspec.json.Decoder(list[msgspec.Raw])


class Unfit(Exception):
    """The document cannot run in this worker; the message says why."""


def warm_up() -> None:
    """Builds what reads a document, which is otherwise built when it is first needed."""
    model.Document.model_rebuild()
    for adapter in (*_LONG.values(), _RECORD):
        adapter.rebuild()


def tune() -> None:
    """Sets up a worker's process for short pauses, once everything is imported: what lives for ever is taken out of
    the collector's sight, and threads give way quickly."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    # Exchanges free themselves by counting references; cycles are rare, so the collector may look less often.
    gc.set_threshold(10_000, 20, 100)


def settle() -> None:
    """Takes a snapshot just swapped in out of the collector's sight: a full collection would walk all of it.

    What is in flight at this moment is frozen with it and leaks if it ends in a cycle: some kilobytes for each change
    of the document. The young generation is collected before, which takes well below a millisecond.
    """
    gc.collect(0)
    gc.freeze()


def read_document(data: bytes, leave_out: Collection[str] = ()) -> model.Document:
    """Reads the JSON of a document, without the long sections named in `leave_out`. Raises Unfit.

    Runs in a thread: see the module's head. Pydantic's own limits on the number of entries are not checked again; the
    agent of this node has read the whole document with them.
    """
    try:
        raw = _sections.decode(data)
        rest = {name: msgspec.json.decode(value) for name, value in raw.items() if name not in _LONG}
        document = model.Document.model_validate_json(msgspec.json.encode(rest))
        long: dict[str, tuple[Any, ...]] = {}
        for name, adapter in _LONG.items():
            if name in raw and name not in leave_out:
                read = _read_zone if name == "zones" else adapter.validate_json
                long[name] = tuple(read(bytes(entry)) for entry in _entries.decode(raw[name]))
    except (msgspec.DecodeError, ValidationError) as error:
        raise Unfit(f"the document cannot be read: {error}") from None
    return document.model_copy(update=long)


def without_collector(work: Callable[[], Compiled]) -> Compiled:
    """Calls `work` with the collector off: it would walk the growing result again and again, in one long call each."""
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()


def _read_zone(data: bytes) -> dns_words.Zone:
    raw = _sections.decode(data)
    entries: Iterable[msgspec.Raw] = _entries.decode(raw.pop("records")) if "records" in raw else ()
    zone = _LONG["zones"].validate_json(msgspec.json.encode({name: msgspec.json.decode(v) for name, v in raw.items()}))
    records = tuple(_RECORD.validate_json(bytes(entry)) for entry in entries)
    validated: dns_words.Zone = zone.model_copy(update={"records": records})
    return validated
