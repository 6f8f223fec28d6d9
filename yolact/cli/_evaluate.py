"""`yolact eval`."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yolact.cli import _options as options
from yolact.errors import UserError

if TYPE_CHECKING:
    from yolact.predictor import Model


@click.command("eval")
@click.option("--annotations", type=Path, required=True, metavar="FILE", help="The truth, in COCO's format.")
@click.option("--results", type=Path, metavar="FILE", help="Score this COCO results list, or a model:")
@click.option("--weights", metavar="W", help="A file of weights or the name of a bundled model.")
@click.option("--images", type=Path, metavar="DIR", help="The folder of the annotated pictures.")
@options.config
@options.device
@options.number("--batch-size", 1, "Pictures that go through the network together.")
@click.option("--json", "results_file", type=Path, metavar="FILE", help="Write the detections as a COCO list.")
def evaluate(
    annotations: Path,
    results: Path | None,
    weights: str | None,
    images: Path | None,
    config: str | None,
    device: str,
    batch_size: int,
    results_file: Path | None,
) -> None:
    """Count average precision as COCO does.

    Scores a file of results, or what a model detects on a folder of pictures.
    """
    from yolact.evaluation import evaluate

    if results is not None and weights is None and images is None:
        click.echo(scores_table(evaluate(results, annotations)))
        return
    if results is not None or weights is None or images is None:
        raise UserError("eval takes either --results, or --weights and --images")
    from yolact.pictures import make_folder
    from yolact.predictor import load
    from yolact.run import write_results

    model = load(weights, device, config)
    if results_file:  # told before the work that it cannot be written
        make_folder(results_file.parent)
    detections = detect(model, annotations, images, batch_size)
    if results_file:
        write_results(results_file, detections)
    click.echo(scores_table(evaluate(detections, annotations)))


def detect(model: Model, annotations: Path, images: Path, batch_size: int = 1) -> list[dict[str, Any]]:
    """What a model finds on the pictures of a data set, with a progress bar on a terminal."""
    from tqdm import tqdm

    from yolact.evaluation import detect_dataset

    pictures = detect_dataset(model, annotations, images, batch_size)
    return list(chain.from_iterable(tqdm(pictures, unit="picture", disable=not sys.stderr.isatty())))


def scores_table(scores: dict[str, dict[str, float]]) -> str:
    """COCO's numbers as a table, a line for boxes and a line for masks."""
    header = "".join(f"{metric:>7}" for metric in next(iter(scores.values()), ()))
    rows = [f"{kind:<5}" + "".join(f"{value:7.3f}" for value in row.values()) for kind, row in scores.items()]
    return "\n".join([f"{'':5}{header}", *rows])
