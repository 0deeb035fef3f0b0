"""Where an address is, from a file in the MaxMind DB format. The home of maxminddb.

Reads the flat records of the freely licensed ip-location-db packages (`country_code`) and MaxMind's nested ones
(`country.iso_code`, `continent.code`). A server without geo data passes None around instead of a GeoData.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import maxminddb

from meridian_dns.countries import CONTINENT_OF


class GeoError(Exception):
    """Geo data cannot be read; the message says what to run."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the data says of an address; `prefix_length` is the network it says so for, also where it knows nothing."""

    country: str | None
    continent: str | None
    prefix_length: int = 0


class GeoData:
    """An open geo file. Lookups are safe from one thread; a new file is a new object, swapped in whole."""

    __slots__ = ("_reader",)

    def __init__(self, reader: maxminddb.Reader) -> None:
        self._reader = reader

    @classmethod
    def open(cls, path: str | Path) -> "GeoData":
        """Opens the file (memory-mapped). Raises GeoError."""
        try:
            return cls(maxminddb.open_database(str(path)))
        except OSError as error:
            raise GeoError(f"no geo data at {path} ({error.strerror}): run scripts/fetch-geo") from error
        except (maxminddb.InvalidDatabaseError, ValueError) as error:
            raise GeoError(f"{path} is no geo database ({error}): run scripts/fetch-geo again") from error

    @property
    def about(self) -> str:
        """Which data this is and of which day, for people."""
        metadata = self._reader.metadata()
        built = datetime.fromtimestamp(metadata.build_epoch, UTC).date()
        return f"{metadata.database_type}, built {built}"

    def find(self, address: str) -> Place | None:
        """The place of a textual address; None if the file cannot speak of it (no address, or of another family)."""
        try:
            record, prefix_length = self._reader.get_with_prefix_len(address)
        except ValueError:
            return None
        return place_of(record, prefix_length)

    def close(self) -> None:
        """Closes the file; later lookups fail."""
        self._reader.close()


def place_of(record: object, prefix_length: int) -> Place:
    """Reads country and continent out of one record, whichever layout it has."""
    country = _text(record, "country_code") or _text(record, "country", "iso_code")
    continent = _text(record, "continent_code") or _text(record, "continent", "code")
    if country is None:
        country = _text(record, "registered_country", "iso_code")
    return Place(country, continent or CONTINENT_OF.get(country or ""), max(0, prefix_length))


def _text(record: object, *keys: str) -> str | None:
    for key in keys:
        if not isinstance(record, Mapping):
            return None
        record = cast("Mapping[str, object]", record).get(key)
    return record.upper() if isinstance(record, str) and record else None
