"""What the losses of a batch are taken against: which prior answers for which truth, and with what.

All of it follows from the truths alone. The processes that load pictures work it out beside the network, so the
training loop gets small tensors of known sizes: it knows the number of positives before the network has run, and never
waits for a GPU to tell it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from yolact.config import Config
from yolact.train.matching import BACKGROUND, encode, match
from yolact.train.targets import Targets

# A picture without truths has no positives to mine three negatives for each of; this many teach background instead,
# about as many as one truth brings.
EMPTY_PICTURE_NEGATIVES = 64


class Totals(NamedTuple):
    """What the losses are divided by: counts over all pictures of a step, on every process."""

    positives: float
    negatives: float
    masks: float  # positives drawn for the mask loss
    pictures: float


@dataclass(frozen=True, eq=False)
class Assignment:
    """The answers wanted from a batch. A row counts through the batch: prior p of picture b is row b * P + p."""

    positive: Tensor  # [M] int64, the rows that answer for a truth
    classes: Tensor  # [M] int64, the class of each, 1-based
    deltas: Tensor  # [M, 4] float32, its box deltas
    background: Tensor  # [B, P] bool; priors that are neither positive nor background are neutral
    negatives: Tensor  # [B] int64, so many of a picture's background priors teach, the hardest
    drawn: Tensor  # [D] int64, rows of the positives drawn for the mask loss
    picture: Tensor  # [D] int64, the picture that each is of, rising
    truth: Tensor  # [D] int64, the row of `boxes` and `masks` that each answers for
    weight: Tensor  # [D] float32, how many positives each stands for
    boxes: Tensor  # [T, 4] float32, xyxy, fractions
    masks: Tensor  # [T, h, w] bool, at the prototypes' size
    channel: Tensor  # [T] int64, picture * C + label: the channel of the semantic logits
    semantic: Tensor  # [T, h / 2, w / 2] bool, the masks at P3's size
    rescored: Tensor  # [R] int64, which of `drawn` have a truth large enough to teach the IoU of masks
    rescored_counts: tuple[int, ...]  # [B] how many of them each picture has
    most_negatives: int  # of `negatives`, the largest

    @property
    def totals(self) -> Totals:
        """Of this batch alone."""
        return Totals(len(self.positive), int(self.negatives.sum()), len(self.drawn), len(self.background))

    def to(self, device: torch.device | str) -> Assignment:
        """The same on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Assignment:
        """The same in memory that a GPU copies from while the processor goes on; for torch's DataLoader."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Assignment:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changes: dict[str, Any] = {n: function(value) for n, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **changes)


def assign(
    targets: Sequence[Targets],
    priors: Tensor,  # [P, 4] cx cy w h, fractions
    config: Config,
    max_masks: int | None,
    generators: Sequence[torch.Generator] | None = None,
) -> Assignment:
    """Match the truths of a batch with the priors (section 6 of the paper), on the CPU.

    Args:
        targets: one a picture.
        config: tells thresholds, sizes and variances.
        max_masks: positives drawn at random for the mask loss in a picture; None: all of them.
        generators: one a picture, to draw with; None: torch's own.
    """
    options = config.train
    p3 = config.feature_sizes[0]
    parts: list[tuple[Tensor, ...]] = []
    truths = 0
    for b, target in enumerate(targets):
        boxes, labels, masks = (x[~target.crowd] for x in (target.boxes, target.labels, target.masks))
        matched = match(priors, boxes, target.boxes[target.crowd], options)  # [P]
        prior = (matched >= 0).nonzero()[:, 0]
        truth = matched[prior]
        count = len(prior)
        drawn = torch.arange(count)
        if max_masks is not None and count > max_masks:
            generator = generators[b] if generators is not None else None
            drawn = torch.randperm(count, generator=generator)[:max_masks]
        stands_for = count / max(len(drawn), 1) if options.rescale_sampled_masks else 1.0
        background = matched == BACKGROUND
        quota = options.negatives_per_positive * count if count else EMPTY_PICTURE_NEGATIVES
        parts.append(
            (
                prior + b * len(priors),
                labels[truth] + 1,
                encode(boxes[truth], priors[prior], config.detect.variances),
                background[None],
                background.sum().clamp(max=quota)[None],
                prior[drawn] + b * len(priors),
                torch.full((len(drawn),), b),
                truth[drawn] + truths,
                torch.full((len(drawn),), stands_for),
                boxes,
                shrink_masks(masks, (2 * p3, 2 * p3)),
                labels + b * config.num_classes,
                shrink_masks(masks, (p3, p3)),
            )
        )
        truths += len(boxes)
    joined: list[Any] = [torch.cat(column) for column in zip(*parts, strict=True)]
    negatives, picture, truth, masks = joined[4], joined[6], joined[7], joined[10]
    rescored = (masks.sum((1, 2)) > options.min_mask_iou_area)[truth].nonzero()[:, 0]
    counts = picture[rescored].bincount(minlength=len(targets))
    joined += [rescored, tuple(counts.tolist()), int(negatives.max())]
    return Assignment(*joined)


def shrink_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:  # [n, S, S] bool -> [n, h, w] bool
    """Masks at another size: bilinear, then more than half. OpenCV does it on bytes, in a fifth of torch's time."""
    shrunk = np.empty((len(masks), *size), np.uint8)
    for row, pixels in enumerate(masks.numpy().view(np.uint8)):
        shrunk[row] = cv2.resize(pixels * np.uint8(254), size[::-1], interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(shrunk > 127)
