"""Geo data from real files in both layouts, and what happens without."""

from pathlib import Path

import pytest
from tests.dns.mmdb import write_mmdb

from meridian_dns.countries import CONTINENT_OF
from meridian_dns.geo import GeoData, GeoError, Place, place_of
from meridian_dns.view import CONTINENTS


def test_flat_records_of_ip_location_db(tmp_path: Path) -> None:
    path = tmp_path / "country.mmdb"
    write_mmdb(path, {"203.0.113.0/24": {"country_code": "TR"}, "2001:db8::/32": {"country_code": "BR"}})
    geo = GeoData.open(path)
    assert geo.find("203.0.113.9") == Place("TR", "AS", 24)
    assert geo.find("2001:db8:1::1") == Place("BR", "SA", 32)
    elsewhere = geo.find("203.0.112.1")
    assert elsewhere == Place(None, None, 24), "what the data does not know has a prefix too: scope must stop there"
    assert geo.find("no address") is None
    geo.close()


def test_nested_records_of_maxmind(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    record = {"country": {"iso_code": "GE"}, "continent": {"code": "AS"}}
    write_mmdb(path, {"192.0.2.0/25": record}, ip_version=4)
    geo = GeoData.open(path)
    assert geo.find("192.0.2.1") == Place("GE", "AS", 25)
    assert geo.find("2001:db8::1") is None, "an IPv4 file cannot speak of IPv6"
    geo.close()


def test_odd_records_are_unknown_places() -> None:
    assert place_of({"registered_country": {"iso_code": "de"}}, 8) == Place("DE", "EU", 8)
    assert place_of({"country": "text where a mapping is expected"}, 8) == Place(None, None, 8)
    assert place_of(["no mapping"], 8) == Place(None, None, 8)
    assert place_of({"country_code": "ZZ"}, 8) == Place("ZZ", None, 8)


def test_missing_and_broken_files_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(GeoError, match="run scripts/fetch-geo"):
        GeoData.open(tmp_path / "missing.mmdb")
    broken = tmp_path / "broken.mmdb"
    broken.write_bytes(b"no database" * 100)
    with pytest.raises(GeoError, match=r"broken\.mmdb is no geo database"):
        GeoData.open(broken)


def test_every_country_of_iso_3166_is_on_one_continent() -> None:
    assert len(CONTINENT_OF) == 249 + 1, "ISO 3166-1 has 249 codes; geo data add Kosovo's XK"
    counts = {continent: list(CONTINENT_OF.values()).count(continent) for continent in CONTINENTS}
    assert counts == {"AF": 58, "AN": 5, "AS": 52, "EU": 53, "NA": 41, "OC": 27, "SA": 14}
    assert all(len(country) == 2 and country.isupper() for country in CONTINENT_OF)
