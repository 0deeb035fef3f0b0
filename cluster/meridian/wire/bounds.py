"""What a server codec takes from one client before it refuses. The document says it (listeners: guards); these are the
defaults, which hold for tests and tools, with the reason of each in core/guard_words.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one connection. Sizes in bytes; a budget is so many at once, and half as many each second after that."""

    fields_max: int = 100
    head_bytes_max: int = 64 * 1024
    """Start line and fields in HTTP/1.1; else names and values plus 32 a field (RFC 9113 section 6.5.2)."""
    target_bytes_max: int = 16 * 1024
    streams_max: int = 128
    resets_max: int = 256
    idle_frames_max: int = 1000
    header_seconds: float = 10.0
    idle_seconds: float = 75.0
    bytes_per_second_min: int = 240
    slow_seconds: float = 20.0


USUAL = Bounds()
