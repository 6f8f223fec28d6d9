"""The command line; every command imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import click

from yolact import __version__
from yolact.errors import UserError

BUNDLED_MODEL = "yolact_lite0_dogcat"
FAULT = 2  # the exit status for a caller's mistake

_weights = click.option(
    "--weights",
    default=BUNDLED_MODEL,
    show_default=True,
    help="A file of weights, the original's, mmdetection's or ours, or the name of a bundled model.",
)
_config = click.option("--config", metavar="NAME", help="The configuration, where the weights cannot tell it.")
_device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


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
@click.argument("picture", required=False, type=Path)
@click.option(
    "--output", type=Path, default="output", show_default=True, help="Folder for the picture and the results."
)
@_device
def demo(picture: Path | None, output: Path, device: str) -> None:
    """Segment a photo with the bundled model, and time each step.

    PICTURE is a file; without one it is a photo of a cat.
    """
    from yolact.demo import run_demo

    click.echo(run_demo(BUNDLED_MODEL, picture, output, device))


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@_weights
@_config
@_device
@click.option("--score-threshold", type=click.FloatRange(0, 1), default=0.15, show_default=True)
@click.option("--max-detections", type=click.IntRange(1), default=100, show_default=True, help="A picture.")
@click.option("--output", type=Path, help="Folder for annotated pictures; without --json it is 'output'.")
@click.option("--json", "results_file", type=Path, metavar="FILE", help="Write the results as a COCO list.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True)
@click.pass_context
def predict(
    context: click.Context,
    sources: tuple[str, ...],
    weights: str,
    config: str | None,
    device: str,
    score_threshold: float,
    max_detections: int,
    output: Path | None,
    results_file: Path | None,
    batch_size: int,
) -> None:
    """Find instances in pictures.

    SOURCE is a picture, a folder of pictures or a glob pattern.
    """
    from yolact.pictures import find_pictures
    from yolact.predictor import load
    from yolact.run import run

    if output is None and results_file is None:
        output = Path("output")
    pictures = find_pictures(sources)
    failed, instances = run(
        load(weights, device, config),
        pictures,
        output,
        results_file,
        batch_size=batch_size,
        score_threshold=score_threshold,
        max_detections=max_detections,
    )
    done = len(pictures) - failed
    written = [f"{where}" for where in (output and f"{output}{os.sep}", results_file) if where]
    if done:
        click.echo(f"{instances} instances in {done} pictures: {', '.join(written)}")
    context.exit(FAULT if failed else 0)


@cli.command()
def doctor() -> None:
    """Tell what was built and what can run here."""
    from yolact.doctor import main

    click.get_current_context().exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 2, and one line on stderr, for a caller's mistake."""
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what is wrong with a picture is told as a fault
    try:
        return cli.main(arguments, prog_name="yolact", standalone_mode=False) or 0
    except UserError as error:
        return _fault(str(error))
    except click.ClickException as error:
        return _fault(error.format_message())
    except click.Abort:  # Ctrl-C
        return 130


def _fault(message: str) -> int:
    click.echo(f"yolact: {' '.join(message.split())}", err=True)
    return FAULT


if __name__ == "__main__":
    sys.exit(main())
