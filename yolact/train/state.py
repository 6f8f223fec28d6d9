"""All that a training run is made of, kept in one file, so that a run goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yolact.errors import UserError
from yolact.models.checkpoint import read_checkpoint, save_checkpoint
from yolact.models.yolact import Yolact
from yolact.train.ema import WeightAverage


@dataclass(eq=False)
class RunState:
    """A run between two iterations. The samples to come follow from the iteration and the seed alone."""

    identity: dict[str, Any]  # what must not change between a run and its continuation
    model: Yolact
    average: WeightAverage | None
    optimizer: torch.optim.Optimizer
    iteration: int = 0  # done so far

    @property
    def result(self) -> Yolact:
        """The network to predict with."""
        return self.model if self.average is None else self.average.model

    def save(self, path: Path) -> None:
        """Write a checkpoint that `yolact.load` reads too; the file appears whole or not at all."""
        training = {
            "identity": self.identity,
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "average_updates": None if self.average is None else self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),  # draws the masks
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
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
        differences = list(_differences(saved["identity"], self.identity))
        if differences:
            raise UserError(f"{path}: the run began otherwise: {'; '.join(differences)}")
        self.model.load_state_dict(saved["model"])
        if self.average is not None:
            self.average.model.load_state_dict(checkpoint.state)
            self.average.updates = saved["average_updates"]
        self.optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(saved["cuda_rng"][: torch.cuda.device_count()])
        self.iteration = saved["iteration"]


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """The leaves that differ between two trees of dicts: "config.train.length: 2, now 4"."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name}: {before}, now {now}"
