"""What a picture should have been answered with."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from yolact.config import Config
from yolact.data.render import Sample
from yolact.ops._checks import check_tensor

ROUNDING = 1e-3  # of a box that ends at the border; half a pixel, or less


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

    def check(self, name: str, config: Config) -> None:
        """Raise TypeError or ValueError, naming the field, for what is no truth; it looks at values, on the CPU."""
        check_tensor(self.boxes, f"{name}.boxes", (None, 4), (torch.float32,))
        count = len(self.boxes)
        check_tensor(self.labels, f"{name}.labels", (count,), (torch.int64,))
        check_tensor(self.masks, f"{name}.masks", (count, config.size, config.size), (torch.bool,))
        check_tensor(self.crowd, f"{name}.crowd", (count,), (torch.bool,))
        inside = ((self.boxes >= -ROUNDING) & (self.boxes <= 1 + ROUNDING)).all(1)
        for box in self.boxes[~(inside & (self.boxes[:, :2] < self.boxes[:, 2:]).all(1))].tolist():  # NaN too
            raise ValueError(f"{name}.boxes must be xyxy in fractions of the input, x1 < x2 and y1 < y2, got {box}")
        learnt = self.labels[~self.crowd]
        for label in learnt[(learnt < 0) | (learnt >= config.num_classes)].tolist():
            raise ValueError(f"{name}.labels must be from 0 to {config.num_classes - 1}, got {label}")
