"""Whatever the limits are, the fields are Lists of Structured Fields (RFC 9651) with the draft's parameters."""

import re

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.snapshot import Limit
from meridian.gateway.limit_fields import fields, retry_after
from meridian.gateway.limits import Standing

# A parser of its own of the part of RFC 9651 that the draft needs: a List of Strings with Integer or String parameters.
_ITEM = re.compile(
    r' *"([ !#-\[\]-~]*)"((?:; *[a-z*][a-z0-9_.*-]*=(?:-?[0-9]{1,15}|"[ !#-\[\]-~]*"))*) *(?:,(?! *$)|$)'
)
_PARAMETER = re.compile(r"; *([a-z*][a-z0-9_.*-]*)=([^;]*)")

Parsed = list[tuple[str, dict[str, int | str]]]


def parse(field: bytes) -> Parsed:
    text, found, at = field.decode("ascii"), [], 0
    while at < len(text):
        match = _ITEM.match(text, at)
        assert match, f"no List from {at} on: {text}"
        values = {name: int(v) if v[0] != '"' else v.strip('"') for name, v in _PARAMETER.findall(match[2])}
        found.append((match[1].strip('"'), values))
        at = match.end()
    return found


_names = st.from_regex(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?", fullmatch=True)
_amounts = st.integers(1, 10_000_000)
_seconds = st.floats(0, 1e12)
_limits = st.one_of(
    st.builds(Limit, _names, st.just(("route",)), rate_per_second=st.floats(1e-4, 1e6), burst=_amounts),
    st.builds(
        Limit, _names, st.just(("route",)), kind=st.sampled_from(["window", "quota", "concurrent"]), amount=_amounts,
        window_seconds=st.floats(1, 3600),
    ),
)  # fmt: skip
_standings = st.builds(
    Standing, _limits, st.integers(-1, 10_000_000), st.one_of(_seconds, st.just(float("inf"))), _seconds
)


@given(st.lists(_standings, min_size=1, max_size=5))
def test_fields_are_structured_and_say_what_the_draft_asks_for(standings: list[Standing]) -> None:
    said = dict(fields(standings))
    policies, limits = parse(said[b"ratelimit-policy"]), parse(said[b"ratelimit"])
    assert [name for name, _ in policies] == [name for name, _ in limits] == [one.limit.name for one in standings]
    for (_, policy), (_, limit), one in zip(policies, limits, standings, strict=True):
        assert policy["q"] == (one.limit.burst if one.limit.kind == "rate" else one.limit.amount)
        assert isinstance(limit["r"], int) and limit["r"] >= 0
        if one.limit.kind == "concurrent":
            assert policy["qu"] == "concurrent-requests" and "w" not in policy and "t" not in limit
        else:
            assert isinstance(policy["w"], int) and policy["w"] >= 1
            assert "t" not in limit or (isinstance(limit["t"], int) and limit["t"] >= 0)


def test_what_is_not_to_be_told_is_not() -> None:
    quiet = Limit("quiet", ("route",), kind="window", amount=1, announce=False)
    trial = Limit("trial", ("route",), kind="window", amount=1, dry_run=True)
    assert fields([Standing(quiet, 1, 0.0, 60.0), Standing(trial, 1, 0.0, 60.0)]) == []


def test_a_wait_is_whole_seconds_and_never_too_short() -> None:
    assert retry_after(0.01) == [(b"retry-after", b"1")]
    assert retry_after(1.01) == [(b"retry-after", b"2")]
    assert retry_after(float("inf")) == []
