"""What becomes of a route's requests on their way, as decisions: which upstream, which path, host and fields, which
copies and faults. Compiled from the document's words (core/traffic_words) once a snapshot.

Invariant: whatever is made here of a client's words fits where it goes: a target begins with `/` and has only URL
characters and no fragment, a field's value has no control byte, a host only a host's characters.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from urllib.parse import quote_from_bytes

from meridian.core import fields, route_words, traffic_words
from meridian.core.fields import Headers
from meridian.core.patterns import Pattern, compile_pattern
from meridian.core.templates import Facts, Template, parse

_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch
_SAID = (b"always", b"never")
_REFERENCE = re.compile(rb"\\([0-9])")
_PATH_SAFE = "/-._~!$&'()*+,;=:@%"


class UnfitError(Exception):
    """What the document makes of this request is none: the client has said what does not fit."""


@dataclass(frozen=True, slots=True)
class FieldEdits:
    """See traffic_words.Edits; names are in lower case."""

    dropped: frozenset[bytes]  # those removed, and those set, which come anew
    made: tuple[tuple[bytes, Template], ...]

    @classmethod
    def of(cls, words: traffic_words.Edits) -> "FieldEdits":
        """From the document's."""
        made = [(name.lower().encode(), parse(text)) for name, text in (*words.set.items(), *words.add.items())]
        dropped = frozenset(name.lower().encode() for name in (*words.remove, *words.set))
        return cls(dropped, tuple(made))

    def apply(self, headers: Headers, facts: Facts) -> Headers:
        """The fields as they go on. One whose value comes out empty is left out."""
        kept = [field for field in headers if field[0] not in self.dropped] if self.dropped else headers.copy()
        for name, template in self.made:
            value = template.as_value(facts)
            if value:
                kept.append((name, value))
        return kept


@dataclass(frozen=True, slots=True)
class Rewriting:
    """See traffic_words.Rewrite. `cut`: so many bytes of the path are the match's prefix."""

    path: Template | None = None
    prefix: bytes | None = None
    cut: int = 0
    pattern: Pattern | None = None
    replace: bytes = b""
    host: Template | None = None

    @classmethod
    def of(cls, words: traffic_words.Rewrite, matched_prefix: str) -> "Rewriting":
        """From the document's."""
        return cls(
            path=parse(words.path) if words.path is not None else None,
            prefix=words.path_prefix.rstrip("/").encode() if words.path_prefix is not None else None,
            cut=len(matched_prefix.rstrip("/").encode()),
            pattern=compile_pattern(words.pattern) if words.pattern is not None else None,
            replace=(words.replace or "").encode(),
            host=parse(words.host) if words.host is not None else None,
        )

    def target(self, target: bytes, facts: Facts) -> bytes:
        """The target for the upstream; its dot segments, if the new path has any, are still to be resolved."""
        path, question, query = target.partition(b"?")
        if self.path is not None:
            made = self.path.as_url(facts).partition(b"?")[0]
        elif self.prefix is not None:
            made = self.prefix + path[self.cut :] or b"/"
        elif self.pattern is not None and (found := self.pattern.fullmatch(path)) is not None:
            made = _REFERENCE.sub(lambda one: found.group(int(one[1])) or b"", self.replace)
        else:
            return target
        return quote_from_bytes(made, _PATH_SAFE).encode() + question + query

    def authority(self, authority: bytes, facts: Facts) -> bytes:
        """The host for the upstream. Raises UnfitError."""
        if self.host is None:
            return authority
        made = self.host.as_value(facts)
        if _HOST(made) is None:
            raise UnfitError
        return made


@dataclass(frozen=True, slots=True)
class RequestChanges:
    """What is changed in a request."""

    rewriting: Rewriting | None
    edits: FieldEdits | None


@dataclass(frozen=True, slots=True)
class Targets:
    """Upstreams that share a route's requests. `cumulative`: running sums of the weights of `names`."""

    names: tuple[str, ...]
    cumulative: tuple[int, ...]
    split_on: str | None
    canary: str | None = None
    canary_share: float = 0.0  # 0 to 1
    header: bytes | None = None
    cookie: bytes | None = None

    def choose(self, headers: Headers, key: float | None, draw: Callable[[], float]) -> str:
        """The upstream of a request. `key`, in [0, 1), is what it is told apart by, None: by chance."""
        if self.canary is not None and self._tries_canary(headers, draw):
            return self.canary
        if len(self.names) == 1:
            return self.names[0]
        at = draw() if key is None else key
        return self.names[bisect_right(self.cumulative, at * self.cumulative[-1])]

    def told(self, headers: Headers, key: float | None) -> tuple[str, str]:
        """The upstream of a request if chance is left out, and how it is chosen, in words."""
        said = self._said(headers) if self.canary is not None else None
        if self.canary is not None and (said == b"always" or (said is None and self.canary_share == 1.0)):
            return self.canary, f"{self.canary!r}, " + ("because it says always" if said else "as all requests")
        whole, before, shares = self.cumulative[-1], 0, []
        for name, upto in zip(self.names, self.cumulative, strict=True):
            shares.append(f"{name!r} {(upto - before) / whole:.1%}")
            before = upto
        chosen = self.choose(headers, key, lambda: 1.0 - 1e-9) if key is not None else self._largest()
        how = f"by {self.split_on}: {chosen!r}" if key is not None else f"by chance; told of {chosen!r}"
        canary = ""
        if self.canary is not None and said is None and self.canary_share:
            canary = f"; before that {self.canary!r} takes {self.canary_share:.1%}"
        return chosen, (f"{', '.join(shares)}, {how}" if len(self.names) > 1 else f"{chosen!r}") + canary

    def _largest(self) -> str:
        weights = [upto - before for before, upto in pairwise((0, *self.cumulative))]
        return self.names[weights.index(max(weights))]

    def _said(self, headers: Headers) -> bytes | None:
        """Always or never, if the request says so."""
        said = fields.header(headers, self.header) if self.header is not None else None
        if said not in _SAID and self.cookie is not None:
            said = fields.cookie(headers, self.cookie)
        return said if said in _SAID else None

    def _tries_canary(self, headers: Headers, draw: Callable[[], float]) -> bool:
        said = self._said(headers)
        if said is not None:
            return said == b"always"
        return self.canary_share > 0.0 and draw() < self.canary_share


@dataclass(frozen=True, slots=True)
class Fault:
    """See traffic_words.Fault; shares are from 0 to 1. `status` 0: the stream is reset."""

    delay_seconds: float = 0.0
    delay_share: float = 0.0
    status: int = 0
    abort_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Mirror:
    """See traffic_words.Mirror."""

    upstream: str
    share: float


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a route's clients are sent."""

    to: Template
    status: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """All that a route does beyond leading to its upstream; None of a part: it does not do that."""

    request: RequestChanges | None = None
    response: FieldEdits | None = None
    targets: Targets | None = None
    mirror: Mirror | None = None
    fault: Fault | None = None
    redirect: Redirect | None = None

    def upstreams(self) -> Iterator[str]:
        """The upstreams that requests or their copies may go to, where that is not one alone."""
        if self.targets is not None:
            yield from self.targets.names
            if self.targets.canary is not None:
                yield self.targets.canary
        if self.mirror is not None:
            yield self.mirror.upstream


PLAIN = Traffic()


def make_traffic(route: route_words.Route) -> Traffic:
    """Compiles what a route says of its traffic."""
    made = Traffic(targets=_targets(route))
    if route.redirect_to is not None:
        made = replace(made, redirect=Redirect(parse(route.redirect_to), route.redirect_status))
    changes = RequestChanges(None, None)
    for stage in route.stages:
        if stage.rewrite is not None:
            changes = replace(changes, rewriting=Rewriting.of(stage.rewrite, route.match.path_prefix or ""))
        elif stage.request_headers is not None:
            changes = replace(changes, edits=FieldEdits.of(stage.request_headers))
        elif stage.response_headers is not None:
            made = replace(made, response=FieldEdits.of(stage.response_headers))
        elif stage.mirror is not None:
            made = replace(made, mirror=Mirror(stage.mirror.upstream, stage.mirror.percent / 100))
        elif stage.fault is not None:
            made = replace(made, fault=_fault(stage.fault))
    return made if changes == RequestChanges(None, None) else replace(made, request=changes)


def _targets(route: route_words.Route) -> Targets | None:
    canary = route.canary
    if canary is None and not route.split:
        return None
    parts = [(part.upstream, part.weight) for part in route.split if part.weight] or [(route.upstream or "", 1)]
    names, weights = zip(*parts, strict=True)
    split_on = route.split_on
    if split_on is not None and split_on.startswith("header:"):
        split_on = split_on.lower()  # as the codecs give their names
    split = Targets(names, tuple(accumulate(weights)), split_on)
    if canary is None:
        return split
    header = canary.header.lower().encode() if canary.header is not None else None
    cookie = canary.cookie.encode() if canary.cookie is not None else None
    return Targets(names, split.cumulative, split_on, canary.upstream, canary.percent / 100, header, cookie)


def _fault(words: traffic_words.Fault) -> Fault:
    delay, abort = words.delay, words.abort
    return Fault(
        delay_seconds=delay.seconds if delay is not None else 0.0,
        delay_share=delay.percent / 100 if delay is not None else 0.0,
        status=(abort.status or 0) if abort is not None else 0,
        abort_share=abort.percent / 100 if abort is not None else 0.0,
    )
