"""Plan, apply, history and rollback on the embedded store."""

import pytest

from meridian.control.bundle import unseal
from meridian.control.configuration import ChangedMeanwhile, Configuration, NoSuchVersion, PlanRefused
from meridian.core.document import DocumentError
from meridian.store import documents
from meridian.store.embedded import EmbeddedStore
from meridian.store.keys import Keys

KEY = bytes(range(32))
BASE = """\
listeners: [{name: web, bind: "0.0.0.0:80", protocols: [h1]}]
upstreams: [{name: a, endpoints: [{address: "10.0.0.1:80"}]}]
routes: [{name: one, upstream: a}, {name: two, match: {path: /2}, upstream: a}, {name: three, upstream: a}]
"""
TLS = BASE.replace("[h1]", "[h2]") + "certificates: [{hosts: [a.example], cert_file: a.pem, key_file: a.key}]\n"
FILES = {"a.pem": b"chain", "a.key": b"very secret"}


@pytest.fixture
def store() -> EmbeddedStore:
    return EmbeddedStore(lambda: 0.0)


@pytest.fixture
def configuration(store: EmbeddedStore) -> Configuration:
    return Configuration(store, Keys("test"), KEY)


async def test_versions_rise_and_come_back_by_rollback(configuration: Configuration, store: EmbeddedStore) -> None:
    assert (await configuration.apply(BASE, {}, author="ann")).version == 1
    changed = BASE.replace("10.0.0.1", "10.0.0.2")
    assert (await configuration.apply(changed, {}, author="bob", message="moved")).version == 2
    again = await configuration.apply(changed, {}, author="bob")
    assert (again.version, again.changed) == (2, False)
    assert (await configuration.rollback(1, author="ann")).version == 3
    assert (await configuration.get()).text == BASE
    history = await configuration.history()
    assert [(meta.version, meta.author) for meta in history] == [(3, "ann"), (2, "bob"), (1, "ann")]
    assert history[0].message == "rollback to version 1"


async def test_who_saw_an_older_version_is_told_and_overwrites_nothing(configuration: Configuration) -> None:
    await configuration.apply(BASE, {}, author="ann")
    await configuration.apply(BASE.replace("10.0.0.1", "10.0.0.2"), {}, author="bob", expected_version=1)
    with pytest.raises(ChangedMeanwhile, match=r"(?s)version 2 of .* is in force, not 1; it changed:"):
        await configuration.apply(BASE.replace("10.0.0.1", "10.0.0.3"), {}, author="ann", expected_version=1)
    assert "10.0.0.2" in (await configuration.get()).text


async def test_removing_most_needs_force(configuration: Configuration) -> None:
    await configuration.apply(BASE, {}, author="ann")
    less = BASE[: BASE.index("routes:")] + "routes: [{name: one, upstream: a}]\n"
    with pytest.raises(PlanRefused, match="removes 2 of 3 routes: two, three"):
        await configuration.apply(less, {}, author="ann")
    assert (await configuration.apply(less, {}, author="ann", force=True)).version == 2


async def test_a_changed_file_is_a_change_shown_by_fingerprint_and_stored_sealed(
    configuration: Configuration, store: EmbeddedStore
) -> None:
    await configuration.apply(TLS, FILES, author="ann")
    planned = await configuration.plan(TLS, FILES | {"a.key": b"another"})
    (change,) = planned.plan.changes
    assert (change.section, change.name) == ("files", "a.key")
    assert "secret" not in str(change)
    _, payload = await documents.read_version(store, Keys("test"), 1)
    assert b"very secret" not in payload
    assert unseal(payload, KEY).files == FILES
    assert set((await configuration.get()).files) == {"a.pem", "a.key"}


async def test_what_cannot_run_changes_nothing(configuration: Configuration) -> None:
    with pytest.raises(DocumentError, match=r"a\.pem did not come with the document"):
        await configuration.apply(TLS, {}, author="ann")
    with pytest.raises(NoSuchVersion, match="meridian apply FILE"):
        await configuration.get()
    with pytest.raises(NoSuchVersion, match="meridian history"):
        await configuration.rollback(7, author="ann")


async def test_checks_of_other_rooms_are_asked_and_their_place_is_found(store: EmbeddedStore) -> None:
    checking = Configuration(store, Keys("test"), KEY, [lambda document, files: [(("routes", 1), "no")]])
    with pytest.raises(DocumentError) as caught:
        await checking.apply(BASE, {}, author="ann")
    (problem,) = caught.value.problems
    assert (problem.line, problem.place) == (3, "routes[1]")
