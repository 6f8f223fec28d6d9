"""The command line; every command imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from yolact import __version__
from yolact.errors import UserError

if TYPE_CHECKING:
    from yolact.predictor import Model

F = TypeVar("F", bound=Callable[..., Any])

BUNDLED_MODEL = "yolact_lite0_dogcat"
FAULT = 2  # the exit status for a caller's mistake

_weights = click.option(
    "--weights",
    default=BUNDLED_MODEL,
    show_default=True,
    metavar="W",
    help="A file of weights, the original's, mmdetection's or ours, or the name of a bundled model.",
)
_config = click.option("--config", metavar="NAME", help="The configuration, where the weights cannot tell it.")
_device = click.option("--device", default="auto", show_default=True, metavar="D", help="auto, cpu, cuda or cuda:N.")


def _number(name: str, default: int | None, text: str, low: int = 1, high: int | None = None) -> Callable[[F], F]:
    """An option that is a whole number."""
    return click.option(
        name, type=click.IntRange(low, high), default=default, show_default=True, metavar="N", help=text
    )


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
    "--output", type=Path, default="output", show_default=True, metavar="DIR", help="Folder for picture and results."
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
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1),
    default=0.15,
    show_default=True,
    metavar="S",
    help="Keep what scores above this.",
)
@_number("--max-detections", 100, "Keep at most this many in a picture.", high=10_000)
@click.option(
    "--output", type=Path, metavar="DIR", help="Folder for annotated pictures; 'output' if --json is not given."
)
@click.option("--json", "results_file", type=Path, metavar="FILE", help="Write the results as a COCO list.")
@_number("--batch-size", 1, "Pictures that go through the network together.")
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
    context.exit(FAULT if failed else 0)


@cli.command("eval")
@click.option("--annotations", type=Path, required=True, metavar="FILE", help="The truth, in COCO's format.")
@click.option("--results", type=Path, metavar="FILE", help="Score this COCO results list, or a model:")
@click.option("--weights", metavar="W", help="A file of weights or the name of a bundled model.")
@click.option("--images", type=Path, metavar="DIR", help="The folder of the annotated pictures.")
@_config
@_device
@_number("--batch-size", 1, "Pictures that go through the network together.")
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
        click.echo(_scores(evaluate(results, annotations)))
        return
    if results is not None or weights is None or images is None:
        raise UserError("eval takes either --results, or --weights and --images")
    from yolact.pictures import make_folder
    from yolact.predictor import load
    from yolact.run import write_results

    model = load(weights, device, config)
    if results_file:  # told before the work that it cannot be written
        make_folder(results_file.parent)
    detections = _detect(model, annotations, images, batch_size)
    if results_file:
        write_results(results_file, detections)
    click.echo(_scores(evaluate(detections, annotations)))


@cli.command()
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
@click.option("--weights", metavar="FILE", help="Start from these, whatever their classes.")
@_number("--iterations", None, "Instead of the recipe's.")
@_number("--batch-size", None, "Instead of the recipe's; scales rate and length.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), metavar="R", help="Instead of the recipe's.")
@_number("--seed", 0, "Of weights, order and augmentation.", low=0)
@_number("--workers", 0, "Processes that prepare pictures.", low=0)
@_device
def train(
    config: str,
    train_annotations: Path,
    train_images: Path,
    val_annotations: Path | None,
    val_images: Path | None,
    output: Path,
    device: str,
    **options: Any,
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
    weights = train(config, train_annotations, train_images, output, device=place, **options)
    if val_annotations is not None and val_images is not None:
        detections = _detect(load(weights, place), val_annotations, val_images)
        click.echo(_scores(evaluate(detections, val_annotations)))
    click.echo(weights)


@cli.command()
def doctor() -> None:
    """Tell what was built and what can run here."""
    from yolact.doctor import main

    click.get_current_context().exit(main())


def _detect(model: Model, annotations: Path, images: Path, batch_size: int = 1) -> list[dict[str, Any]]:
    """What a model finds on the pictures of a data set, with a progress bar on a terminal."""
    from tqdm import tqdm

    from yolact.evaluation import detect_dataset

    pictures = detect_dataset(model, annotations, images, batch_size)
    return list(chain.from_iterable(tqdm(pictures, unit="picture", disable=not sys.stderr.isatty())))


def _scores(scores: dict[str, dict[str, float]]) -> str:
    """COCO's numbers as a table, a line for boxes and a line for masks."""
    header = "".join(f"{metric:>7}" for metric in next(iter(scores.values()), ()))
    rows = [f"{kind:<5}" + "".join(f"{value:7.3f}" for value in row.values()) for kind, row in scores.items()]
    return "\n".join([f"{'':5}{header}", *rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 2, and one line on stderr, for a caller's mistake."""
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what is wrong with a picture is told as a fault
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
    except OSError as error:  # stdout, on a disk that is full: what happens to other files is a UserError
        sys.stdout = None  # or Python would try again when it ends
        return _fault(f"cannot write the output ({error.strerror})")


def _fault(message: str) -> int:
    click.echo(f"yolact: {' '.join(message.split())}", err=True)
    return FAULT


if __name__ == "__main__":
    sys.exit(main())
