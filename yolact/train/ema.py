"""An exponential average of a network's weights."""

from __future__ import annotations

import copy

import torch

from yolact.predictor import Model


class WeightAverage:
    """A copy of a network whose weights follow the trained ones slowly, and which predicts better than they do.

    Args:
        model: the network trained.
        decay: how much of the average stays at an update; less in the first ones, or the start would weigh too much.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: Model) -> None:
        """Move towards the trained network; counters and the like are copied."""
        self.updates += 1
        weight = 1 - min(self.decay, self.updates / (self.updates + 10))
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in averaged], [theirs for _, theirs in averaged], weight)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)
