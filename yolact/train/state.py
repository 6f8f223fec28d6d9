"""All that a training run is made of, kept in one file, so that a run goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yolact.errors import UserError
from yolact.models.checkpoint import read_checkpoint, save_checkpoint
from yolact.predictor import Model
from yolact.train.ema import WeightAverage


@dataclass(eq=False)
class RunState:
    """A run between two iterations.

    The learning rate follows from the iteration alone; the samples to come, and every random choice made for them, from
    the iteration and the seed. So no schedule, position or generator has a state of its own.
    """

    identity: dict[str, Any]  # what must not change between a run and its continuation
    model: Model
    average: WeightAverage | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    iteration: int = 0  # done so far
    unscored: bool = False  # the validation after this iteration is still to come
    best: float = -1.0  # the validation's highest mask AP so far

    @property
    def result(self) -> Model:
        """The network to predict with."""
        return self.model if self.average is None else self.average.model

    def save(self, path: Path) -> None:
        """Write a checkpoint that `yolact.load` reads too; the file appears whole or not at all."""
        training = {
            "identity": self.identity,
            "iteration": self.iteration,
            "unscored": self.unscored,
            # What was trained, where the file's own weights are the average.
            "model": None if self.average is None else self.model.state_dict(),
            "average_updates": None if self.average is None else self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
        }
        save_checkpoint(path, self.result, training=training)

    def resume(self, path: Path) -> None:
        """Put a saved state back.

        Raises:
            UserError: the file is no checkpoint of a run, or of a run that began otherwise.
        """
        checkpoint = read_checkpoint(path)
        saved = checkpoint.training
        if saved is None:
            raise UserError(f"{path}: holds weights but no state of a run to resume")
        differences = list(_differences(saved.get("identity"), self.identity))
        if differences:
            raise UserError(f"{path}: the run began otherwise: {'; '.join(differences)}")
        try:
            self.model.load_state_dict(checkpoint.state if self.average is None else saved["model"])
            if self.average is not None:
                self.average.model.load_state_dict(checkpoint.state)
                self.average.updates = saved["average_updates"]
            self.optimizer.load_state_dict(saved["optimizer"])
            if saved["scaler"]:  # none of a run in another precision
                self.scaler.load_state_dict(saved["scaler"])
            self.iteration, self.unscored, self.best = saved["iteration"], saved["unscored"], saved["best"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: its state of a run does not read ({error})") from error


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """The leaves that differ between two trees of dicts: "config.train.length: 2, now 4"."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name}: {before}, now {now}"
