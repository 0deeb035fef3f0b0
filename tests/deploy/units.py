"""Unit files of deploy/systemd as tests read them."""

from collections import defaultdict
from pathlib import Path

from tests.support import ROOT

FOLDER = ROOT / "deploy" / "systemd"
Unit = dict[str, list[str]]


def read_unit(path: Path) -> Unit:
    """The assignments of a unit file, in their order, whatever their section; continued lines are joined."""
    found: Unit = defaultdict(list)
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if line and line[0] not in "#;[":
            word, _, value = line.partition("=")
            found[word.strip()].append(" ".join(value.split()))
    return found


def command(unit: Unit) -> list[str]:
    """What the unit starts."""
    return unit["ExecStart"][0].split()


def environment(unit: Unit) -> dict[str, str]:
    """What it sets in the environment."""
    pairs = (pair.partition("=") for text in unit["Environment"] for pair in text.split())
    return {name: value for name, _, value in pairs}
