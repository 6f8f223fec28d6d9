"""The training loop: everything that a run does, in the order it happens."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor, nn

from yolact.config import Config, get_config
from yolact.data.coco import read_coco
from yolact.data.samples import SampleStream
from yolact.errors import UserError
from yolact.files import replacing
from yolact.models.checkpoint import save_checkpoint
from yolact.models.darknet import DarkNet53
from yolact.models.efficientnet_lite import EfficientNetLite0
from yolact.models.resnet import ResNet
from yolact.models.start import start_from
from yolact.models.yolact import Yolact
from yolact.ops import preprocess
from yolact.pictures import make_folder
from yolact.train.ema import WeightAverage
from yolact.train.losses import loss_terms
from yolact.train.recipe import FREEZE_BELOW, Recipe, get_recipe, rate_at, scale_to_batch
from yolact.train.state import RunState
from yolact.train.targets import Targets

# In the run's folder:
CHECKPOINT = "checkpoint.pth"  # the newest state, all that resuming needs; yolact.load reads it as well
WEIGHTS = "weights.pth"  # the result, in half precision and without the state
LOG = "log.jsonl"  # the means of the loss terms

say = partial(print, flush=True)


@torch.random.fork_rng()  # the caller's generators stay as they were
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
    stop_after: int | None = None,
    save_every: int = 200,
    log_every: int = 20,
    log: Callable[[str], None] = say,
) -> Path:
    """Train a configuration, with the classes of a data set in COCO's format.

    Args:
        config: a configuration or its name.
        train_annotations: the JSON file.
        train_images: the folder that its file names are relative to.
        output: the run's folder: checkpoint, weights and log are written into it.
        recipe: "original", "small" (for few pictures), or a `Recipe`.
        weights: a file to start from, of a whole model whatever its classes, or of a backbone alone; None: ImageNet
            weights of the backbone where a package carries them (EfficientNet-Lite0), else random ones.
        iterations, batch_size, learning_rate: instead of the recipe's. A batch size alone scales rate and length.
        seed: of the initial weights, the order of the pictures, the augmentation and the masks drawn.
        workers: processes that prepare samples; any number gives the same samples.
        resume: go on from the checkpoint in `output`, to the same end as if never stopped.
        stop_after: leave off after this many iterations of this call, with a checkpoint.
        save_every: iterations between two checkpoints.
        log_every: iterations between two lines of the log.
        log: told one line at a time what happens.

    Returns:
        The file of the weights, or of the checkpoint when the run is not at its end; `yolact.load` reads both.

    Raises:
        UserError: a fault of the data set, the weights, the checkpoint or an argument, or a loss that is not finite.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    config = get_config(config) if isinstance(config, str) else config
    dataset = read_coco(train_annotations, train_images)
    if not dataset.pictures:
        raise UserError(f"{train_annotations}: names no picture")
    options = replace(config.train, **recipe.changes)
    options = scale_to_batch(options, len(dataset), batch_size, iterations, learning_rate)
    config = replace(config.with_classes(dataset.class_names, dataset.category_ids), train=options)
    folder = Path(output)
    if (folder / CHECKPOINT).exists() and not resume:
        raise UserError(f"{folder}: holds a run already; resume it, or choose another folder")
    if not resume:
        make_folder(folder)

    torch.manual_seed(seed)
    pretrained = weights is not None or config.backbone == "efficientnet_lite0"
    freeze = options.batch_size < FREEZE_BELOW if recipe.freeze_batch_norm is None else recipe.freeze_batch_norm
    model = Yolact(config, freeze_batch_norm=pretrained and freeze)
    if not resume:
        log(start_from(model, weights))
    model.to(device).train()
    frozen = pretrained and recipe.freeze_to_c4
    if frozen:
        freeze_to_c4(model.backbone)
    average = WeightAverage(model, recipe.ema_decay) if recipe.ema_decay else None
    identity = {
        "config": config.to_dict(),
        "recipe": asdict(recipe),
        "seed": seed,
        "pictures": len(dataset),
        "pretrained": pretrained,
    }
    state = RunState(identity, model, average, make_optimizer(model))
    if resume:
        state.resume(folder / CHECKPOINT)
        _cut_log(folder / LOG, state.iteration)
        log(f"going on from iteration {state.iteration}")
    stop = options.length if stop_after is None else min(state.iteration + stop_after, options.length)

    log(
        f"{config.name}: {len(dataset)} pictures, {config.num_classes} classes, "
        f"{options.length} iterations of {options.batch_size}, rate {options.learning_rate:g}, "
        f"batch norm {'frozen' if model.freeze_batch_norm else 'trained'}, "
        f"backbone {'frozen up to C4' if frozen else 'trained'}"
    )
    stream = SampleStream(
        dataset, config.size, recipe.augmentation, config.preprocessing.mean, seed, options.min_truth_size
    )
    means = _Means(folder / LOG, log)
    for images, targets in _load(_Batches(stream, options.batch_size), state.iteration, stop, workers):
        rate = rate_at(state.iteration, options, recipe.schedule)
        images = preprocess(images.to(device), config.size, config.preprocessing.mean, config.preprocessing.std)
        means.add(train_step(model, state.optimizer, rate, images, [t.to(device) for t in targets]))
        if average is not None:
            average.update(model)
        state.iteration += 1
        if state.iteration % log_every == 0 or state.iteration == stop:
            means.tell(state.iteration, rate)
        if state.iteration % save_every == 0 or state.iteration == stop:
            state.save(folder / CHECKPOINT)
    if stop < options.length:
        return folder / CHECKPOINT
    save_checkpoint(folder / WEIGHTS, state.result, half=True)
    return folder / WEIGHTS


def train_step(
    model: Yolact,
    optimizer: torch.optim.Optimizer,
    rate: float,
    images: Tensor,  # [B, 3, S, S] preprocessed
    targets: Sequence[Targets],
) -> dict[str, float]:
    """One step downhill; the terms of the loss before it.

    Raises:
        UserError: the loss is not finite.
    """
    options = model.config.train
    terms = loss_terms(model, images, targets, options.max_masks)
    stacked = torch.stack(list(terms.values()))
    values = dict(zip(terms, stacked.tolist(), strict=True))
    if not math.isfinite(sum(values.values())):
        raise UserError(f"the loss is not finite any more ({values}): try a lower learning rate")
    optimizer.zero_grad()
    stacked.sum().backward()
    if options.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return values


def make_optimizer(model: Yolact) -> torch.optim.Optimizer:
    """SGD with momentum and weight decay over everything that is not frozen."""
    options = model.config.train
    return torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        lr=options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    )


def freeze_to_c4(backbone: ResNet | DarkNet53 | EfficientNetLite0) -> None:
    """Take the layers of a backbone up to C4 (lists of blocks unrolled) out of training, batch norm included."""
    layers: list[nn.Module] = []
    for child in backbone.children():
        layers += child if isinstance(child, nn.ModuleList) else [child]
    for layer in layers[: backbone.layers_to_c4]:
        layer.eval().requires_grad_(False)


class _Means:
    """Means of the loss terms and of the seconds since the last line of the log."""

    def __init__(self, path: Path, log: Callable[[str], None]) -> None:
        self.path, self.log = path, log
        self._restart()

    def _restart(self) -> None:
        self.sums: Counter[str] = Counter()
        self.count = 0
        self.clock = time.monotonic()

    def add(self, terms: Mapping[str, float]) -> None:
        self.sums.update(terms)
        self.count += 1

    def tell(self, iteration: int, rate: float) -> None:
        """Write a line of the log, for people and as JSON."""
        line = {"iteration": iteration, "rate": rate, "seconds": (time.monotonic() - self.clock) / self.count}
        line |= {name: total / self.count for name, total in self.sums.items()}
        self.log("  ".join(f"{name} {value:.4g}" for name, value in line.items()))
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error
        self._restart()


def _cut_log(path: Path, iteration: int) -> None:
    """Take out of the log what a run told after its last checkpoint: it will tell that again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        lines = [line for line in lines if line.endswith("\n")]  # a full disk cuts the last one short
        with replacing(path) as file:
            file.write("".join(takewhile(lambda line: json.loads(line)["iteration"] <= iteration, lines)).encode())


@dataclass(frozen=True)
class _Batches(torch.utils.data.Dataset[tuple[Tensor, list[Targets]] | UserError]):
    """The batch of each iteration: images uint8 [B, S, S, 3], and one Targets a picture."""

    stream: SampleStream
    batch_size: int

    def __getitem__(self, iteration: int) -> tuple[Tensor, list[Targets]] | UserError:
        positions = range(iteration * self.batch_size, (iteration + 1) * self.batch_size)
        try:
            samples = [self.stream[position] for position in positions]
        except UserError as error:
            return error  # raised in a worker, it would come out with the worker's traceback for a message
        return torch.stack([torch.from_numpy(s.image) for s in samples]), [Targets.from_sample(s) for s in samples]


def _load(batches: _Batches, start: int, stop: int, workers: int) -> Iterator[tuple[Tensor, list[Targets]]]:
    """The batches of iterations `start` to `stop`."""
    loader = torch.utils.data.DataLoader(
        batches,
        batch_size=None,  # they are batches already
        sampler=range(start, stop),
        num_workers=workers,
        generator=torch.Generator(),  # or the loader would draw from the generator that also draws the masks
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch
