"""The command line; every command imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence

import click

from yolact import __version__
from yolact.cli._bench import bench
from yolact.cli._data import data
from yolact.cli._evaluate import evaluate
from yolact.cli._export import export
from yolact.cli._look import look
from yolact.cli._models import models
from yolact.cli._options import FAULT
from yolact.cli._predict import demo, predict
from yolact.cli._report import report
from yolact.cli._stability import stability
from yolact.cli._train import train
from yolact.errors import UserError


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.version_option(__version__, message="yolact %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """YOLACT: real-time instance segmentation."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
def doctor() -> None:
    """Tell what was built and what can run here."""
    from yolact.doctor import main

    click.get_current_context().exit(main())


for command in (demo, predict, evaluate, report, look, stability, train, export, data, models, bench):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 2, and one line on stderr, for a caller's mistake."""
    # Of odd metadata and strange pickles; what is wrong with a file is told as a fault.
    warnings.filterwarnings("ignore", module=r"PIL|torch\._weights_only_unpickler|yolact\.models\.weight_files")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names may hold letters that the terminal lacks
    try:
        status = cli.main(arguments, prog_name="yolact", standalone_mode=False) or 0
        if sys.stdout:
            sys.stdout.flush()
        return status
    except UserError as error:
        return _fault(str(error))
    except click.ClickException as error:
        return _fault(error.format_message())
    except click.Abort:  # Ctrl-C
        return 130
    except OSError as error:
        if error.filename is not None:
            return _fault(f"{os.fsdecode(error.filename)}: {error.strerror}")
        sys.stdout = None  # on a disk that is full: Python would try again when it ends
        return _fault(f"cannot write the output ({error.strerror})")


def _fault(message: str) -> int:
    click.echo(f"yolact: {' '.join(message.split())}", err=True)
    return FAULT
