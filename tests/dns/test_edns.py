"""Options asked for and given; cookies against the examples of RFC 9018."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian_dns.edns import COOKIES_MAX, Asked, CookieJar, ServerOptions, read_options

# RFC 9018 appendix A: one secret, and its successor in A.4.
SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
LEARNED = bytes.fromhex("2464c4abcf10c957010000005cf79f111f8130c3eee29480")  # A.1
SAME_CLIENT_LATER = bytes.fromhex("2464c4abcf10c957010000005cf7a871d4a564a1442aca77")  # A.2: renewed
IPV6_OLD_SECRET = bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715")
IPV6_NEW_SECRET = bytes.fromhex("445536bcd2513298075a5d379663c962")
IPV6_COOKIE = bytes.fromhex("22681ab97d52c298010000005cf7c57926556bd0934c72f8")  # A.4, made with the old secret
IPV6_RENEWED = bytes.fromhex("22681ab97d52c298010000005cf7c609a6bb79d16625507a")  # A.4, made with the new one
NOW = 1559731985


def jar(*secrets: bytes, now: float = NOW) -> CookieJar:
    return CookieJar(secrets or (SECRET,), lambda: now)


def test_makes_the_cookies_of_rfc_9018() -> None:
    assert jar().answer(LEARNED[:8], "198.51.100.100") == LEARNED
    assert jar().answer(LEARNED[:8], "::ffff:198.51.100.100") == LEARNED
    assert jar(now=1559734385).answer(LEARNED, "198.51.100.100") == SAME_CLIENT_LATER, (
        "older than half an hour: renewed"
    )
    assert jar(now=1559734700).answer(SAME_CLIENT_LATER, "198.51.100.100") == SAME_CLIENT_LATER, "fresh: kept"


def test_a_secret_follows_another() -> None:
    client, source = IPV6_COOKIE[:8], "2001:db8:220:1:59de:d0f4:8769:82b8"
    assert jar(IPV6_OLD_SECRET, now=1559741817).answer(client, source) == IPV6_COOKIE
    both = jar(IPV6_NEW_SECRET, IPV6_OLD_SECRET, now=1559741961)
    assert both.is_valid(IPV6_COOKIE, source)
    assert both.answer(client, source) == IPV6_RENEWED
    assert not jar(IPV6_NEW_SECRET, now=1559741961).is_valid(IPV6_COOKIE, source)


@pytest.mark.parametrize(
    ("spoil", "now"),
    [
        (lambda cookie: cookie[:-1] + b"x", NOW),
        (lambda cookie: b"x" + cookie[1:], NOW),
        (lambda cookie: cookie[:8], NOW),
        (lambda cookie: cookie[:8] + b"\2" + cookie[9:], NOW),
        (lambda cookie: cookie, NOW + 3601),
        (lambda cookie: cookie, NOW - 301),
    ],
)
def test_what_is_no_proof(spoil: Callable[[bytes], bytes], now: int) -> None:
    assert jar().is_valid(LEARNED, "198.51.100.100")
    assert not jar(now=now).is_valid(spoil(LEARNED), "198.51.100.100")
    assert not jar().is_valid(LEARNED, "198.51.100.101")
    given_ = jar(now=now).answer(spoil(LEARNED), "198.51.100.100")
    assert given_[:8] == spoil(LEARNED)[:8]
    assert jar(now=now).is_valid(given_, "198.51.100.100"), "a wrong cookie is answered with a right one"


def test_remembers_a_bounded_number() -> None:
    found = jar()
    for index in range(3):
        found.answer(index.to_bytes(8, "big"), "192.0.2.1")
    assert len(found) == 3 <= COOKIES_MAX
    assert found.answer(bytes(8), "192.0.2.1") == found.answer(bytes(8), "192.0.2.1")


def test_secrets_have_sixteen_bytes() -> None:
    for secrets in ((), (b"short",), (SECRET, b"short")):
        with pytest.raises(ValueError, match="16 bytes"):
            CookieJar(secrets, lambda: NOW)
    with pytest.raises(ValueError, match="255"):
        ServerOptions(b"x" * 256)


def options(*pairs: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("!HH", code, len(payload)) + payload for code, payload in pairs)


def test_reads_what_is_asked() -> None:
    wire = b"before" + options((3, b""), (8, b"\0\1\0\0"), (10, b"c" * 8), (10, b"d" * 8), (11, b""), (65001, b"x"))
    assert read_options(wire, 6, len(wire)) == (b"\0\1\0\0", Asked(True, b"c" * 8, True))
    assert read_options(b"", 0, 0) == (b"", None)
    for size in (0, 7, 9, 15, 41):
        wrong = options((10, b"c" * size))
        assert read_options(wrong, 0, len(wrong)) is None


@given(st.binary(max_size=40))
def test_no_bytes_hurt(data: bytes) -> None:
    read_options(data, 0, len(data))


def test_gives_only_what_is_asked_and_can_be_given() -> None:
    full = ServerOptions(b"node-1", jar(), 10)
    everything = Asked(True, LEARNED[:8], True)
    assert full.give(Asked(), "198.51.100.100", datagram=True) == b""
    assert full.give(everything, "198.51.100.100", datagram=True) == options((3, b"node-1"), (10, LEARNED))
    stream = full.give(everything, "198.51.100.100", datagram=False)
    assert stream == options((3, b"node-1"), (10, LEARNED), (11, b"\0\x64"))
    assert ServerOptions().give(Asked(True, b"c" * 8), "192.0.2.1", datagram=True) == b""
