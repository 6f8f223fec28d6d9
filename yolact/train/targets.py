"""What a picture should have been answered with."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from yolact.data.render import Sample


@dataclass(frozen=True, eq=False)
class Targets:
    """The truths of one picture."""

    boxes: Tensor  # [n, 4] float32, xyxy, fractions of the network's input
    labels: Tensor  # [n] int64, 0-based
    masks: Tensor  # [n, S, S] bool
    crowd: Tensor  # [n] bool: groups that are neither learnt nor held against the network

    @classmethod
    def from_sample(cls, sample: Sample) -> Targets:
        """The truths of an augmented sample."""
        height, width = sample.image.shape[:2]
        return cls(
            torch.from_numpy(sample.boxes / np.array((width, height, width, height), np.float32)),
            torch.from_numpy(sample.labels),
            torch.from_numpy(sample.masks),
            torch.from_numpy(sample.crowd),
        )

    def to(self, device: torch.device | str) -> Targets:
        """The same truths on another device."""
        return Targets(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))
