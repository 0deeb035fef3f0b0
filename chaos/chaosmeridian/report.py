"""Shows a verdict: a table, and a plot of what the load felt, in text. Pure but for the console it is given."""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaosmeridian.tally import Counts, Slice, Tally
from chaosmeridian.verdict import Verdict

PLOT_COLUMNS = 80
_BARS = " ▁▂▃▄▅▆▇█"


def show(verdict: Verdict, console: Console) -> None:
    """Prints the verdict."""
    word = "[bold green]passed[/]" if verdict.passed else "[bold red]failed[/]"
    console.print(f"{escape(verdict.experiment)}: {escape(verdict.title)} ({verdict.began[:19]}): {word}")
    console.print(_checks(verdict))
    if verdict.tally is not None:
        console.print(_load(verdict))
        for failure in verdict.tally.examples:
            console.print(
                escape(f"  {failure.at_seconds:7.3f} s {failure.target} {failure.reason}: {failure.detail}"),
                style="red",
                highlight=False,
            )
    if verdict.moved_seconds:
        console.print(_dns(verdict))
    for line in plot(verdict):
        console.print(line, highlight=False, markup=False, no_wrap=True)


def _checks(verdict: Verdict) -> Table:
    table = Table("must hold", "limit", "measured", "")
    for check in verdict.checks:
        measured = "" if check.measured is None else f"{check.measured:.3g}"
        limit = "" if check.limit is None else f"{check.limit:g}"
        detail = escape(check.detail) if not check.passed or check.measured is None else ""
        table.add_row(
            escape(check.name), limit, measured or detail, "[green]yes[/]" if check.passed else f"[red]no[/] {detail}"
        )
    return table


def _load(verdict: Verdict) -> Table:
    tally = verdict.tally
    assert tally is not None
    table = Table("load", "offered", "answered", "failed", "p50 ms", "p99 ms", "max ms")
    rows: list[tuple[str, Counts | Tally]] = [*tally.protocols.items(), ("all", tally)]
    for name, counts in rows:
        milliseconds = [
            f"{seconds * 1000:.1f}" for seconds in (counts.p50_seconds, counts.p99_seconds, counts.max_seconds)
        ]
        table.add_row(name, str(counts.offered), str(counts.answered), str(counts.failed), *milliseconds)
    return table


def _dns(verdict: Verdict) -> Table:
    table = Table("DNS server on", "moved, seconds after the kill", "healed, seconds after the start")
    for server in sorted({*verdict.moved_seconds, *verdict.healed_seconds}):
        moved = _seconds(verdict.moved_seconds[server]) if server in verdict.moved_seconds else "(killed)"
        table.add_row(escape(server), moved, _seconds(verdict.healed_seconds.get(server)))
    return table


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f}"


def plot(verdict: Verdict, columns: int = PLOT_COLUMNS) -> list[str]:
    """Lines of text: the slowest request of each moment as bars, failures, and what happened when."""
    tally = verdict.tally
    if tally is None or not tally.timeline:
        return []
    last = max([tally.timeline[-1].at_seconds, *(moment.at_seconds for moment in verdict.moments)]) + 0.1
    seconds_per_column = last / columns
    slowest, failed = _columns(tally.timeline, seconds_per_column, columns)
    top = max(slowest) or 1.0
    bars = "".join(_BARS[-(-int(8000 * value / top) // 1000)] for value in slowest)
    events = [" "] * columns
    for moment in verdict.moments:
        column = min(columns - 1, max(0, int(moment.at_seconds / seconds_per_column)))
        while events[column] != " " and column < columns - 1:
            column += 1  # two marks in one place stand beside each other
        events[column] = moment.mark
    return [
        f"slowest |{bars}| {top * 1000:.0f} ms at the top",
        f"failed  |{''.join('x' if count else '.' for count in failed)}|",
        f"events  |{''.join(events)}| {last:.1f} s in all",
        *(f"        {moment.mark} {moment.at_seconds:6.2f} s  {moment.what}" for moment in verdict.moments),
    ]


def _columns(timeline: Iterable[Slice], seconds_per_column: float, columns: int) -> tuple[list[float], list[int]]:
    slowest, failed = [0.0] * columns, [0] * columns
    for part in timeline:
        column = min(columns - 1, int(part.at_seconds / seconds_per_column))
        slowest[column] = max(slowest[column], part.max_seconds)
        failed[column] += part.failed
    return slowest, failed
