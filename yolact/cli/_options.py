"""Options that several commands take."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from yolact.errors import UserError

if TYPE_CHECKING:
    from yolact.engine import Score
    from yolact.predictor import Model

F = TypeVar("F", bound=Callable[..., Any])

BUNDLED_MODEL = "yolact_lite0_dogcat"
FAULT = 2  # the exit status for a caller's mistake

weights = click.option(
    "--weights",
    default=BUNDLED_MODEL,
    show_default=True,
    metavar="W",
    help="A file of weights, the original's, mmdetection's or ours, or the name of a bundled model.",
)
config = click.option("--config", metavar="NAME", help="The configuration, where the weights cannot tell it.")
backbone = click.option(
    "--backbone", metavar="NAME", help="Instead of the configuration's: another's, or timm/ and a network of timm's."
)
device = click.option("--device", default="auto", show_default=True, metavar="D", help="auto, cpu, cuda or cuda:N.")
report_side = click.option(
    "--report-side",
    type=click.IntRange(16, 16_384),
    default=1024,
    show_default=True,
    metavar="N",
    help="Longest side of pictures in the report, in pixels.",
)


def check_score(model: Model, score: Score | None) -> None:
    """Stop where a score is asked for that the model does not give."""
    if score is None:  # its own
        return
    try:
        model.which_score(score)
    except ValueError as error:
        raise UserError(f"--{error}") from None


def real(name: str, default: float, text: str, low: float = 0, high: float | None = None) -> Callable[[F], F]:
    """An option that is a number, finite."""

    def check(context: click.Context, parameter: click.Parameter, value: float) -> float:
        if not math.isfinite(value):  # click takes nan for a number within any range
            raise click.BadParameter(f"{value} is not a finite number.")
        return value

    kind = click.FloatRange(low, high)
    return click.option(name, type=kind, default=default, show_default=True, metavar="S", help=text, callback=check)


def check_page(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    """A page's name must tell a browser what it is; nor can it be a picture or a data set's file, then."""
    if value is not None and value.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{option.opts[-1]} must name a file that ends in .html, got {value}")
    return value


def refuse_to_replace(annotations: Path, output: Path) -> None:
    """Stop where a file that is to be written is the one with the annotations."""
    if os.path.realpath(output) == os.path.realpath(annotations):
        raise UserError(f"{output}: holds the annotations, which would be lost; write another file")


def number(name: str, default: int | None, text: str, low: int = 1, high: int | None = None) -> Callable[[F], F]:
    """An option that is a whole number."""
    return click.option(
        name, type=click.IntRange(low, high), default=default, show_default=True, metavar="N", help=text
    )


score = click.option(
    "--score",
    type=click.Choice(["mask", "box"]),
    help="Which score counts: the box's, or where the model scores masks (YOLACT++) the mask's, the default there.",
)
score_threshold = real("--score-threshold", 0.15, "Keep what scores above this.", high=1)
