"""`python -m chaosmeridian list`, `run NAME`, `report [NAME]`: what `meridian chaos` runs.

Exit status: 0 if the verdict is passed, 1 if it is failed (or the run could not be finished), 2 if the command is
wrong. Journals are kept, one per experiment (the last run), in MERIDIAN_CHAOS or below XDG_STATE_HOME.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from chaosmeridian import report
from chaosmeridian.lab import LabError, read_lab
from chaosmeridian.verdict import UnjudgedError, Verdict, judge

JOURNAL_BYTES_MAX = 256 * 1024 * 1024  # far above what five million requests leave; a wrong file is not read


class MistakeError(Exception):
    """The command is wrong; the message says what would be right."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    options = _parse(arguments)
    try:
        match options.command:
            case "list":
                return _list(options.json)
            case "run":
                return _show(_run(options.name, dict(options.var)), options.json)
            case _:
                return _show(judge(*_last(options.name)), options.json)
    except MistakeError as error:
        return _failed(str(error), 2, options.json)
    except (LabError, UnjudgedError) as error:
        return _failed(str(error), 1, options.json)


def experiments() -> dict[str, Path]:
    """All experiments by name: beside the package in a checkout, inside it when installed."""
    here = Path(__file__).parent
    folders = [folder for folder in (here / "experiments", here.parent / "experiments") if folder.is_dir()]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load_experiment(name: str) -> dict[str, Any]:
    """The experiment of that name; raises MistakeError that names those there are."""
    known = experiments()
    if name not in known:
        raise MistakeError(f"there is no experiment {name!r}; there are: {', '.join(known)}")
    loaded: dict[str, Any] = yaml.safe_load(known[name].read_text())
    return loaded


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="meridian chaos", description="Experiments on the local cluster.")
    commands = parser.add_subparsers(dest="command", required=True)
    each = commands.add_parser("list", help="the experiments there are")
    each.add_argument("--json", action="store_true")
    run = commands.add_parser("run", help="run one and judge it")
    run.add_argument("name", metavar="NAME")
    run.add_argument("--var", action="append", type=_variable, default=[], metavar="NAME=VALUE", help="see list --json")
    run.add_argument("--json", action="store_true")
    shown = commands.add_parser("report", help="show the last run again")
    shown.add_argument("name", metavar="NAME", nargs="?", help="of the experiment; the last one run if left out")
    shown.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _list(as_json: bool) -> int:
    found = [
        {"name": name, "title": loaded["title"], "configuration": loaded.get("configuration", {})}
        for name in experiments()
        for loaded in (load_experiment(name),)
    ]
    if as_json:
        sys.stdout.write(json.dumps({"experiments": found}) + "\n")
    else:
        for one in found:
            variables = " ".join(f"{key}={value}" for key, value in one["configuration"].items())
            sys.stdout.write(f"{one['name']}: {one['title']}\n    --var {variables}\n")
    return 0


def _run(name: str, variables: dict[str, str]) -> Verdict:
    experiment = load_experiment(name)
    unknown = variables.keys() - experiment.get("configuration", {}).keys()
    if unknown:
        known = ", ".join(experiment.get("configuration", {}))
        raise MistakeError(f"{name} has no variable {', '.join(sorted(unknown))}; it has: {known}")
    read_lab()  # its message is better than that of a steady state that cannot be looked at
    try:
        from chaoslib.exceptions import ChaosException
        from chaoslib.experiment import ensure_experiment_is_valid, run_experiment
    except ImportError:
        raise MistakeError(
            "Chaos Toolkit is not installed; the development requirements have it: "
            f"{sys.executable} -m pip install --require-hashes -r requirements/dev.txt"
        ) from None
    _log_to_stderr()
    try:
        ensure_experiment_is_valid(experiment)
        settings = {"runtime": {"rollbacks": {"strategy": "always"}}}  # a killed node is started whatever happened
        journal = run_experiment(experiment, settings=settings, experiment_vars=(variables, {}))
    except ChaosException as error:
        raise MistakeError(f"{name} is not a valid experiment: {error}") from error
    journal["experiment"] = experiment
    _save(name, journal)
    return judge(name, journal)


def _save(name: str, journal: Any) -> None:
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = folder / f"{name}.json.new"
    fresh.write_text(json.dumps(journal, default=str))
    fresh.replace(folder / f"{name}.json")


def _last(name: str | None) -> tuple[str, dict[str, Any]]:
    if name is not None and name not in experiments():
        load_experiment(name)
    folder = _folder()
    kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
    wanted = [path for path in kept if name in (None, path.stem)]
    if not wanted or wanted[-1].stat().st_size > JOURNAL_BYTES_MAX:
        raise MistakeError(f"no run is kept; make one with: meridian chaos run {name or next(iter(experiments()))}")
    try:
        journal: dict[str, Any] = json.loads(wanted[-1].read_bytes())
    except ValueError:
        raise MistakeError(f"{wanted[-1]} is not a journal; make one with: meridian chaos run NAME") from None
    return wanted[-1].stem, journal


def _folder() -> Path:
    if chosen := os.environ.get("MERIDIAN_CHAOS"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "meridian" / "chaos"


def _show(verdict: Verdict, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps(verdict.to_plain()) + "\n")
    else:
        report.show(verdict, Console())
    return 0 if verdict.passed else 1


def _failed(message: str, status: int, as_json: bool) -> int:
    sys.stderr.write((json.dumps({"error": {"message": message}}) if as_json else f"error: {message}") + "\n")
    return status


def _log_to_stderr() -> None:
    """Chaos Toolkit's progress, a line a step."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("chaostoolkit")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
