"""The memory of the cache: bounded, the least recently used first, variants apart."""

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.caching import Freshness
from meridian.core.fields import Headers
from meridian.gateway.cache import PASSES_MAX, VARIANTS_MAX, Cache, Entry, Key

FRESH = Freshness(10.0, 0.0, 0.0, 0.0)


def key(name: str) -> Key:
    return "route", "", b"host", name.encode(), False


def entry(body: bytes = b"", language: bytes | None = None, names: tuple[bytes, ...] = ()) -> Entry:
    values = (language,) if names else ()
    return Entry(200, [(b"etag", b'"a"')], body, FRESH, 0.0, names, values, frozenset({body}))


def asking(language: bytes) -> Headers:
    return [(b"accept-language", language)]


def test_variants_are_told_apart_and_bounded() -> None:
    cache, names = Cache(2**20), (b"accept-language",)
    for number in range(VARIANTS_MAX + 3):
        cache.put(key("a"), entry(b"%d" % number, b"%d" % number, names))
    assert cache.find(key("a"), asking(b"0")) == (None, True), "the oldest went"
    found, _ = cache.find(key("a"), asking(b"5"))
    assert found is not None and found.body == b"5"
    cache.put(key("a"), entry(b"new", b"5", names))
    found, _ = cache.find(key("a"), asking(b"5"))
    assert found is not None and found.body == b"new"
    cache.put(key("a"), entry(b"all"))
    found, _ = cache.find(key("a"), asking(b"6"))
    assert found is not None and found.body == b"all", "it no longer varies"
    assert cache.bytes == found.size and cache.find(key("b"), []) == (None, False)


def test_purges_take_what_is_wanted_and_no_more() -> None:
    cache, names = Cache(2**20), (b"accept-language",)
    cache.put(key("a"), entry(b"x", b"en", names))
    cache.put(key("a"), entry(b"y", b"de", names))
    cache.put(key("b"), entry(b"x"))
    assert cache.purge(lambda key, one: b"x" in one.tags) == 2
    assert cache.keys() == (key("a"),) and cache.find(key("a"), asking(b"en")) == (None, True)
    assert cache.purge(lambda key, one: True) == 1 and cache.bytes == 0


def test_what_passes_is_forgotten_in_time_and_bounded() -> None:
    cache = Cache(0)
    for number in range(PASSES_MAX + 1):
        cache.let_pass(key(str(number)), 10.0)
    assert not cache.passes(key("0"), 5.0) and cache.passes(key("1"), 5.0) and not cache.passes(key("1"), 10.0)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3000), st.booleans()), max_size=40))
def test_it_never_holds_more_than_it_may(steps: list[tuple[str, int, bool]]) -> None:
    cache = Cache(8_000)
    used: list[str] = []
    for name, size, reads in steps:
        if reads:
            found, _ = cache.find(key(name), [])
            if found is None:
                continue
        else:
            cache.put(key(name), entry(b"x" * size))
        used = [*(one for one in used if one != name), name]
        assert cache.bytes <= 8_000
        cached = cache.keys()
        assert cache.bytes == sum(one.size for held in cached for one in [cache.look(held, [])[0]] if one)
        kept = [one[3].decode() for one in cached]
        assert kept == used[len(used) - len(kept) :], "the least recently used went first"
    cache.resize(0)
    assert cache.bytes == 0 and len(cache) == 0
