"""The `meridian` command. Exit codes: 0 done, 1 the operation failed, 2 the operator's mistake, 130 Ctrl-C."""

import os
import sys
from typing import NoReturn

import typer

from meridian.cli import cluster, config, run, store
from meridian.cli.cache import cache
from meridian.cli.dns import dns
from meridian.cli.doctor import doctor
from meridian.cli.ending import await_end
from meridian.cli.errors import CommandError, Failed
from meridian.cli.explain import explain
from meridian.cli.limits import limits
from meridian.cli.local import local
from meridian.cli.output import show_error
from meridian.cli.pki import pki
from meridian.cli.rollout import rollout
from meridian.cli.upgrade import upgrade

app = typer.Typer(
    name="meridian",
    help="A gateway cluster over several regions that stays up when any part of it dies.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# The order is that of the help: first to run, then to configure, then to watch.
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(run.serve)
app.command(context_settings=run.PASS_ON)(run.node)
app.add_typer(local, name="local")
app.command()(config.plan)
app.command()(config.apply)
app.command()(config.get)
app.command()(config.history)
app.command()(config.rollback)
app.add_typer(rollout, name="rollout")
app.command()(config.schema)
app.command()(config.secret)
app.command()(cluster.status)
app.add_typer(explain, name="explain")
app.command()(cluster.drain)
app.command()(cluster.undrain)
app.command()(await_end)
app.command()(upgrade)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(doctor)
app.command()(store.backup)
app.command()(store.restore)
app.add_typer(store.store, name="store")
app.add_typer(dns, name="dns")
app.add_typer(limits, name="limits")
app.add_typer(cache, name="cache")
app.add_typer(pki, name="pki")
app.command(context_settings=run.PASS_ON)(run.chaos)

DEBUG = "MERIDIAN_DEBUG"  # set: an unexpected error shows its traceback


def main() -> NoReturn:
    """Runs the command line and exits. Nothing that goes wrong shows a traceback."""
    as_json = "--json" in sys.argv
    try:
        app(prog_name="meridian")
    except CommandError as error:
        show_error(error, as_json)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if DEBUG in os.environ:
            raise
        remedy = f"this is a fault of ours; {DEBUG}=1 shows where"
        show_error(Failed(f"{type(error).__name__}: {error}", remedy), as_json)
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
