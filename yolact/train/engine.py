"""The training loop: everything a run is made of, in the order it happens."""

from __future__ import annotations

import io
import json
import math
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolact.config import Config, get_config
from yolact.data.augment import Sample
from yolact.data.coco import read_coco
from yolact.data.samples import SampleStream
from yolact.errors import UserError
from yolact.models.checkpoint import load_into, read_checkpoint, save_checkpoint
from yolact.models.efficientnet_lite import EfficientNetLite0, imagenet_weights
from yolact.models.yolact import Yolact
from yolact.ops import preprocess
from yolact.pictures import write_file
from yolact.train.ema import WeightAverage
from yolact.train.losses import loss_terms
from yolact.train.recipe import FREEZE_BELOW, Recipe, get_recipe, rate_at, scale_to_batch
from yolact.train.targets import Targets

STATE = "state.pt"  # in the run's folder: all that --resume needs
WEIGHTS = "weights.pth"  # what yolact.load reads, written with every state
LOG = "log.jsonl"


def train(
    config: str | Config,
    train_annotations: str | Path,
    train_images: str | Path,
    output: str | Path,
    *,
    recipe: str | Recipe = "original",
    weights: str | Path | None = None,
    iterations: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    workers: int = 0,
    device: str | torch.device = "cpu",
    resume: bool = False,
    save_every: int = 200,
    log_every: int = 20,
    stop_after: int | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Train a configuration on a data set in COCO's format, from the data set's own categories.

    Args:
        config: a configuration or its name.
        train_annotations: the JSON file.
        train_images: the folder that its file names are relative to.
        output: the run's folder: state, weights and log are written into it.
        recipe: "original", "small" (for few pictures), or a `Recipe`.
        weights: a checkpoint to start from, whatever its classes; None: ImageNet weights of the backbone where a
            package carries them (EfficientNet-Lite0), else random.
        iterations, batch_size, learning_rate: instead of the recipe's. A batch size alone scales rate and length.
        seed: of the initial weights, the order of the pictures, the augmentation and the masks drawn.
        workers: processes that prepare samples; any number gives the same samples.
        resume: go on from the state in `output`, as if never stopped.
        save_every: iterations between two states.
        stop_after: stop, with a state to resume from, after this many iterations of this call.
        log: told one line at a time what happens.

    Returns:
        the weights' file, for `yolact.load`.

    Raises:
        UserError: a fault of the data set, the weights, the state to resume from or an argument.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    config = get_config(config) if isinstance(config, str) else config
    dataset = read_coco(train_annotations, train_images)
    if not dataset.pictures:
        raise UserError(f"{train_annotations}: names no picture")
    options = scale_to_batch(recipe.options or config.train, len(dataset), batch_size, iterations, learning_rate)
    config = replace(config.with_classes(dataset.class_names, dataset.category_ids), train=options)
    folder = Path(output)
    state_file = folder / STATE
    if state_file.exists() and not resume:
        raise UserError(f"{folder}: holds a run already; --resume goes on with it")
    if resume and not state_file.exists():
        raise UserError(f"{folder}: holds no run to resume")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from None

    torch.manual_seed(seed)
    freeze = recipe.freeze_batch_norm
    model = Yolact(config, freeze_batch_norm=options.batch_size < FREEZE_BELOW if freeze is None else freeze)
    if not resume:
        _initialise(model, weights, log)
    model = model.to(device, memory_format=torch.channels_last).train()
    freeze_first(model.backbone, recipe.frozen_layers)
    average = WeightAverage(model, recipe.ema_decay) if recipe.ema_decay else None
    optimizer = make_optimizer(model)
    # What must not change between a run and its continuation.
    identity = {"config": config.to_dict(), "recipe": repr(recipe), "seed": seed, "pictures": len(dataset)}
    start = 0
    if resume:
        start = _load_state(state_file, identity, model, average, optimizer)
        log(f"resuming at iteration {start}")
    stop = options.length if stop_after is None else min(start + stop_after, options.length)

    stream = SampleStream(dataset, config.size, recipe.augmentation, config.preprocessing.mean, seed)
    batch = options.batch_size
    loader = torch.utils.data.DataLoader(
        stream,
        batch_sampler=[range(i * batch, (i + 1) * batch) for i in range(start, stop)],
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.device(device).type == "cuda",
        generator=torch.Generator(),  # else the loader would draw from the generator that the masks are drawn with
    )
    log(
        f"{config.name}: {len(dataset)} pictures, {config.num_classes} classes, {options.length} iterations of {batch}, "
        f"rate {options.learning_rate:g}, batch norm {'frozen' if model.freeze_batch_norm else 'trained'}"
    )
    clock = time.monotonic()
    sums: dict[str, float] = {}
    for iteration, (images, targets) in enumerate(loader, start):
        rate = rate_at(iteration, options, recipe.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        terms = train_step(model, optimizer, normalise(images.to(device), config), [t.to(device) for t in targets])
        if average is not None:
            average.update(model)

        done = iteration + 1
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value
        if done % log_every == 0 or done == stop:
            count = (done - start) % log_every or log_every
            line = {"iteration": done, "rate": rate, "seconds": (time.monotonic() - clock) / count}
            line |= {name: total / count for name, total in sums.items()}
            log("  ".join(f"{name} {value:.4g}" for name, value in line.items()))
            with open(folder / LOG, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            clock, sums = time.monotonic(), {}
        if done % save_every == 0 or done == stop:
            _save_state(state_file, identity, done, model, average, optimizer)
            save_checkpoint(folder / WEIGHTS, model if average is None else average.model)
    return folder / WEIGHTS


def train_step(
    model: Yolact,
    optimizer: torch.optim.Optimizer,
    images: Tensor,  # [B, 3, S, S] preprocessed
    targets: Sequence[Targets],
) -> dict[str, float]:
    """One step downhill; the terms of the loss before it."""
    options = model.config.train
    terms = loss_terms(model, images, targets, options.max_masks)
    values = {name: float(term.detach()) for name, term in terms.items()}
    if not math.isfinite(sum(values.values())):
        raise UserError(f"the loss is no longer finite ({values}): a lower learning rate or a longer warm-up helps")
    optimizer.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    if options.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
    optimizer.step()
    return values


def make_optimizer(model: Yolact) -> torch.optim.Optimizer:
    """SGD over everything that is not frozen."""
    options = model.config.train
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(
        parameters, lr=options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
    )


def collate(samples: Sequence[Sample]) -> tuple[Tensor, list[Targets]]:
    """Images uint8 [B, S, S, 3] and one Targets a picture."""
    return torch.stack([torch.from_numpy(s.image) for s in samples]), [Targets.from_sample(s) for s in samples]


def normalise(
    images: Tensor,  # [B, S, S, 3] uint8, RGB
    config: Config,
) -> Tensor:  # [B, 3, S, S] float32, channels last in memory
    """The network's input from samples of its size."""
    preprocessing = config.preprocessing
    ready = preprocess(images, config.size, preprocessing.mean, preprocessing.std)
    return ready.contiguous(memory_format=torch.channels_last)


def freeze_first(backbone: nn.Module, count: int) -> None:
    """Take the first layers of a backbone (lists of blocks unrolled) out of training, batch norm included."""
    layers: list[nn.Module] = []
    for child in backbone.children():
        layers += child if isinstance(child, nn.ModuleList) else [child]
    for layer in layers[:count]:
        layer.eval().requires_grad_(False)


def _initialise(model: Yolact, weights: str | Path | None, log: Callable[[str], None]) -> None:
    if weights is not None:
        state, family = read_checkpoint(weights)
        report = load_into(model, state, family)
        log(f"starting from {weights}: {report}")
    elif isinstance(model.backbone, EfficientNetLite0):
        model.backbone.load_state_dict(imagenet_weights(), strict=False)
        log("starting from ImageNet weights of the backbone")
    else:
        log("starting from random weights: give --weights to start from a checkpoint")


def _save_state(
    path: Path,
    identity: dict[str, Any],
    iteration: int,
    model: Yolact,
    average: WeightAverage | None,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write all that a run continues from; the file appears whole or not at all."""
    state = {
        "identity": identity,
        "iteration": iteration,  # with the seed, the position in the stream of samples
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": None if average is None else average.model.state_dict(),
        "average_updates": 0 if average is None else average.updates,
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_file(path, buffer.getvalue())


def _load_state(
    path: Path,
    identity: dict[str, Any],
    model: Yolact,
    average: WeightAverage | None,
    optimizer: torch.optim.Optimizer,
) -> int:
    """Put a saved state back; the iteration to go on with."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["identity"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: is no state of a run ({error})") from None
    for name, value in identity.items():
        if saved.get(name) != value:
            raise UserError(f"{path}: was written with another {name}: {saved.get(name)}, now {value}")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if average is not None:
        average.model.load_state_dict(state["average"])
        average.updates = state["average_updates"]
    torch.set_rng_state(state["torch_rng"])
    if state["cuda_rng"]:
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return int(state["iteration"])
