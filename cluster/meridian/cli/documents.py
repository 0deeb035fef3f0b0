"""Reads the operator's document and the files it names, and checks it before anything is sent anywhere."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from meridian.cli.errors import Mistake
from meridian.cli.local_state import LocalPaths

if TYPE_CHECKING:
    from meridian.core.model import Document

DOCUMENT_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DocumentFiles:
    """A document that is valid in itself, and the contents of the files it names, by the names it uses.

    `demo` are those of them that were made for the local cluster and are not beside the document.
    """

    path: Path
    text: str
    document: "Document"
    files: Mapping[str, bytes]
    demo: Mapping[str, bytes]

    def to_request(self) -> dict[str, object]:
        """The body that plan and apply take."""
        files = {name: base64.b64encode(content).decode() for name, content in self.files.items()}
        return {"text": self.text, "files": files}


def read_text(path: Path) -> str:
    """Reads a document's text. Raises Mistake for what cannot be read."""
    return decoded(read(path, DOCUMENT_BYTES_MAX, "document"), path, "name a YAML file")


def decoded(raw: bytes, path: Path, remedy: str) -> str:
    """Text of what was read at `path`. Raises Mistake, with this remedy, for what is none."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Mistake(f"{path} is not text: byte {error.start} is not UTF-8", remedy) from None


def parse(path: Path, text: str) -> "Document":
    """Validates a document's text. Raises Mistake with every problem, each with its line."""
    from meridian.core.document import DocumentError, load

    try:
        return load(text)
    except DocumentError as error:
        count = len(error.problems)
        raise Mistake(
            f"{path} has {count} problem{'s' * (count > 1)}",
            "correct it and try again; meridian schema prints all words for your editor",
            tuple(str(problem) for problem in error.problems),
        ) from None


def read_files(
    path: Path, document: "Document", instead: Mapping[str, bytes] = MappingProxyType({})
) -> dict[str, bytes]:
    """Reads the files that a document names, relative to its folder, but for those of `instead`. Raises Mistake."""
    from meridian.core.model import file_bytes_max

    return {
        name: instead[name]
        if name in instead
        else read(path.parent / name, file_bytes_max(place), f"{place} of {path}")
        for place, name in document.files()
    }


def read_document(path: Path, demo: LocalPaths | None = None) -> DocumentFiles:
    """Reads and validates a document with its files. Raises Mistake.

    With `demo`, the local cluster's state, certificates that only a demo can have are made and need not be there.
    """
    text = read_text(path)
    document = parse(path, text)
    instead: Mapping[str, bytes] = {}
    if demo is not None and document.certificates:
        from meridian.cli.local_ca import demo_certificates

        demo.make_root()
        instead = demo_certificates(demo, document, path.absolute().parent, datetime.now(UTC))
    return DocumentFiles(path, text, document, read_files(path, document, instead), instead)


def read(path: Path, bytes_max: int, what: str) -> bytes:
    """Reads a file that an operator named. Raises Mistake."""
    try:
        size = path.stat().st_size
        if size > bytes_max:
            raise Mistake(f"{what}: {path} has {size} bytes; at most {bytes_max} are taken", "name a smaller file")
        return path.read_bytes()
    except FileNotFoundError:
        raise Mistake(f"{what}: there is no file {path}", "check the name") from None
    except OSError as error:
        raise Mistake(f"{what}: cannot read {path}: {error.strerror}", "check the name and who may read it") from None
