"""Sealing a document's files: what is stored shows no secret, and only the right cluster key opens it."""

import os

import pytest

from meridian.control.bundle import Bundle, BundleError, describe, fingerprint, seal, unseal

KEY = bytes(range(32))
BUNDLE = Bundle("listeners: []", {"tls/shop.key": b"-----BEGIN PRIVATE KEY----- secret", "tls/shop.pem": b"chain"})


def test_a_bundle_comes_back_whole_and_its_stored_form_shows_no_secret() -> None:
    payload = seal(BUNDLE, KEY)
    assert unseal(payload, KEY) == BUNDLE
    assert b"secret" not in payload
    assert b"c2VjcmV0" not in payload
    text, prints = describe(payload)
    assert text == BUNDLE.text
    assert prints["tls/shop.key"] == fingerprint(BUNDLE.files["tls/shop.key"])


def test_sealing_twice_never_gives_the_same_bytes() -> None:
    assert seal(BUNDLE, KEY) != seal(BUNDLE, KEY)


def test_another_cluster_s_key_and_swapped_files_are_refused() -> None:
    with pytest.raises(BundleError, match="another cluster key"):
        unseal(seal(BUNDLE, KEY), os.urandom(32))
    swapped = seal(BUNDLE, KEY).replace(b"tls/shop.key", b"tls/shop.kez")
    with pytest.raises(BundleError, match="another cluster key"):
        unseal(swapped, KEY)
    with pytest.raises(BundleError, match="damaged"):
        unseal(b"{}", KEY)
    with pytest.raises(BundleError, match="needs 32"):
        seal(BUNDLE, b"short")
