"""`yolact models`."""

from __future__ import annotations

from pathlib import Path

import click

from yolact.cli import _options as options
from yolact.errors import UserError


@click.command()
@click.argument("names", nargs=-1, metavar="[CONFIG]...")
@options.backbone
@click.option("--time", "timed", is_flag=True, help="Time each network on this CPU, and on a GPU where there is one.")
@options.number("--threads", None, "Of the CPU; torch's by default.", high=1024)
@options.real("--seconds", 3.0, "For each network and device.", high=3600)
@click.option("--json", "results_file", type=Path, metavar="FILE", help="Write what the table tells, and the machine.")
def models(
    names: tuple[str, ...],
    backbone: str | None,
    timed: bool,
    threads: int | None,
    seconds: float,
    results_file: Path | None,
) -> None:
    """List configurations: backbone, input, parameters, operations, and what is published of them.

    Operations are multiplications with an addition, of one picture. Times are of the network alone, with random
    weights, a picture at a time: float32 on a CPU, float16 on a GPU. Published are COCO's mask AP, by the weights'
    authors, and the original's pictures a second on a Titan Xp.
    """
    import torch

    from yolact.bench import models as bench
    from yolact.config import CONFIGS, get_config
    from yolact.models.backbones import with_backbone
    from yolact.pictures import make_folder

    if results_file:  # told now rather than after the work
        make_folder(results_file.parent)
        if results_file.is_dir():
            raise UserError(f"{results_file}: is a folder")
    chosen = [with_backbone(get_config(name), backbone) for name in names or CONFIGS]
    lines = [bench.describe(config) for config in chosen]
    if timed:
        threads = threads or torch.get_num_threads()
        for index, config in enumerate(chosen):
            click.echo(f"{config.name} ...", err=True)
            lines[index] = bench.timed(lines[index], config, seconds=seconds, threads=threads)
    click.echo("\n".join(bench.table(lines)))
    if results_file:
        bench.save(results_file, lines, threads if timed else None)
