"""What a worker wrote is there for its successor, whatever cut it short; what is damaged is not believed."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meridian.core.metering.ledgers import Closed, Exact, Held, Line, Opened, Period
from meridian.core.metering.quotas import Record
from meridian.core.metering.windows import Handover
from meridian.nodes import ledger_file
from meridian.nodes.ledger_file import LedgerBusy, LedgerFile, decode, encode

LINES: list[Line] = [
    Opened(1.0, "boot"),
    Held(6, {3: (-1e9, 0.0), 5: (12.5, 1e9)}),
    Record("daily day UTC consumer", 86_400.0, 'k"\n\u00e9', 7),
    Exact(Record("daily", 86_400.0, "k", 7), 2),
    Period("daily", 86_400.0, 3),
    Handover("few", (10_000, 0), (("k", ((1.5, 2), (2.5, 1))),)),
    Closed(),
]


def write(file: LedgerFile, *lines: Line) -> None:
    done = threading.Event()
    file.write(lines, done.set)
    assert done.wait(5)


def test_lines_are_the_same_after_a_round_trip() -> None:
    assert list(decode(b"".join(map(encode, LINES)))) == LINES


@given(st.data())
def test_a_file_cut_anywhere_gives_the_lines_before(data: st.DataObject) -> None:
    whole = b"".join(map(encode, LINES))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    assert list(decode(cut)) == LINES[: cut.count(b"\n")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 200), st.integers(0, 7))
def test_a_bit_that_turned_is_seen(at: int, bit: int) -> None:
    data = bytearray(b"".join(map(encode, LINES)))
    data[at] ^= 1 << bit
    try:
        found = list(decode(bytes(data)))
    except ValueError:
        return
    assert found == LINES


def test_a_successor_finds_what_was_written_and_how_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "limits" / "0.ledger"
    record = Record("daily", 100.0, "k", 9)
    first = LedgerFile(path, 110.0, "boot")
    assert first.ledgers.is_new
    write(first, record)
    first.close([Exact(Record("daily", 100.0, "k", 4)), Closed()])
    second = LedgerFile(path, 120.0, "boot")
    assert not second.ledgers.is_new and second.ledgers.is_clean
    assert second.ledgers.limits["daily"].booked == {"k": (4, 0)}
    second.close([])  # without a word
    third = LedgerFile(path, 130.0, "boot")
    assert third.ledgers.limits["daily"].booked == {"k": (4, 1)} and third.ledgers.crashed_at == [130.0]
    third.close([Closed()])
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_processes_never_write_one_ledger(tmp_path: Path) -> None:
    first = LedgerFile(tmp_path / "0.ledger", 1.0, "boot")
    program = (
        "import sys; from pathlib import Path; from meridian.nodes.ledger_file import LedgerBusy, LedgerFile\n"
        "try: LedgerFile(Path(sys.argv[1]), 1.0, 'boot')\n"
        "except LedgerBusy: sys.exit(7)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "0.ledger")], timeout=30, check=False)
    assert ended.returncode == 7
    with pytest.raises(LedgerBusy, match="is open in another process"):
        LedgerFile(tmp_path / "0.ledger", 1.0, "boot")
    first.close([Closed()])


def test_a_damaged_ledger_counts_as_all_spent_and_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "0.ledger"
    LedgerFile(path, 1.0, "boot").close([Record("daily", 0.0, "k", 1), Closed()])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"daily", b"dailx"))
    found = LedgerFile(path, 2.0, "boot")
    assert not found.ledgers.is_new and not found.ledgers.is_clean and not found.ledgers.held.since
    assert (tmp_path / "0.damaged").exists() and "damaged" in caplog.text
    found.close([Closed()])


def test_a_ledger_that_grew_too_long_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "BYTES_MAX", 2_000)
    path = tmp_path / "0.ledger"
    file = LedgerFile(path, 1.0, "boot")
    for number in range(100):
        write(file, Record("daily", 0.5, "k", number))
    assert path.stat().st_size < 2_500
    file.close([Closed()])
    assert LedgerFile(path, 2.0, "boot").ledgers.limits["daily"].booked == {"k": (99, 0)}


def test_after_a_write_that_failed_nothing_counts_as_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = LedgerFile(tmp_path / "0.ledger", 1.0, "boot")
    descriptor, file._descriptor = file._descriptor, -1
    written: list[int] = []
    file.write([Record("daily", 0.0, "k", 1)], lambda: written.append(1))
    file.write([Record("daily", 0.0, "k", 2)], lambda: written.append(2))
    file._queue.put(None)
    file._thread.join(5)
    assert not written and "not written any more" in caplog.text
    file._descriptor = descriptor
    file._thread = threading.Thread(target=lambda: None)
    file._thread.start()
    file.close([])
