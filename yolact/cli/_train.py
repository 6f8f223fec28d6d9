"""`yolact train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from yolact.cli import _options as options
from yolact.cli._evaluate import detect, scores_table
from yolact.errors import UserError


@click.command()
@click.argument("config")
@click.option("--train-annotations", type=Path, required=True, metavar="FILE", help="In COCO's format.")
@click.option("--train-images", type=Path, required=True, metavar="DIR")
@click.option("--val-annotations", type=Path, metavar="FILE", help="Scored at the end; chooses nothing.")
@click.option("--val-images", type=Path, metavar="DIR")
@click.option("--output", type=Path, required=True, metavar="RUN", help="Folder for checkpoint, weights and log.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in RUN.")
@click.option(
    "--recipe", default="original", show_default=True, metavar="NAME", help="original, or small for few pictures."
)
@click.option("--weights", metavar="FILE", help="Start from these: a model's, whatever its classes, or a backbone's.")
@options.number("--iterations", None, "Instead of the recipe's.")
@options.number("--batch-size", None, "Instead of the recipe's; scales rate and length.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), metavar="R", help="Instead of the recipe's.")
@options.number("--seed", 0, "Of weights, order and augmentation.", low=0)
@options.number("--workers", 0, "Processes that prepare pictures.", low=0)
@options.device
def train(
    config: str,
    train_annotations: Path,
    train_images: Path,
    val_annotations: Path | None,
    val_images: Path | None,
    output: Path,
    device: str,
    **settings: Any,
) -> None:
    """Train a configuration on a data set in COCO's format."""
    from yolact.data.coco import read_coco
    from yolact.devices import find_device
    from yolact.evaluation import evaluate
    from yolact.predictor import load
    from yolact.train.engine import train

    if (val_annotations is None) != (val_images is None):
        raise UserError("--val-annotations and --val-images go together")
    place = find_device(device)
    if val_annotations is not None and val_images is not None:
        read_coco(val_annotations, val_images)  # its faults are told now, not after the training
    weights = train(config, train_annotations, train_images, output, device=place, **settings)
    if val_annotations is not None and val_images is not None:
        detections = detect(load(weights, place), val_annotations, val_images)
        click.echo(scores_table(evaluate(detections, val_annotations)))
    click.echo(weights)
