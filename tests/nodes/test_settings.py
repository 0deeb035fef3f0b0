"""Flags of a node. (What the operator sees of wrong ones is in test_launcher.)"""

from dataclasses import replace

import pytest

from meridian.core.speech import OWN, Speaker
from meridian.nodes.settings import Settings, SettingsError, parse_settings, speaker_of

LEAST = ("--name=one", "--region=eu", "--address=127.0.0.1")


def test_defaults_and_the_way_to_a_child_and_back() -> None:
    settings = parse_settings([*LEAST, "--etcd=https://a:1, https://b:2", "--workers=3", "--access-log=0.5"])
    assert settings.etcd == ("https://a:1", "https://b:2")
    assert settings.etcd_regional == ()
    assert settings.advertise == ("127.0.0.1",)
    assert (settings.cluster, settings.workers, settings.access_log) == ("meridian", 3, 0.5)
    assert Settings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("host", "bound"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::"), ("192.0.2.1", "192.0.2.1")],
)
def test_the_address_replaces_a_wildcard_of_its_family(host: str, bound: str) -> None:
    assert parse_settings(LEAST).bound_host(host) == bound


def test_a_witness_has_no_workers_and_nothing_for_dns() -> None:
    settings = parse_settings([*LEAST, "--etcd=https://a:1", "--witness", "--workers=3"])
    assert (settings.workers, settings.dns_port, settings.advertise) == (0, 0, ())
    assert Settings.from_json(settings.to_json()) == settings


def test_capacity_is_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    settings = parse_settings([*LEAST, "--capacity=120000/m"])
    assert settings.capacity == 2000.0
    assert Settings.from_json(settings.to_json()) == settings
    assert parse_settings(LEAST).capacity == 0.0
    with pytest.raises(SystemExit):
        parse_settings([*LEAST, "--capacity=many"])
    assert "write for example 100/s" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ("--name=one", "--region=eu"),
        (*LEAST, "--advertise=0.0.0.0"),
        (*LEAST, "--peer-address=0.0.0.0"),
        (*LEAST, "--dns-port=70000"),
        (*LEAST, "--dns-tls-port=53"),
        (*LEAST, "--dns-port=0", "--dns-tls-port=853"),
        (*LEAST, f"--state=/{'x' * 100}"),
        (*LEAST, "--limit-nodes=0"),
        (*LEAST, "--witness"),
        ("--name=one", "--region=eu", "--etcd=https://a:1", "--witness"),
        (*LEAST, "--etcd=https://a:1", "--witness", "--advertise=192.0.2.1"),
        (*LEAST, "--access-log=2"),
        (*LEAST, "--token-file=/no/such/file"),
        (*LEAST, "--etcd-regional=https://c:3"),
        (*LEAST, "--etcd-quota-bytes=0"),
        (*LEAST, "--speak=2.0:x-y:"),
    ],
)
def test_what_cannot_be_is_refused(flags: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="--"):
        parse_settings(flags)


def test_regional_stores_and_another_version_s_part() -> None:
    settings = parse_settings([*LEAST, "--etcd=https://a:1", "--etcd-regional=https://c:3, https://d:4"])
    assert settings.etcd_regional == ("https://c:3", "https://d:4")
    assert Settings.from_json(settings.to_json()) == settings
    assert speaker_of(settings.speak, "1.2") == replace(OWN, software="1.2")
    assert speaker_of("2.0:1-3:a, b", "1.2") == Speaker("2.0", 1, 3, frozenset("ab"))
