"""What commands show: JSON for programs on stdout, words for people, errors on stderr. Rich is loaded on first use."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meridian.cli.errors import CommandError

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

# One colour for one meaning, wherever a standing or a state is shown.
COLOURS = {
    "serving": "green",
    "up": "green",
    "suspect": "yellow",
    "draining": "yellow",
    "starting": "yellow",
    "unknown": "yellow",
    "withdrawn": "red",
    "stopped": "red",
    "down": "red",
}


def console() -> "Console":
    """A console on stdout as it is now. What is piped away is not folded to a width that nobody looks at."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def show_json(value: Any) -> None:
    """Prints a value (plain, or a dataclass) as JSON on stdout."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Prints a line for people on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Prints a line on stderr: progress and warnings, which must not mix with what a program reads."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show_error(error: CommandError, as_json: bool) -> None:
    """Prints why a command failed: for people on stderr, for programs as JSON on stdout."""
    if as_json:
        content = {"message": error.message, "remedy": error.remedy, "problems": list(error.details)}
        show_json({"error": content})
        return
    note(f"meridian: {error.message}")
    for line in error.details:
        note(f"  {line}")
    if error.remedy:
        note(f"  next: {error.remedy}")


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table; a cell that is one of our standings gets its colour."""
    console().print(table(title, columns, rows))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    """Builds what show_table prints, for a display that refreshes itself."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    built = Table(title=title or None, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for column in columns:
        built.add_column(column, overflow="fold")
    for row in rows:
        built.add_row(*(f"[{COLOURS[cell]}]{cell}[/]" if cell in COLOURS else escape(cell) for cell in row))
    return built
