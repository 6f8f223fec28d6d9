"""`yolact look`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolact.cli import _options as options
from yolact.errors import UserError

if TYPE_CHECKING:
    from yolact.engine import Score


@click.command()
@click.argument("picture", type=Path)
@options.weights
@options.config
@options.device
@options.score_threshold
@options.score
@options.number("--instance", 1, "Whose mask is taken apart, by falling score.")
@click.option(
    "-o", "--output", type=Path, default="look.png", show_default=True, metavar="FILE", help="The picture to write."
)
def look(
    picture: Path,
    weights: str,
    config: str | None,
    device: str,
    score_threshold: float,
    score: Score | None,
    instance: int,
    output: Path,
) -> None:
    """Draw the prototypes of a photo, and how a mask is put together from them.

    As figures 5 and 3 of the paper: each prototype's activation; then an instance's strongest coefficients times
    prototypes, with their signs, the sum of all, its sigmoid, cut by the box, and the mask on the photo.
    """
    from yolact.loading import load
    from yolact.look import draw_inside
    from yolact.pictures import make_folder, read_picture, write_picture

    if os.path.realpath(output) == os.path.realpath(picture):
        raise UserError(f"{output}: is the photo itself and would be overwritten; write another file")
    photo = read_picture(picture)  # a missing photo is told before a model is loaded for it
    model = load(weights, device, config)
    options.check_score(model, score)
    found = model.predict(photo, score_threshold=score_threshold, score=score)[0]
    if instance > max(len(found), 1):
        raise UserError(f"{picture}: has {len(found)} instances that score above {score_threshold}, not {instance}")
    make_folder(output.parent)
    write_picture(output, draw_inside(found, instance - 1))
    click.echo(f"{found}\n{output}")
