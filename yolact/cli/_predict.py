"""`yolact demo` and `yolact predict`."""

from __future__ import annotations

import math
import os
from pathlib import Path

import click

from yolact.cli import _options as options
from yolact.errors import UserError


@click.command()
@click.argument("picture", required=False, type=Path)
@click.option(
    "--output", type=Path, default="output", show_default=True, metavar="DIR", help="Folder for picture and results."
)
@options.device
def demo(picture: Path | None, output: Path, device: str) -> None:
    """Segment a photo with the bundled model, and time each step.

    PICTURE is a file; without one it is a photo of a cat.
    """
    from yolact.demo import run_demo

    click.echo(run_demo(options.BUNDLED_MODEL, picture, output, device))


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@options.weights
@options.config
@options.device
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1),
    default=0.15,
    show_default=True,
    metavar="S",
    help="Keep what scores above this.",
)
@options.number("--max-detections", 100, "Keep at most this many in a picture.", high=10_000)
@click.option(
    "--output", type=Path, metavar="DIR", help="Folder for annotated pictures; 'output' if --json is not given."
)
@click.option("--json", "results_file", type=Path, metavar="FILE", help="Write the results as a COCO list.")
@options.number("--batch-size", 1, "Pictures that go through the network together.")
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

    In the COCO list `image_id` is the number in a COCO-style file name (000000005001.jpg), else the picture's
    position, from 1; `file_name` tells apart what the two ways number alike.
    """
    from yolact.pictures import find_pictures
    from yolact.predictor import load
    from yolact.run import run

    if math.isnan(score_threshold):  # which click takes for a number within the range
        raise UserError("--score-threshold must be within [0, 1], got nan")
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
    context.exit(options.FAULT if failed else 0)
