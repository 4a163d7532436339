"""The verbs of ``mmscope``, and what their failures look like to people and scripts.

Exit codes: 0 fine, 1 a claim failed, 2 usage, 3 infrastructure, 4 the guest failed,
130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Annotated, NoReturn

import typer

import harness
from analysis.errors import AnalysisError
from harness.cli import (
    boot,
    capture,
    check,
    compare,
    doctor,
    kernels,
    replay,
    report,
    run,
    shapes,
    sweep,
    tour,
)
from harness.cli.signals import heed_signals
from harness.cli.terminal import error_console
from harness.errors import MmscopeError

_INTERRUPTED = 130

app = typer.Typer(
    name="mmscope",
    help=(
        "Boot a real Linux kernel, watch its memory management from inside and outside, "
        "and hold it against a model that says exactly what it predicts."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmscope {harness.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


app.command()(doctor.doctor)
app.add_typer(kernels.app, name="kernels")
app.add_typer(shapes.app, name="shapes")
app.command()(boot.boot)
app.command()(capture.capture)
app.command("capture-all")(capture.capture_all)
app.command()(run.run)
app.command()(sweep.sweep)
app.command()(check.check)
app.command()(replay.replay)
app.command()(compare.compare)
app.command()(report.report)
app.command()(tour.tour)
app.command("tour-stop", hidden=True)(tour.tour_stop)


def main() -> NoReturn:
    """Runs the command line and exits with the code that tells how it went."""
    heed_signals()
    logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    sys.exit(_run())


def _run() -> int:
    """One command; the exit code. 1 is left to failing claims, so nothing else may give it."""
    try:
        status = app(standalone_mode=False)
    except (MmscopeError, AnalysisError) as error:
        _complain(error.render())
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; say nothing more, also not at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}")
        return 3
    except Exception as error:  # noqa: BLE001 - a bug of ours must not pass for a failing claim
        show = getattr(error, "show", None)
        if callable(show):  # the command line itself was wrong
            show()
            return 2
        _complain(f"internal error\n{traceback.format_exc()}")
        return 3
    if status == _INTERRUPTED:
        error_console().print("[bold]mmscope: interrupted[/]")
    return status if isinstance(status, int) else 0


def _complain(text: str) -> None:
    error_console().print(f"[bold red]mmscope:[/] {_escape(text)}", highlight=False)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
