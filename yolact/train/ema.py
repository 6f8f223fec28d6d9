"""An exponential average of a network's weights."""

from __future__ import annotations

import copy

import torch

from yolact.models.yolact import Yolact


class WeightAverage:
    """A copy of a network whose weights follow the trained ones slowly, and which predicts better than they do.

    Args:
        model: the network trained.
        decay: how much of the average stays at an update; less in the first ones, or the start would weigh too much.
    """

    def __init__(self, model: Yolact, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: Yolact) -> None:
        """Move towards the trained network; counters and the like are copied."""
        self.updates += 1
        weight = 1 - min(self.decay, self.updates / (self.updates + 10))
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, weight)
            else:
                mine.copy_(theirs)
