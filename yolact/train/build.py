"""What a run is made of before its first step: the numbers it goes by, the network and what trains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from yolact.config import Config
from yolact.data.coco import CocoDataset, read_coco
from yolact.data.faults import OnFault, summary
from yolact.distributed import world_size
from yolact.errors import UserError
from yolact.models.backbones import Backbone, layers_to_c4
from yolact.models.deformable import DeformableConv2d
from yolact.models.start import start_from
from yolact.models.timm_backbone import convert_sync_batch_norm
from yolact.options import TrainOptions
from yolact.predictor import Model
from yolact.train.ema import WeightAverage
from yolact.train.recipe import FREEZE_BELOW, Recipe
from yolact.train.state import RunState
from yolact.train.step import HALF, Precision, TrainStep


def check_machine(precision: Precision, device: torch.device) -> None:
    """Refuse what cannot be computed here.

    Raises:
        UserError: there is no such precision, or not on this device.
    """
    if precision not in ("fp32", *HALF):
        raise UserError(f"precision {precision!r} is unknown; choose fp32, bf16 or fp16")
    if precision == "fp16" and device.type != "cuda":
        raise UserError("precision 'fp16' needs a GPU; 'bf16' and 'fp32' work on a CPU too")


def read_dataset(
    annotations: str | Path, images: str | Path, on_fault: OnFault, classes: Sequence[str], class_agnostic: bool
) -> CocoDataset:
    """What to train on.

    Raises:
        UserError: its fault, or it holds no picture.
    """
    dataset = read_coco(annotations, images, on_fault=on_fault)
    if not dataset.pictures:
        raise UserError(f"{annotations}: names no picture")
    if classes and class_agnostic:
        raise UserError("either some classes alone, or all as one")
    dataset = dataset.only(classes) if classes else dataset
    return dataset.class_agnostic() if class_agnostic else dataset


def part_of_batch(batch_size: int, accumulate: int) -> int:
    """Pictures that a process takes at a time.

    Raises:
        UserError: the batch does not divide.
    """
    part, rest = divmod(batch_size, world_size() * accumulate)
    if rest:
        raise UserError(
            f"a batch of {batch_size} does not divide into {world_size()} processes times {accumulate} parts"
        )
    return part


def told_scaling(recipe: Recipe, own: TrainOptions, options: TrainOptions) -> str:
    """What another batch size, rate, length or norm makes of a recipe's numbers, in a line."""
    changes = [
        f"{name} {after} instead of {before}"
        for name, before, after in (
            ("batch", own.batch_size, options.batch_size),
            ("rate", f"{own.learning_rate:g}", f"{options.learning_rate:g}"),
            ("length", f"{own.length} {own.unit}", f"{options.length} {options.unit}"),
            ("steps at", own.steps, options.steps if recipe.schedule == "steps" else own.steps),
            ("warm-up", own.warmup_iterations, options.warmup_iterations),
            ("gradient norm", own.clip_norm, options.clip_norm),
        )
        if before != after
    ]
    return f"other than in the recipe: {', '.join(changes)}"


def build(
    config: Config,
    recipe: Recipe,
    dataset: CocoDataset,
    weights: str | Path | None,
    *,
    seed: int,
    device: torch.device,
    at_once: int,  # pictures that a process takes at a time
    precision: Precision,
    channels_last: bool,
    compiled: bool,
    checkpoint: Path,  # to go on from, if it is there
) -> tuple[RunState, TrainStep, list[str]]:
    """The network and what trains it, and lines that tell of them."""
    torch.default_generator.manual_seed(seed)
    pretrained = weights is not None or config.backbone == "efficientnet_lite0"
    synchronised = device.type == "cuda" and world_size() > 1  # batch norm's statistics; torch can on GPUs alone
    freeze = recipe.freeze_batch_norm
    if freeze is None:
        freeze = at_once * (world_size() if synchronised else 1) < FREEZE_BELOW
    model = Model(config, freeze_batch_norm=pretrained and freeze)
    resumed = checkpoint.exists()
    lines = [] if resumed else [start_from(model, weights)]
    model.to(device).train()
    frozen = pretrained and recipe.freeze_to_c4
    if frozen:
        freeze_to_c4(model.backbone)
    if synchronised and not model.freeze_batch_norm:
        convert_sync_batch_norm(model.backbone)  # nothing else has any
    step = TrainStep(model, precision, channels_last=channels_last, compiled=compiled)
    identity = {
        "config": config.to_dict(),
        "recipe": asdict(recipe),
        "seed": seed,
        "pictures": len(dataset),
        "pretrained": pretrained,
        "freeze_batch_norm": model.freeze_batch_norm,
    }
    average = WeightAverage(model, recipe.ema_decay) if recipe.ema_decay else None
    state = RunState(identity, model, average, step.optimizer, step.scaler)
    if resumed:
        state.resume(checkpoint)
        lines.append(f"going on from iteration {state.iteration}")
    if dataset.faults:
        lines.append(f"left out: {summary(dataset.faults)}")
    options = config.train
    batch_norm = "frozen" if model.freeze_batch_norm else "trained"
    if world_size() > 1 and not (synchronised or model.freeze_batch_norm):
        batch_norm += " with statistics of each process's own"
    lines.append(
        f"{config.name}: {len(dataset)} pictures, {config.num_classes} classes, "
        f"{options.length} iterations of {options.batch_size}, {at_once} at once in each of {world_size()} processes, "
        f"rate {options.learning_rate:g}, batch norm {batch_norm}, "
        f"backbone {'frozen up to C4' if frozen else 'trained'}, {precision} on {device}"
    )
    return state, step, lines


def freeze_to_c4(backbone: Backbone) -> None:
    """Take the layers of a backbone up to C4 out of training, batch norm included.

    But for deformable convolutions: a plain network's weights, which they may have come from, know of no offsets.
    """
    for layer in layers_to_c4(backbone):
        layer.eval().requires_grad_(False)
        for module in layer.modules():
            if isinstance(module, DeformableConv2d):
                module.requires_grad_(True)
