"""`yolact demo` and `yolact predict`."""

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
@options.score_threshold
@options.score
@options.number("--max-detections", 100, "Keep at most this many in a picture, of the best boxes.", high=10_000)
@click.option(
    "--output",
    type=Path,
    metavar="DIR",
    help="Folder for what is annotated; 'output' without --json and --report.",
)
@click.option(
    "--json",
    "results_file",
    type=Path,
    metavar="FILE",
    help="Write the results as a COCO list, or into FILE.jsonl a line each, as they come; - is standard output.",
)
@click.option(
    "--report",
    "report_file",
    type=Path,
    metavar="FILE",
    callback=options.check_page,
    help="Write the pictures and their instances as one page to look at, .html.",
)
@options.report_side
@options.number("--batch-size", 1, "Pictures that go through the network together.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
    default="auto",
    show_default=True,
    help="Of the network; auto is fp16 on a GPU, bf16 on a CPU that multiplies it natively, else fp32.",
)
@click.pass_context
def predict(
    context: click.Context,
    sources: tuple[str, ...],
    weights: str,
    config: str | None,
    device: str,
    score_threshold: float,
    score: Score | None,
    max_detections: int,
    output: Path | None,
    results_file: Path | None,
    report_file: Path | None,
    report_side: int,
    batch_size: int,
    precision: str,
) -> None:
    """Find instances in pictures and videos.

    SOURCE is a picture, a video, a folder of them, a glob pattern, or a webcam's number.

    A video becomes an MPEG-4 video NAME.mp4 without sound, of the same rate and size. Of a webcam the newest frame
    counts: those that come faster than the model are left out. Ctrl-C ends it, or any run: files hold what was done.

    Among the results `image_id` is the number in a COCO-style file name (000000005001.jpg), else the position of the
    picture or frame in the whole input, from 1; `file_name` tells apart what the two ways number alike. Those of videos
    also have `frame`, from 0, and `seconds`.
    """
    from yolact.engine.memory import keep_freed_memory
    from yolact.loading import load
    from yolact.pictures import find_sources, is_picture
    from yolact.report import Report
    from yolact.run import STDOUT, run

    if output is None and results_file is None and report_file is None:
        output = Path("output")
    inputs = find_sources(sources)
    if report_file and not all(map(is_picture, inputs)):
        if not any(map(is_picture, inputs)):
            raise UserError(f"{report_file}: a report shows pictures, and among the sources there is none")
        click.echo(f"yolact: {report_file}: shows pictures alone, videos are left out", err=True)
    model = load(weights, device, config)
    options.check_score(model, score)
    keep_freed_memory()
    model.choose_threads()
    done = run(
        model,
        inputs,
        output,
        results_file,
        Report(report_file, f"Found by {Path(weights).stem}", report_side) if report_file else None,
        batch_size=batch_size,
        score_threshold=score_threshold,
        score=score,
        max_detections=max_detections,
        precision=precision,
    )
    written = [f"{where}" for where in (output and f"{output}{os.sep}", results_file, report_file) if where]
    counts = {"pictures": done.pictures, "frames": done.frames}
    if any(counts.values()):
        what = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
        rate = sum(counts.values()) / done.seconds
        dropped = f", {done.dropped} that came too fast left out" if done.dropped else ""
        told = f"{done.instances} instances in {what}{dropped}, {rate:.1f} a second: {', '.join(written)}"
        click.echo(told, err=results_file == STDOUT)
    webcam = isinstance(inputs[0], int)  # which has no other end
    if done.signal and not webcam:
        click.echo("yolact: interrupted; what is written holds what was done until then", err=True)
        context.exit(128 + done.signal)
    context.exit(options.FAULT if done.failed else 0)
