"""How rates are written: `100/s`, `600/m`, `1000/h`. Imports nothing heavy, since the launcher reads flags with it."""

import re

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}

_RATE = re.compile(r"^(\d+(?:\.\d+)?)/([smh])$")


def parse_rate(text: str) -> float:
    """Returns requests per second of `100/s`, `600/m` or `1000/h`; raises ValueError."""
    match = _RATE.match(text)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a rate; write for example 100/s, 600/m or 1000/h")
    return float(match[1]) / UNIT_SECONDS[match[2]]
