"""The guards of a listener (core/guard_words) as connections and exchanges use them."""

from dataclasses import dataclass
from math import inf
from typing import Any

from meridian.core import guard_words


@dataclass(frozen=True, slots=True)
class Guards:
    """See guard_words.Guards. What is infinite is not limited."""

    header_fields_max: int
    header_bytes_max: int
    uri_bytes_max: int
    body_bytes_max: float
    streams_max: int
    connections_per_client_max: int
    requests_per_connection_max: float
    header_seconds: float
    idle_seconds: float
    bytes_per_second_min: int
    slow_seconds: float
    resets_max: int
    idle_frames_max: int

    @classmethod
    def of(cls, words: guard_words.Guards) -> "Guards":
        """From the words of the document."""
        said: dict[str, Any] = {name: inf if value is None else value for name, value in words}
        return cls(**said)


USUAL = Guards.of(guard_words.Guards())
"""Where the document says nothing."""
