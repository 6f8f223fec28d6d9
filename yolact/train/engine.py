"""The training loop: everything that a run does, in the order it happens."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from yolact.config import Config, get_config
from yolact.data.faults import OnFault
from yolact.data.samples import SampleStream
from yolact.devices import find_device
from yolact.distributed import (
    failing_together,
    gather_from_processes,
    is_main,
    max_over_processes,
    process_group,
    raise_together,
    sum_over_processes,
)
from yolact.errors import UserError
from yolact.models.checkpoint import save_checkpoint
from yolact.pictures import make_folder
from yolact.signals import kept_signals
from yolact.train.assignment import Totals
from yolact.train.batches import Batch, Batches, load
from yolact.train.build import build, check_machine, part_of_batch, read_dataset, told_scaling
from yolact.train.log import RunLog, cut_log, draw_curves
from yolact.train.recipe import Recipe, check_positive, get_recipe, rate_at, scale_to_batch
from yolact.train.report import FiniteGuard
from yolact.train.step import Precision
from yolact.train.validation import Validation

# In the run's folder, beside the log:
CHECKPOINT = "checkpoint.pth"  # the newest state, all that resuming needs; yolact.load reads it as well
WEIGHTS = "weights.pth"  # the result, in half precision and without the state


@torch.random.fork_rng(devices=[])  # the caller's generator stays as it was
def train(
    config: str | Config,
    train_annotations: str | Path,
    train_images: str | Path,
    output: str | Path,
    *,
    val_annotations: str | Path | None = None,
    val_images: str | Path | None = None,
    recipe: str | Recipe = "original",
    weights: str | Path | None = None,
    classes: Sequence[str] = (),
    class_agnostic: bool = False,
    on_fault: OnFault = "stop",
    iterations: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    clip_norm: float | None = None,
    ema_decay: float | None = None,
    seed: int = 0,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    channels_last: bool = True,
    compiled: bool = False,
    accumulate: int = 1,
    resume: bool = False,
    stop_after: int | None = None,
    save_every: int = 200,
    eval_every: int | None = None,
    log_every: int = 20,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Train a configuration, with the classes of a data set in COCO's format.

    Under torchrun the processes share each batch and end with the weights that one process would have: the losses are
    divided by counts over all of them. Batch norm that is trained takes its statistics over all GPUs; on CPUs, where
    torch cannot, each process has its own.

    Args:
        config: a configuration or its name.
        train_annotations: the JSON file.
        train_images: the folder that its file names are relative to.
        output: the run's folder: checkpoint, weights, log and curves are written into it.
        val_annotations, val_images: scored from time to time; the weights of the best mask AP are kept as best.pth.
        recipe: "original", "small" (for few pictures), or a `Recipe`.
        weights: a file to start from, of a whole model whatever its classes, or of a backbone alone; "pretrained":
            timm's weights of its own; None: ImageNet weights of the backbone where a package carries them
            (EfficientNet-Lite0), else random ones.
        classes: names or ids of those to learn, the others' objects left out; all when empty.
        class_agnostic: learn all objects as ones of a single class, "object".
        on_fault: "stop" at a fault of an annotation or a picture, or "skip" it: leave it out, and say so.
        iterations, batch_size, learning_rate: instead of the recipe's. A batch size, over all processes, scales rate
            and length by itself.
        clip_norm, ema_decay: instead of the recipe's: of the gradient, and of the averaged weights.
        seed: of the initial weights, the order of the pictures, the augmentation and the masks drawn.
        workers: processes that prepare samples, for each process that trains; any number gives the same samples.
        precision: "fp32", "bf16", or "fp16" (GPUs only) with a loss that is scaled.
        channels_last: the layout of the network's tensors, in which GPUs and CPUs convolve faster.
        compiled: compile the network by torch.compile.
        accumulate: parts that a process takes its share of the batch in, one after the other, to need less memory.
        resume: go on from the checkpoint in `output`, if there is one, to the same end as if never stopped.
        stop_after: leave off after this many iterations of this call, with a checkpoint.
        save_every: iterations between two checkpoints.
        eval_every: iterations between two validations; None: a twentieth of the run.
        log_every: iterations between two lines of the log; a validation has one before it.
        log: told one line at a time what happens; None: a progress bar on a terminal, lines elsewhere.

    Returns:
        The file of the weights, or of the checkpoint when the run is not at its end; `yolact.load` reads both.

    Raises:
        UserError: a fault of the data set, the weights, the checkpoint or an argument, or a loss that is not finite.
        KeyboardInterrupt, SystemExit: after SIGINT or SIGTERM, with a checkpoint.
    """
    folder = Path(output)
    with process_group(find_device(device)) as device, kept_signals() as signals, ExitStack() as stack:
        with failing_together():
            check_machine(precision, device)
            check_positive(clip_norm=clip_norm, ema_decay=ema_decay, accumulate=accumulate, stop_after=stop_after)
            check_positive(save_every=save_every, eval_every=eval_every, log_every=log_every)
            if (val_annotations is None) != (val_images is None):
                raise UserError("val_annotations and val_images go together")
            recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
            recipe = recipe if ema_decay is None else replace(recipe, ema_decay=ema_decay)
            config = get_config(config) if isinstance(config, str) else config
            dataset = read_dataset(train_annotations, train_images, on_fault, classes, class_agnostic)
            validation = None
            if val_annotations is not None and val_images is not None:
                validation = Validation(val_annotations, val_images, classes, class_agnostic)
                validation.check(dataset.category_ids)
            own = replace(config.train, **recipe.changes)
            options = scale_to_batch(own, len(dataset), batch_size, iterations, learning_rate)
            options = options if clip_norm is None else replace(options, clip_norm=clip_norm)
            config = replace(config.with_classes(dataset.class_names, dataset.category_ids), train=options)
            at_once = part_of_batch(options.batch_size, accumulate)
            if (folder / CHECKPOINT).exists() and not resume:
                raise UserError(f"{folder}: holds a run already; resume it, or choose another folder")
            state, step, lines = build(
                config,
                recipe,
                dataset,
                weights,
                seed=seed,
                device=device,
                at_once=at_once,
                precision=precision,
                channels_last=channels_last,
                compiled=compiled,
                checkpoint=folder / CHECKPOINT,
            )
            stack.callback(step.close)
            if options != own:
                lines.append(told_scaling(recipe, own, options))
            if is_main():
                make_folder(folder)
                cut_log(folder, state.iteration, state.unscored)
                for part in folder.glob(".*.part"):  # what a killed run was about to write
                    part.unlink()
            stop = options.length if stop_after is None else min(state.iteration + stop_after, options.length)
            journal = RunLog(folder, state.iteration, stop, options.batch_size, step.terms, log)
        if len(set(gather_from_processes(state.iteration))) > 1:
            raise_together(UserError(f"{folder}: not every process finds the same run there; put it on a shared disk"))
        eval_every = eval_every or max(options.length // 20, 1)
        stream = SampleStream(
            dataset, config.size, recipe.augmentation, config.preprocessing.mean, seed, options.min_truth_size, on_fault
        )
        loading = load(
            Batches(stream, config, state.model.priors.cpu(), at_once),
            state.iteration,
            stop,
            accumulate=accumulate,
            workers=workers,
            pin_memory=device.type == "cuda",
        )
        guard = FiniteGuard(folder, stream, config, recipe.schedule, step.scaler)

        def asked() -> int:
            """The signal that any of the processes was sent, else 0."""
            return max_over_processes(max(signals, default=0))

        def settle(*, save: bool) -> None:
            """After an iteration: the validation that is due, the checkpoint, the end where a signal asks for it."""
            scores = None
            if validation is not None and state.unscored and not asked():
                scores = validation.score(state, folder, at_once, lambda: not asked())
                state.unscored = scores is None
            caught = asked()
            with failing_together():
                if scores:
                    journal.score(state.iteration, scores)
                if (save or caught) and is_main():
                    state.save(folder / CHECKPOINT)
                if (scores or state.iteration == stop) and is_main():
                    draw_curves(folder)
            if caught:
                journal.say(f"{signal.Signals(caught).name}: saved after iteration {state.iteration}; resume it")
                raise KeyboardInterrupt if caught == signal.SIGINT else SystemExit(128 + caught)

        with closing(journal), closing(loading) as batches:
            for line in lines:
                journal.say(line)
            state.unscored = validation is not None and state.unscored
            if state.unscored:  # the run was stopped before it
                settle(save=True)
            for group in journal.timed(batches):
                parts, totals = _agreed(group)
                rate = rate_at(state.iteration, options, recipe.schedule)
                journal.add(step(parts, totals, rate))
                for line in chain.from_iterable(batch.unreadable for batch in parts):
                    journal.say_once(f"another picture stands for {line}")
                if state.average is not None:
                    state.average.update(state.model)
                state.iteration += 1

                done = state.iteration == stop
                state.unscored = validation is not None and (done or state.iteration % eval_every == 0)
                due = asked() or done or state.unscored
                tell, save = (due or state.iteration % every == 0 for every in (log_every, save_every))
                if tell or save:
                    with failing_together():
                        guard.check(journal.read(), state.iteration)
                        if tell:
                            journal.tell(state.iteration, rate)
                    settle(save=bool(save))
        if stop < options.length:
            return folder / CHECKPOINT
        with failing_together():
            if is_main():
                save_checkpoint(folder / WEIGHTS, state.result, half=True)
        return folder / WEIGHTS


def _agreed(group: Sequence[Batch | UserError]) -> tuple[list[Batch], Totals]:
    """The batches of this process, and what the losses are divided by, counted over those of all processes.

    Raises:
        UserError: a picture of one of them does not read.
    """
    faults = [batch for batch in group if isinstance(batch, UserError)]
    batches = [batch for batch in group if isinstance(batch, Batch)]
    counts = [sum(column) for column in zip(Totals(0, 0, 0, 0), *(b.assignment.totals for b in batches), strict=True)]
    *totals, faulty = sum_over_processes(torch.tensor([*counts, len(faults)], dtype=torch.float64)).tolist()
    if faulty:
        raise_together(next(iter(faults), None))
    return batches, Totals(*totals)
