"""`yolact bench`."""

from __future__ import annotations

from pathlib import Path

import click

from yolact.cli import _options as options
from yolact.errors import UserError

DEFAULTS = ((None, options.BUNDLED_MODEL), ("yolact_resnet50", None))  # what is timed when nothing is named


@click.command()
@click.option("--weights", metavar="W", help="A file of weights, or the name of a bundled model.")
@click.option(
    "--config",
    metavar="NAME",
    help="The configuration: of the weights, or without any to be timed with random weights that find as much.",
)
@options.device
@click.option(
    "--batch-size",
    "batches",
    type=click.IntRange(1, 1024),
    multiple=True,
    metavar="N",
    help="May be repeated; 1 by default.",
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), multiple=True, metavar="N", help="May be repeated; torch's by default."
)
@click.option(
    "--picture",
    type=Path,
    metavar="FILE",
    help="The picture; a photo of a cat otherwise, which comes with scikit-image.",
)
@options.real("--seconds", 5.0, "For each batch size and number of threads.", high=3600)
@click.option("--compile", "compiled", is_flag=True, help="With torch.compile among the peers, which takes minutes.")
@click.option("--json", "results_file", type=Path, metavar="FILE", help="Write what was measured.")
def bench(
    weights: str | None,
    config: str | None,
    device: str,
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    picture: Path | None,
    seconds: float,
    compiled: bool,
    results_file: Path | None,
) -> None:
    """Time the whole way from picture files to COCO results on this machine, stage by stage.

    Beside ours: the original's formulation in eager torch, with ONNX Runtime for the network and, when asked, with
    torch.compile. All in turn in one process, their results compared first. Without --weights and --config it is the
    bundled model, and yolact_resnet50 with random weights.
    """
    import torch

    from yolact.bench.end_to_end import Subject, run, save, table
    from yolact.engine.memory import keep_freed_memory
    from yolact.pictures import make_folder

    if results_file:  # told now rather than after the work
        make_folder(results_file.parent)
        if results_file.is_dir():
            raise UserError(f"{results_file}: is a folder")
    named = weights is not None or config is not None
    subjects = [Subject(config, weights)] if named else [Subject(*default) for default in DEFAULTS]
    keep_freed_memory()
    report = run(
        subjects,
        [(batch, count) for batch in batches or (1,) for count in threads or (torch.get_num_threads(),)],
        device=device,
        picture=picture,
        seconds=seconds,
        compiled=compiled,
        starts=lambda text: click.echo(text, err=True),
        done=lambda scene: click.echo("\n".join([*table(scene), ""])),
    )
    click.echo(report.picture)
    click.echo("1/s: pictures a second; ratio: to ours; MB: at the peak, beyond what was there before")
    for line in report.left_out:
        click.echo(f"left out: {line}")
    if results_file:
        save(results_file, report)
