"""The options that a configuration is made of, one class a part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal


def _are_positive(values: Sequence[float]) -> bool:
    """Finite, too."""
    return all(0 < value < math.inf for value in values)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input: resize to S x S, subtract `mean`, divide by `std`."""

    mean: tuple[float, float, float] = (123.68, 116.78, 103.94)  # RGB, 0..255
    std: tuple[float, float, float] = (58.40, 57.12, 57.38)  # RGB
    resize: Literal["float", "uint8"] = "float"  # "uint8": pixels are rounded after the resize, as cv2.resize does

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean must hold three finite numbers, got {self.mean}")
        if len(self.std) != 3 or not _are_positive(self.std):
            raise ValueError(f"std must hold three positive numbers, got {self.std}")
        if self.resize not in ("float", "uint8"):
            raise ValueError(f"resize must be 'float' or 'uint8', got {self.resize!r}")


@dataclass(frozen=True)
class AnchorOptions:
    """The priors: at every cell one for each scale within the level's octave and each aspect ratio."""

    scales: tuple[float, ...] = (24, 48, 96, 192, 384)  # pixels of the input, P3 to P7
    scales_per_octave: tuple[float, ...] = (1,)  # what a level's scale is multiplied by, in the order of the channels
    aspect_ratios: tuple[float, ...] = (1, 1 / 2, 2)  # width / height, in the order of the head's channels
    square: bool = False  # height := width, a slip of the original that its COCO weights were trained with

    def __post_init__(self) -> None:
        for name in ("scales", "scales_per_octave", "aspect_ratios"):
            values = getattr(self, name)
            if not values or not _are_positive(values):
                raise ValueError(f"{name} must hold positive numbers, got {values}")

    @property
    def per_cell(self) -> int:
        """Priors at a cell."""
        return len(self.scales_per_octave) * len(self.aspect_ratios)


@dataclass(frozen=True)
class DeformableOptions:
    """Which blocks of a ResNet have deformable convolutions, "with intervals" (YOLACT++, Bolya et al., 2019)."""

    layers: tuple[int, ...]  # for each of the four stages, how many of its last blocks may,
    interval: int = 1  # of these, only those whose number is a multiple of it

    def __post_init__(self) -> None:
        if len(self.layers) != 4 or not all(isinstance(count, int) and count >= 0 for count in self.layers):
            raise ValueError(f"layers must hold four whole numbers of at least 0, one a stage, got {self.layers}")
        if not isinstance(self.interval, int) or self.interval < 1:
            raise ValueError(f"interval must be a whole number of at least 1, got {self.interval!r}")

    def includes(self, stage: int, block: int, blocks: int) -> bool:
        """Whether a block is deformable: the first of a stage only where the whole stage is."""
        return block + self.layers[stage] >= blocks and block % self.interval == 0


@dataclass(frozen=True)
class FPNOptions:
    """The feature pyramid (section 3 of the paper), in the two topologies that weights exist for."""

    channels: int = 256
    p6_from: Literal["P5", "C5"] = "P5"  # the original / mmdetection
    relu: bool = True  # after the 3x3 convolutions of P3 to P5; mmdetection has none


@dataclass(frozen=True)
class DetectOptions:
    """The keyword options of `yolact.ops.detect`."""

    score_threshold: float = 0.05
    second_threshold: bool = False
    iou_threshold: float = 0.5
    top_k: int = 200
    max_detections: int | None = 100
    across_classes: bool = False
    method: Literal["fast", "greedy"] = "fast"
    variances: tuple[float, float] = (0.1, 0.2)
    max_log_size: float | None = None
    clip: bool = False
    union_eps: float = 0.0
    level_sizes: tuple[int, ...] | None = None
    pre_nms_top_k: int | None = None

    def kwargs(self) -> dict[str, Any]:
        """The options as keyword arguments of `yolact.ops.detect`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class TrainOptions:
    """The training recipe (section 6 of the paper) for one batch size; another scales rate and length."""

    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup_rate: float = 1e-4  # where the linear warm-up starts
    warmup_iterations: int = 500
    unit: Literal["iterations", "epochs"] = "iterations"  # of `length` and `steps`
    length: int = 800_000
    steps: tuple[int, ...] = (280_000, 600_000, 700_000, 750_000)  # the rate is multiplied by `gamma` at each
    gamma: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float | None = None  # of the gradient

    positive_iou: float = 0.5  # a prior of at least this IoU with a truth is positive,
    negative_iou: float = 0.4  # below this one background, between them neutral
    crowd_overlap: float | None = 0.7  # background covered more than this by a crowd is neutral; None: it stays
    negatives_per_positive: int = 3  # the hardest of a picture
    max_masks: int = 100  # positives drawn for the mask loss in a picture
    rescale_sampled_masks: bool = True  # scale the mask loss back to all positives; False: divide by those drawn
    min_truth_size: float = 4.0  # pixels of the input; truths of less width or height are dropped
    box_weight: float = 1.5
    classification_weight: float = 1.0
    mask_weight: float = 6.125
    semantic_weight: float = 1.0
    mask_iou_weight: float = 25.0  # where masks are scored again
    min_mask_iou_area: float = 25.0  # pixels of the prototypes; smaller truths teach nothing about the IoU of masks
