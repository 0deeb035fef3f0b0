"""What a new document changes, said the way a person would, and the guard against removing too much by mistake."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from meridian.core.model import Document

REMOVED_MAX = 0.3  # of the named things of a section; more is more often a mistake than a wish

SECTIONS = (
    "listeners", "certificates", "acme", "regions", "upstreams", "authenticators", "limits", "routes", "l4_routes",
    "tsig_keys", "zones",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `kind` is added, removed or changed; `details` are lines `path: old -> new`."""

    kind: str
    section: str
    name: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All differences, in the document's order, and what speaks against applying them without --force."""

    changes: tuple[Change, ...]
    objections: tuple[str, ...]


def diff(old: Document | None, new: Document) -> Plan:
    """Compares two documents by the names of their parts. Without an old one everything is added."""
    changes: list[Change] = []
    objections: list[str] = []
    for section in SECTIONS:
        before = _by_name(old, section) if old else {}
        after = _by_name(new, section)
        removed = [name for name in before if name not in after]
        changes += [Change("removed", section, name) for name in removed]
        for name, part in after.items():
            if name not in before:
                changes.append(Change("added", section, name))
            elif part != before[name]:
                details = tuple(_details("", before[name].model_dump(), part.model_dump()))
                changes.append(Change("changed", section, name, details))
        if len(removed) > max(1, REMOVED_MAX * len(before)):
            objections.append(f"removes {len(removed)} of {len(before)} {section}: {', '.join(removed[:5])}")
    for single in ("tracing", "steering", "rollout", "dns", "cache"):
        one, other = getattr(old, single, None), getattr(new, single)
        if one is not None and one != other:
            details = tuple(_details("", one.model_dump(), other.model_dump()))
            changes.append(Change("changed", single, single, details))
    return Plan(tuple(changes), tuple(objections))


def _by_name(document: Document, section: str) -> dict[str, BaseModel]:
    parts: tuple[BaseModel, ...] = getattr(document, section)
    return {_name_of(part): part for part in parts}


def _name_of(part: BaseModel) -> str:
    words = (getattr(part, word, None) for word in ("title", "name"))
    return next(filter(None, words), "") or ", ".join(getattr(part, "hosts", ()))


def _details(path: str, old: object, new: object) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _details(f"{path}.{key}" if path else str(key), old.get(key), new.get(key))
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _details(f"{path}[{i}]", before, after)
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        yield from (f"{path}: - {_short(item)}" for item in old if item not in new)
        yield from (f"{path}: + {_short(item)}" for item in new if item not in old)
    else:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{key}: {item}" for key, item in value.items() if item not in (None, (), {}))
        return "{" + inner[:100] + "}"
    return str(value)[:100]
