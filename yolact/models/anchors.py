"""The priors that box deltas refer to."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from yolact.config import Config


def make_priors(
    config: Config,
) -> Tensor:  # [P, 4] float32 cx cy w h, fractions of the input
    """The priors of a configuration, P3 to P7, cell by cell along rows, in a cell scale by scale, one an aspect ratio.

    Computed in double precision and rounded once, as the original does.
    """
    levels = []
    for side, scale in zip(config.feature_sizes, config.anchors.scales, strict=True):
        centres = (torch.arange(side, dtype=torch.float64) + 0.5) / side
        cy, cx = torch.meshgrid(centres, centres, indexing="ij")
        shapes = []
        for factor, ratio in product(config.anchors.scales_per_octave, config.anchors.aspect_ratios):
            width = scale * factor * math.sqrt(ratio) / config.size
            height = width if config.anchors.square else scale * factor / math.sqrt(ratio) / config.size
            shapes.append((width, height))
        cells = torch.stack((cx, cy), dim=-1).reshape(-1, 1, 2).expand(-1, len(shapes), -1)  # [side * side, A, 2]
        sizes = torch.tensor(shapes, dtype=torch.float64).expand(side * side, -1, -1)  # [side * side, A, 2]
        levels.append(torch.cat((cells, sizes), dim=-1).reshape(-1, 4))
    return torch.cat(levels).float()
