"""W3C trace context: which trace an exchange belongs to, and whether it is recorded.

Pure; chance is an argument (`draw_bytes`, for example os.urandom). The invariant: whatever a client sends, what
goes on upstream is a valid `traceparent`. A header that is not strictly valid is as if it had not come, and a new
trace begins; a valid one is continued with its own sampling decision, so that a trace is never recorded by halves.

Source: W3C Trace Context (Level 1, and Level 2 for the random flag), https://www.w3.org/TR/trace-context-2/.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8

_SAMPLED = 0x01
_RANDOM = 0x02
_VERSION_00_BYTES = 55
_LOWER_HEX = frozenset(b"0123456789abcdef")
_ZERO_TRACE_ID = bytes(TRACE_ID_BYTES)
_ZERO_SPAN_ID = bytes(SPAN_ID_BYTES)

# Sampling looks at the 56 bits that Level 2 promises to be random (section 3.2.2.5), as OpenTelemetry's consistent
# sampling does: every participant with the same ratio decides alike, and a higher ratio only adds traces.
_RANDOM_BYTES = 7
_RANDOM_VALUES = 1 << 56


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace: 16 bytes of trace, 8 bytes of span, whether it is recorded, whether the id is random."""

    trace_id: bytes
    span_id: bytes
    sampled: bool
    random: bool = False


def parse(traceparent: bytes) -> TraceContext | None:
    """Reads the value of one `traceparent` header (section 3.2); None if it is not valid, which is never an error.

    Version 00 is taken exactly; of a later version the first four fields are read (section 4.3). `span_id` is the
    caller's span: the parent of ours.
    """
    size = len(traceparent)
    if size < _VERSION_00_BYTES or traceparent[2:3] != b"-" or traceparent[35:36] != b"-" or traceparent[52:53] != b"-":
        return None
    version, trace, span, flags = traceparent[:2], traceparent[3:35], traceparent[36:52], traceparent[53:55]
    if not _LOWER_HEX.issuperset(version + trace + span + flags):
        return None  # bytes.fromhex alone would take upper case and blanks
    if version == b"00":
        if size != _VERSION_00_BYTES:
            return None
    elif version == b"ff" or (size > _VERSION_00_BYTES and traceparent[55:56] != b"-"):
        return None
    trace_id, span_id = bytes.fromhex(trace.decode()), bytes.fromhex(span.decode())
    if trace_id == _ZERO_TRACE_ID or span_id == _ZERO_SPAN_ID:
        return None
    bits = int(flags, 16)
    return TraceContext(trace_id, span_id, bool(bits & _SAMPLED), bool(bits & _RANDOM))


def format(context: TraceContext) -> bytes:
    """The `traceparent` value (version 00) that names `context`; unknown flags of the caller are not passed on."""
    flags = (_SAMPLED if context.sampled else 0) | (_RANDOM if context.random else 0)
    return b"00-%b-%b-%02x" % (context.trace_id.hex().encode(), context.span_id.hex().encode(), flags)


def new(draw_bytes: Callable[[int], bytes], sampled: bool) -> TraceContext:
    """Begins a trace. `draw_bytes(n)` gives n uniformly random bytes."""
    return TraceContext(
        _draw_not_zero(draw_bytes, TRACE_ID_BYTES), _draw_not_zero(draw_bytes, SPAN_ID_BYTES), sampled, True
    )


def child(context: TraceContext, draw_bytes: Callable[[int], bytes]) -> TraceContext:
    """A new span in the same trace, under the same sampling decision; its parent is `context.span_id`."""
    return TraceContext(context.trace_id, _draw_not_zero(draw_bytes, SPAN_ID_BYTES), context.sampled, context.random)


def start(parent: TraceContext | None, ratio: float, draw_bytes: Callable[[int], bytes]) -> TraceContext:
    """The span of an exchange: a child of `parent` if the caller sent one (its decision stands), else a new trace,
    recorded with probability `ratio`."""
    if parent is not None:
        return child(parent, draw_bytes)
    context = new(draw_bytes, False)
    return replace(context, sampled=True) if decide(context.trace_id, ratio) else context


def decide(trace_id: bytes, ratio: float) -> bool:
    """Whether a trace that begins here is recorded, with probability `ratio` in [0, 1]; the same for equal ids."""
    if ratio <= 0.0:
        return False
    return int.from_bytes(trace_id[-_RANDOM_BYTES:], "big") >= round((1.0 - ratio) * _RANDOM_VALUES)


def _draw_not_zero(draw_bytes: Callable[[int], bytes], count: int) -> bytes:
    """All zeros is the one value that means "none" (sections 3.2.2.3 and 3.2.2.4)."""
    drawn = draw_bytes(count)
    while not any(drawn):
        drawn = draw_bytes(count)
    return drawn
