"""`yolact train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from yolact.cli import _options as options
from yolact.errors import UserError

POSITIVE = click.FloatRange(0, min_open=True)


@click.command()
@click.argument("config")
@click.option("--train-annotations", type=Path, required=True, metavar="FILE", help="In COCO's format.")
@click.option("--train-images", type=Path, required=True, metavar="DIR")
@click.option("--val-annotations", type=Path, metavar="FILE", help="Scored from time to time; best.pth is the best.")
@click.option("--val-images", type=Path, metavar="DIR")
@click.option("--output", type=Path, required=True, metavar="RUN", help="Folder for checkpoints, weights and log.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in RUN, if there is one.")
@click.option(
    "--recipe", default="original", show_default=True, metavar="NAME", help="original, or small for few pictures."
)
@options.backbone
@click.option(
    "--weights",
    metavar="FILE",
    help="Start from these: a model's, whatever its classes, or a backbone's; pretrained: what timm has of its own.",
)
@click.option("--classes", multiple=True, metavar="NAME", help="Learn this class alone; may be repeated.")
@click.option("--class-agnostic", is_flag=True, help="Learn all objects as ones of a single class.")
@click.option(
    "--on-fault",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a broken annotation or picture.",
)
@options.number("--iterations", None, "Instead of the recipe's.")
@options.number("--batch-size", None, "Of all processes, instead of the recipe's; scales rate and length.")
@click.option("--learning-rate", type=POSITIVE, metavar="R", help="Instead of the recipe's.")
@click.option("--clip-norm", type=POSITIVE, metavar="X", help="Of the gradient, instead of the recipe's.")
@click.option(
    "--ema-decay",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="X",
    help="Of averaged weights, instead of the recipe's.",
)
@options.number("--seed", 0, "Of weights, order and augmentation.", low=0)
@options.number("--workers", 0, "Processes that prepare pictures, for each that trains.", low=0)
@options.device
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the network; losses and weights stay fp32.",
)
@click.option("--channels-last/--channels-first", default=True, show_default=True, help="Layout of tensors.")
@click.option("--compile", "compiled", is_flag=True, help="By torch.compile.")
@options.number("--accumulate", 1, "Parts to take a batch in, one after the other.")
@options.number("--save-every", 200, "Iterations between checkpoints.")
@options.number("--eval-every", None, "Iterations between validations; by default a twentieth of the run.")
@options.number("--log-every", 20, "Iterations between lines of the log.")
def train(
    config: str,
    train_annotations: Path,
    train_images: Path,
    val_annotations: Path | None,
    val_images: Path | None,
    output: Path,
    backbone: str | None,
    device: str,
    **settings: Any,
) -> None:
    """Train a configuration on a data set in COCO's format.

    Started by torchrun, processes share each batch. SIGTERM and Ctrl-C end a run after its iteration, with a
    checkpoint for --resume.
    """
    from yolact.config import get_config
    from yolact.devices import find_device
    from yolact.distributed import is_main, process_group
    from yolact.models.backbones import with_backbone
    from yolact.train.engine import train

    if (val_annotations is None) != (val_images is None):
        raise UserError("--val-annotations and --val-images go together")
    settings |= {"val_annotations": val_annotations, "val_images": val_images}
    chosen = with_backbone(get_config(config), backbone)
    with process_group(find_device(device)) as place:
        weights = train(chosen, train_annotations, train_images, output, device=place, **settings)
        if is_main():
            click.echo(weights)
