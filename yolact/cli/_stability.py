"""`yolact stability`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolact.cli import _options as options
from yolact.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from yolact.engine import Score
    from yolact.evaluation.stability import Stability


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@options.weights
@options.config
@options.device
@options.score_threshold
@options.score
@click.option(
    "--frames",
    type=click.IntRange(2),
    metavar="N",
    help="At most so many of a video, all by default; so many of a picture, 30 by default.",
)
@options.real("--noise", 5.0, "Of a picture: the deviation of a sensor's noise, in grey levels.")
@options.real("--flicker", 0.01, "Of a picture: the deviation of its brightness, 0.01 for a hundredth.")
@options.number("--jpeg-quality", 90, "Of a picture: each frame is coded so; 0 for not at all.", low=0, high=100)
@options.number("--seed", 0, "Of the noise.", low=0)
@options.number("--batch-size", 1, "Frames that go through the network together.")
@click.option("--json", "results_file", type=Path, metavar="FILE", help="Write the numbers; - is standard output.")
@click.option("--plot", type=Path, metavar="FILE", help="Draw them, .png.")
@click.pass_context
def stability(
    context: click.Context,
    sources: tuple[str, ...],
    weights: str,
    config: str | None,
    device: str,
    score_threshold: float,
    score: Score | None,
    frames: int | None,
    noise: float,
    flicker: float,
    jpeg_quality: int,
    seed: int,
    batch_size: int,
    results_file: Path | None,
    plot: Path | None,
) -> None:
    """Measure how steady masks are from frame to frame of a still scene.

    SOURCE is a video, a picture, a folder of them, a glob pattern, or a webcam's number. Of a picture a film is made in
    which nothing changes but noise, the same for the same seed.

    Detections of one class in consecutive frames are one instance where the IoU of their boxes is above 0.5, the
    highest IoU first. Told are how many were found, how many of those sought in the next frame were found again, and
    of those the mean and the 5th percentile of the IoU of masks, and of boxes filled in. What is not found again has no
    IoU. Ctrl-C ends it; what is told is what was measured until then.
    """
    from tqdm import tqdm

    from yolact.evaluation.films import Noise, read_film
    from yolact.evaluation.plots import plot_stability, require_matplotlib
    from yolact.evaluation.stability import pool, temporal_stability
    from yolact.files import replacing
    from yolact.loading import load
    from yolact.pictures import find_sources, make_folder
    from yolact.run import STDOUT, keep_apart
    from yolact.signals import kept_signals

    inputs = find_sources(sources)
    written = [path for path in (results_file, plot) if path is not None and path != STDOUT]
    keep_apart(inputs, written)
    if plot is not None:  # whatever can fail is told before the work
        if plot.suffix.lower() != ".png":
            raise UserError(f"--plot must name a file that ends in .png, got {plot}")
        require_matplotlib()
    for path in written:
        make_folder(path.parent)
        if path.is_dir():
            raise UserError(f"{path}: is a folder")
    model = load(weights, device, config)
    options.check_score(model, score)
    differs = Noise(noise, flicker, jpeg_quality or None)
    measured: dict[str, Stability] = {}
    with kept_signals() as signals, tqdm(unit=" frames", leave=False, disable=None) as progress:

        def feed(source: Path | int) -> Iterator[np.ndarray]:
            for frame in read_film(source, differs, frames, seed):
                if signals:
                    return
                yield frame
                progress.update()

        for source in inputs:
            if signals:
                break
            found = model.stream(
                feed(source), score_threshold=score_threshold, score=score, batch_size=batch_size, precision="fp32"
            )
            measured[str(source)] = temporal_stability(instances.to_coco(0) for instances in found)
    films = {name: film.summary() for name, film in measured.items()}
    together = pool(measured.values())
    click.echo(table({**films, **({"all": together.summary()} if len(films) > 1 else {})}), err=results_file == STDOUT)
    how = {
        "weights": weights,
        "score_threshold": score_threshold,
        "score": model.which_score(score),
        "noise": asdict(differs),
        "seed": seed,
    }
    report = json.dumps({**how, "films": films, "all": together.summary()}, indent=1)
    if results_file == STDOUT:
        click.echo(report)
    elif results_file is not None:
        with replacing(results_file) as file:
            file.write(f"{report}\n".encode())
    if plot is not None:
        plot_stability(measured, plot)
    if signals and not isinstance(inputs[0], int):  # a webcam has no other end
        click.echo("yolact: interrupted; told is what was measured until then", err=True)
        context.exit(128 + signals[0])


def table(films: Mapping[str, Mapping[str, float | None]]) -> str:
    """A line a film: its name and the numbers of `Stability.summary`."""
    from yolact.data.fields import printable

    columns = ("frames", "found", "sought", "again", "masks", "5 %", "boxes", "5 %")
    rows = {"": columns, **{printable(name): [_cell(value) for value in film.values()] for name, film in films.items()}}
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}" + "".join(f"{cell:>8}" for cell in row) for name, row in rows.items())


def _cell(value: float | None) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
