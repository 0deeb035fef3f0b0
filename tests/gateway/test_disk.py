"""Files below a folder: what is found, in which coding, and that no link leads out."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meridian.core.file_words import Files
from meridian.core.files import make_files, path_of
from meridian.gateway.disk import FolderError, NoFileError, find


def content(root: Path, path: bytes, *codings: bytes) -> bytes:
    """What is found there."""
    found = find(make_files(Files(root=str(root), index=("index.html", "index.htm"))), path, codings)
    try:
        return found.read(0, found.stored.size)
    finally:
        found.close()


def open_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder, with something beside it that is nobody's business."""
    root = tmp_path / "site"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_bytes(b"home")
    (root / "sub" / "index.htm").write_bytes(b"sub")
    (root / "empty").mkdir()
    (root / "a.js").write_bytes(b"plain")
    (root / "a.js.br").write_bytes(b"br")
    (root / "a.js.gz").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    return root


def test_files_and_folders(site: Path) -> None:
    assert content(site, b"") == b"home" and content(site, b"sub/") == b"sub"
    assert content(site, b"a.js") == content(site, b"a.js", b"zstd", b"gzip") == b"plain"
    assert content(site, b"a.js", b"zstd", b"br") == b"br"
    with pytest.raises(FolderError):
        content(site, b"sub")
    for path in (b"empty/", b"nothing", b"a.js/", b"a.js/b", b"x" * 300, b"y/" * 3000):
        with pytest.raises(NoFileError):
            content(site, path)
    with pytest.raises(FileNotFoundError):
        content(site / "gone", b"")


def test_links_lead_nowhere_outside(site: Path, tmp_path: Path) -> None:
    (site / "inside").symlink_to(site / "a.js")
    (site / "near").symlink_to("sub/index.htm")
    (site / "out").symlink_to(tmp_path / "secret")
    (site / "up").symlink_to("../secret")
    (site / "folder").symlink_to(tmp_path)
    (site / "round").symlink_to("round")
    (site / "a.js.zst").symlink_to(tmp_path / "secret")
    (tmp_path / "site2").mkdir()
    (tmp_path / "site2" / "x").write_bytes(b"secret")
    (site / "sibling").symlink_to(tmp_path / "site2" / "x")
    assert content(site, b"inside") == b"plain" and content(site, b"near") == b"sub"
    assert content(site, b"a.js", b"zstd") == b"plain", "the encoded one is outside"
    for path in (b"out", b"up", b"folder/secret", b"round", b"sibling"):
        with pytest.raises(NoFileError):
            content(site, path)
    with pytest.raises(NoFileError):
        content(site, b"folder/")
    (tmp_path / "current").symlink_to(site)
    assert content(tmp_path / "current", b"inside") == b"plain", "root may be a link itself"


def test_what_is_no_file_is_not_opened(site: Path) -> None:
    os.mkfifo(site / "pipe")  # to open one waits for a writer
    for path in (b"pipe", b"pipe.br"):
        with pytest.raises(NoFileError):
            content(site, path, b"br")


def test_nothing_stays_open(site: Path) -> None:
    (site / "out").symlink_to(site.parent / "secret")
    content(site, b"a.js", b"br")
    before = open_count()
    for path in (b"a.js", b"sub/", b"sub", b"nothing", b"empty/", b"out"):
        for codings in ((), (b"gzip", b"br")):
            try:
                content(site, path, *codings)
            except (FolderError, NoFileError):
                pass
    assert open_count() == before


SEGMENT = st.sampled_from(
    [b"..", b".", b"%2e%2e", b"sub", b"secret", b"site", b"folder", b"a.js", b"", b"..%2f", b"%00"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SEGMENT, max_size=8).map(b"/".join))
def test_no_request_reads_what_is_outside(site: Path, text: bytes) -> None:
    if not (site / "folder").is_symlink():
        (site / "folder").symlink_to(site.parent)
    path = path_of(b"/" + text)
    if path is not None:
        try:
            assert content(site, path) != b"secret"
        except (FolderError, NoFileError):
            pass
