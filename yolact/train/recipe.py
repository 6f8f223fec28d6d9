"""How to train: what a configuration's own recipe leaves open, and the numbers of one run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from yolact.data.augment import Augmentation
from yolact.errors import UserError
from yolact.ops._checks import check_count
from yolact.options import TrainOptions

Schedule = Literal["steps", "cosine"]

FREEZE_BELOW = 6  # pictures a batch: fewer have no statistics that batch norm could learn from


@dataclass(frozen=True)
class Recipe:
    """A way to train, over the `TrainOptions` of a configuration."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the configuration's TrainOptions
    schedule: Schedule = "steps"
    ema_decay: float | None = None  # of the averaged weights that are kept beside those trained
    # Both only where the backbone starts from weights: what is random must learn.
    freeze_batch_norm: bool | None = None  # None: when a batch has fewer than FREEZE_BELOW pictures
    freeze_to_c4: bool = False  # the backbone's layers up to C4 stay as they are


RECIPES: dict[str, Recipe] = {
    "original": Recipe(),
    # For tens or hundreds of pictures, from pretrained weights: the backbone kept as it is up to C4, stronger
    # augmentation, a rate that falls smoothly to near zero, and an average of the weights.
    "small": Recipe(
        augmentation=Augmentation(max_expand=2.0, rotation=10.0, mosaic=0.3, copy_paste=0.3),
        changes={
            "batch_size": 4,
            "unit": "iterations",
            "length": 2400,
            "learning_rate": 4e-3,
            "warmup_rate": 4e-4,
            "warmup_iterations": 100,
            "clip_norm": 20.0,
        },
        schedule="cosine",
        ema_decay=0.998,
        freeze_batch_norm=True,
        freeze_to_c4=True,
    ),
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def check_positive(**numbers: float | None) -> None:
    """Raise UserError for a number that is not positive and finite; None stands for what was not asked for."""
    for name, number in numbers.items():
        if number is not None and not 0 < number < math.inf:
            raise UserError(f"{name} must be positive, got {number}")


def scale_to_batch(
    options: TrainOptions, pictures: int, batch_size: int | None, iterations: int | None, learning_rate: float | None
) -> TrainOptions:
    """The options for another batch size or length: rates grow with the batch, lengths shrink, all in iterations.

    Args:
        pictures: in the training set, for a length in epochs.
        batch_size, iterations, learning_rate: asked for; None leaves what follows from the others.

    Raises:
        UserError: one of them is not positive.
        TypeError: the batch size or the length is no whole number.
    """
    check_positive(batch_size=batch_size, iterations=iterations, learning_rate=learning_rate)
    batch_size = None if batch_size is None else check_count(batch_size, "batch_size")
    iterations = None if iterations is None else check_count(iterations, "iterations")
    batch = batch_size or options.batch_size
    ratio = batch / options.batch_size
    per_unit = pictures / batch if options.unit == "epochs" else 1 / ratio
    length = iterations or max(round(options.length * per_unit), 1)
    rate = learning_rate or options.learning_rate * ratio
    return replace(
        options,
        batch_size=batch,
        unit="iterations",
        length=length,
        steps=tuple(round(step * length / options.length) for step in options.steps),
        learning_rate=rate,
        warmup_rate=rate * options.warmup_rate / options.learning_rate,
        warmup_iterations=min(options.warmup_iterations, length // 10),  # a short run is not all warm-up
    )


def rate_at(iteration: int, options: TrainOptions, schedule: Schedule) -> float:
    """The learning rate of an iteration: a linear warm-up, then steps or half a cosine down to a hundredth."""
    if iteration < options.warmup_iterations:
        share = iteration / options.warmup_iterations
        return options.warmup_rate + share * (options.learning_rate - options.warmup_rate)
    if schedule == "cosine":
        share = (iteration - options.warmup_iterations) / max(options.length - options.warmup_iterations, 1)
        return options.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)
    return options.learning_rate * options.gamma ** sum(iteration >= step for step in options.steps)
