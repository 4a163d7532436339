"""The verbs of ``mmscope``, and what their failures look like to people and scripts.

Exit codes: 0 fine, 1 a claim failed, 2 usage, 3 infrastructure, 4 the guest failed,
130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

import harness
from harness.cli import boot, check, doctor, kernels, report, run
from harness.cli.terminal import error_console
from harness.errors import MmscopeError

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
app.command()(boot.boot)
app.command()(run.run)
app.command()(check.check)
app.command()(report.report)


def main() -> NoReturn:
    """Runs the command line and exits with the code that tells how it went."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        app(standalone_mode=True)
    except MmscopeError as error:
        error_console().print(f"[bold red]mmscope:[/] {_escape(error.render())}", highlight=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        error_console().print("[bold]mmscope: interrupted[/]")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone; say nothing more, also not at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
