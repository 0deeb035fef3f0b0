"""From the operator's text to a `Document`, or to problems that name line, column, place and remedy.

All problems are reported at once, in the order of the text. What YAML would forgive silently is refused: a key written
twice (the last would win) and aliases that multiply into a huge document.
"""

import difflib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass

import yaml
from pydantic import BaseModel, ValidationError

from meridian.core.model import Document

BYTES_MAX = 16 * 1024 * 1024  # the largest document that the store takes
NODES_MAX = 2_000_000  # values in a document, after aliases: a bound on what a small text can unfold into
PROBLEMS_MAX = 50  # nobody reads more at once

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong. `line` and `column` count from 1; 0 when the place is not in the text."""

    line: int
    column: int
    place: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line else ""
        return f"{where}{self.place + ': ' if self.place else ''}{self.message}"


class DocumentError(Exception):
    """The text is not a document that can run. `problems` is never empty."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def load(text: str) -> Document:
    """Reads and validates a document (YAML 1.1 or JSON). Raises DocumentError with all problems."""
    reading = _Reading(text)
    try:
        document = Document.model_validate(reading.value)
    except ValidationError as error:
        problems = [reading.problem(tuple(e["loc"]), _explain(e)) for e in error.errors(include_url=False)]
        raise DocumentError(sorted(problems, key=lambda p: (p.line, p.column))[:PROBLEMS_MAX]) from None
    problems = [reading.problem(place, message) for place, message in document.problems()]
    if problems:
        raise DocumentError(problems[:PROBLEMS_MAX])
    return document


def warnings(text: str, document: Document) -> tuple[Problem, ...]:
    """What `document` (read from `text`) says but this version does not do in full."""
    return locate(text, list(document.warnings()))


def locate(text: str, found: list[tuple[Place, str]]) -> tuple[Problem, ...]:
    """Finds the line and column of each (place, message) in a text that `load` has accepted."""
    if not found:
        return ()
    reading = _Reading(text)
    return tuple(reading.problem(place, message) for place, message in found)


def schema() -> dict[str, object]:
    """The JSON Schema (2020-12) of a document, for editors."""
    found = Document.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "Meridian document"}


def to_yaml(value: object) -> str:
    """Writes plain values as a part of a document."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


class _Reading:
    """A text as plain values, and where in the text each place stands."""

    def __init__(self, text: str) -> None:
        if len(text.encode()) > BYTES_MAX:
            raise DocumentError([Problem(0, 0, "", "larger than 16 MiB; split it into several clusters")])
        self._marks: dict[Place, tuple[int, int]] = {}
        self._left = NODES_MAX
        self._twice: list[Problem] = []
        try:
            self._loader = yaml.CSafeLoader(text)
            root = self._loader.get_single_node()
            self.value = {} if root is None else self._read(root, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            raise DocumentError([Problem(line, column, "", f"not YAML: {error.problem or error.context}")]) from None
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise DocumentError([Problem(0, 0, "", f"not YAML: {error}")]) from None
        if self._twice:
            raise DocumentError(self._twice)
        if not isinstance(self.value, dict):
            raise DocumentError([Problem(1, 1, "", "a document is a mapping that begins with listeners:")])

    def problem(self, place: Place, message: str) -> Problem:
        """A problem at `place`, or at the nearest place around it that stands in the text."""
        at = place
        while at and at not in self._marks:
            at = at[:-1]
        line, column = self._marks.get(at, (0, 0))
        return Problem(line, column, _spell(place), message)

    def _read(self, node: yaml.Node, place: Place) -> object:
        self._left -= 1
        if self._left < 0:
            raise ValueError("aliases unfold into too many values; write them out, or split the document")
        self._marks.setdefault(place, (node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.SequenceNode):
            return [self._read(child, (*place, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, place)
        return self._loader.construct_object(node)

    def _read_mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        self._loader.flatten_mapping(node)
        found: dict[str, object] = {}
        for key_node, child in node.value:
            key = str(key_node.value)
            self._marks[(*place, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key in found:
                self._twice.append(self.problem((*place, key), "written twice; keep one"))
            found[key] = self._read(child, (*place, key))
        return found


def _spell(place: Place) -> str:
    """`routes[0].match.host`, as an operator would say it."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _explain(error: typing.Any) -> str:
    """Pydantic's message in our voice: what is wrong and what to write instead."""
    kind, loc = error["type"], tuple(error["loc"])
    if kind == "extra_forbidden":
        known = _words_at(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        return f"unknown key {str(loc[-1])!r}; {hint}"
    if kind == "missing":
        return "is missing; it must be given"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    if kind in ("value_error", "too_short", "too_long") or isinstance(given, (dict, list)):
        return message[0].lower() + message[1:]
    return f"{given!r}: {message[0].lower() + message[1:]}"


def _words_at(loc: Place) -> list[str]:
    """The keys that the model knows at `loc`."""
    current: object = Document
    for step in loc:
        if isinstance(step, int):
            continue
        if not (isinstance(current, type) and issubclass(current, BaseModel)) or step not in current.model_fields:
            return []
        current = _model_in(current.model_fields[step].annotation)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _model_in(annotation: object) -> object:
    """The model class inside `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation
    for argument in typing.get_args(annotation):
        found = _model_in(argument)
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return None
