"""What passes between the stages: frozen, plain dataclasses of tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RawOutputs:
    """What the network computes, before any postprocessing (section 3 of the paper)."""

    box_deltas: Tensor  # [B, P, 4] centre offsets and log sizes, relative to the priors
    class_logits: Tensor  # [B, P, 1 + C], background first, before the softmax
    mask_coefficients: Tensor  # [B, P, K], after tanh
    priors: Tensor  # [P, 4] cx cy w h, fractions of the network's input
    prototypes: Tensor  # [B, h, w, K], after ReLU


@dataclass(frozen=True, eq=False)
class Selection:
    """What NMS keeps, by falling score; rows past `count` hold index and label -1, score 0."""

    index: Tensor  # [B, D] int64, which box
    label: Tensor  # [B, D] int64, 0-based foreground class
    score: Tensor  # [B, D] float32
    count: Tensor  # [B] int64, valid rows


@dataclass(frozen=True, eq=False)
class Detections:
    """Decoded detections by falling score; rows past `count` hold label and prior -1, score and box 0."""

    boxes: Tensor  # [B, D, 4] float32 xyxy, fractions of the network's input
    label: Tensor  # [B, D] int64, 0-based foreground class
    score: Tensor  # [B, D] float32
    prior: Tensor  # [B, D] int64, which prior: gathers the mask coefficients
    count: Tensor  # [B] int64, valid rows


@dataclass(frozen=True, eq=False)
class Rows:
    """What the instances of a batch are made of, in shapes that do not depend on what the pictures show."""

    count: Tensor  # [B] int64, rows that are instances: they come first
    labels: Tensor  # [B, D] int64
    scores: Tensor  # [B, D] float32, falling: those that count
    box_scores: Tensor | None  # [B, D] float32, and
    mask_scores: Tensor | None  # [B, D] float32, where masks are scored by themselves
    boxes: Tensor  # [B, D, 4] float32 xyxy, pixels inside the picture
    relative_boxes: Tensor  # [B, D, 4] float32 xyxy, fractions of the picture
    coefficients: Tensor  # [B, D, K] float32
    prototypes: Tensor  # [B, h, w, K] float32


for _structure in (RawOutputs, Selection, Detections):
    torch.export.register_dataclass(_structure, serialized_type_name=f"yolact.{_structure.__name__}")
