"""Zone files on the operator's disk, for `meridian dns check` and `import`: no cluster is asked."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from meridian.cli.documents import decoded, parse, read, read_files, read_text
from meridian.cli.errors import Mistake

STDIN = Path("-")
_SUFFIXES = frozenset((".yaml", ".yml", ".json"))  # of documents; whatever is called otherwise is a zone file


def check_path(path: Path, origin: str) -> dict[str, list[dict[str, Any]]]:
    """What is to be said of a zone file, or of each zone of a document, by zone. Raises Mistake."""
    from meridian.nodes.zone_files import BadZoneFile, check_document, check_file

    if path.suffix in _SUFFIXES:
        document = parse(path, read_text(path))
        ours = {name for _, name in document.zone_files()}
        others = (name for _, name in document.files() if name not in ours)
        files = read_files(path, document, dict.fromkeys(others, b""))
        found = check_document(document, files)
    else:
        try:
            found = dict([check_file(_text(path), origin or None)])
        except BadZoneFile as error:
            raise Mistake(f"{path}: {error}", error.remedy) from None
    return {zone: [asdict(finding) for finding in findings] for zone, findings in found.items()}


def import_path(path: Path, origin: str) -> tuple[dict[str, object], tuple[str, ...]]:
    """A zone file (- is standard input) in the document's words, and what they cannot say. Raises Mistake."""
    from meridian.nodes.zone_files import BadZoneFile, import_zone

    try:
        imported = import_zone(_text(path), origin or None)
    except BadZoneFile as error:
        raise Mistake(f"{path}: {error}", error.remedy) from None
    return imported.zone, imported.lost


def _text(path: Path) -> str:
    """Of a zone file. Raises Mistake."""
    from meridian.core.model import ZONE_FILE_BYTES_MAX

    if path != STDIN:
        raw = read(path, ZONE_FILE_BYTES_MAX, "zone file")
    elif len(raw := sys.stdin.buffer.read(ZONE_FILE_BYTES_MAX + 1)) > ZONE_FILE_BYTES_MAX:
        raise Mistake(f"zone file: at most {ZONE_FILE_BYTES_MAX} bytes are taken", "give a smaller one")
    return decoded(raw, path, "write the zone file as text")
