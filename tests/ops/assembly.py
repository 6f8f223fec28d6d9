"""Random and adversarial inputs of mask assembly, shared by the tests of both operators."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from conftest import shared_path
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Case:
    """The arguments of one call."""

    prototypes: Tensor
    coefficients: Tensor
    boxes: Tensor
    size: tuple[int, int]
    options: dict[str, Any]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.prototypes, self.coefficients, self.boxes


def random_case(seed: int) -> Case:
    """One call with everything drawn: sizes up and down, options, types, strides, odd boxes, maps full of ties."""
    draw = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    batch, detections = draw.choice([1, 1, 2, 3]), draw.choice([0, 1, 2, 5])
    channels = draw.choice([1, 3, 16, 17, 32, 33, 64])
    height, width = draw.choice([1, 2, 5, 9, 17, 40, 70, 138]), draw.choice([1, 2, 5, 9, 16, 17, 40, 70])
    size = (draw.choice([1, 2, 3, 7, 33, 64, 65, 150, 200]), draw.choice([1, 2, 7, 8, 9, 33, 64, 150]))

    prototypes = torch.randn(batch, height, width, channels, generator=generator).relu()
    coefficients = torch.randn(batch, detections, channels, generator=generator) * draw.choice([0.1, 0.6, 2.0])
    coefficients = coefficients / math.sqrt(channels)  # logits of moderate size, told to 1e-5
    threshold = draw.choice([0.5, 0.5, 0.0, 0.3, -0.2, 0.7, 1.0])
    content = draw.choice(["smooth", "constant", "steps"])
    if content == "constant":
        prototypes[:] = prototypes[0, 0, 0].clone()
        if detections:  # the very value of a mask
            threshold = (prototypes[0, 0, 0] * coefficients[0, 0]).sum().item()
    elif content == "steps":  # whole numbers: blends fall on the threshold exactly
        prototypes = (prototypes > 0.5).float()
        coefficients = torch.randint(-1, 2, coefficients.shape, generator=generator).float()
        threshold = draw.choice([0.0, 0.5, 1.0])

    unit = draw.choice(["relative", "output", "prototype"])
    extent = {"relative": (1, 1), "output": (size[1], size[0]), "prototype": (width, height)}[unit]
    boxes = torch.rand(batch, detections, 4, generator=generator) * 1.4 - 0.2  # reversed and outside as well
    if draw.random() < 0.2:
        boxes = (boxes * 8).round() / 8
    boxes = boxes * torch.tensor([*extent, *extent])
    if detections and draw.random() < 0.2:
        boxes[0, 0, draw.randrange(4)] = draw.choice([math.nan, math.inf, -math.inf, 1e30, -1e30])

    source_region = None
    if draw.random() < 0.35:
        far = ((width // 2, width + 2), (height // 2, height + 2))
        corners = [[draw.randint(*span) for span in ((-2, width // 2), (-2, height // 2), *far)] for _ in range(batch)]
        source_region = torch.tensor(corners, dtype=draw.choice([torch.int64, torch.float32]))
    count = torch.tensor([draw.randint(0, detections) for _ in range(batch)]) if draw.random() < 0.3 else None

    layout = draw.choice(["hwk", "khw"])
    if layout == "khw":
        prototypes = prototypes.permute(0, 3, 1, 2).contiguous()
    strides = draw.choice(["contiguous", "contiguous", "swapped", "sliced"])
    if strides == "swapped":
        prototypes = prototypes.transpose(1, 2).contiguous().transpose(1, 2)
    elif strides == "sliced":
        prototypes = torch.cat([prototypes, prototypes], -1)[..., : prototypes.shape[-1]]
    dtype = draw.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
    options = {
        "count": count,
        "layout": layout,
        "box_unit": unit,
        "activation": draw.choice(["sigmoid", "none"]),
        "threshold": threshold,
        "crop": draw.choice(["before", "after", "none"]),
        "padding": draw.choice([0.0, 0.5, 1.0, 3.0]),
        "source_region": source_region,
    }
    return Case(prototypes.to(dtype), coefficients.to(draw.choice([dtype, torch.float32])), boxes, size, options)


def simple_case(batch: int = 1, detections: int = 3) -> Case:
    """A small call with the options of YOLACT."""
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randn(batch, 12, 15, 8, generator=generator).relu()
    coefficients = torch.randn(batch, detections, 8, generator=generator).tanh()
    corners = torch.rand(batch, detections, 2, generator=generator) * 0.5
    return Case(prototypes, coefficients, torch.cat([corners, corners + 0.5], -1), (40, 50), {})


def real_case(size: tuple[int, int]) -> Case:
    """The prototypes and detections of a real segmentation model on a real photo: logits, no sigmoid, no ReLU."""
    with np.load(shared_path("data/proto_coeff_real/bus.npz")) as data:
        centre, extent = torch.from_numpy(data["boxes"]).split(2, -1)
        boxes = torch.cat([centre - extent / 2, centre + extent / 2], -1) / 4  # of 640 pixels to the prototypes' 160
        options = {"activation": "none", "threshold": 0.0, "crop": "after", "padding": 0.0, "box_unit": "prototype"}
        tensors = (torch.from_numpy(data[name])[None] for name in ("proto", "coeff"))
        return Case(*tensors, boxes[None], size, options)


def operator_options(**changed: Any) -> dict[str, Any]:
    """The options of YOLACT, as the operators themselves take them."""
    options = {"count": None, "layout": "hwk", "box_unit": "relative", "activation": "sigmoid", "threshold": 0.5}
    return options | {"crop": "before", "padding": 1.0, "source_region": None} | changed


# What is checked alike by both operators: a changed argument, the error, what it says.
REJECTED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"prototypes": torch.zeros(12, 15, 8)}, ValueError, r"prototypes must be of shape .* got \[12, 15, 8\]"),
    ({"prototypes": torch.zeros(1, 0, 15, 8)}, ValueError, "the height of prototypes must be at least 1, got 0"),
    ({"prototypes": torch.zeros(1, 1, 1, 8).expand(1, 5, 1 << 30, 8)}, ValueError, r"prototypes .* got 5 x 1073741824"),
    (
        {"prototypes": torch.zeros(1, 12, 15, 8).to_sparse()},
        TypeError,
        "prototypes must be a dense tensor, got torch.sp",
    ),
    (
        {"prototypes": torch.zeros(1, 12, 15, 8, dtype=torch.float64)},
        TypeError,
        "prototypes must be of dtype .*float64",
    ),
    ({"coefficients": torch.zeros(1, 3, 7)}, ValueError, r"coefficients must be of shape .* got \[1, 3, 7\]"),
    ({"coefficients": None}, TypeError, "coefficients must be a tensor, got NoneType"),
    ({"layout": "khw"}, ValueError, "coefficients must be of shape"),
    ({"boxes": torch.zeros(1, 2, 4)}, ValueError, r"boxes must be of shape .* got \[1, 2, 4\]"),
    ({"boxes": torch.zeros(1, 3, 4, dtype=torch.int64)}, TypeError, "boxes must be of dtype"),
    ({"boxes": torch.zeros(1, 3, 4, device="meta")}, ValueError, "boxes must be on cpu, got meta"),
    ({"count": torch.zeros(2, dtype=torch.int64)}, ValueError, r"count must be of shape \[1\], got \[2\]"),
    ({"count": torch.zeros(1)}, TypeError, "count must be of dtype int64, got float32"),
    ({"layout": "kwh"}, ValueError, "layout must be one of 'hwk', 'khw', got 'kwh'"),
    ({"box_unit": "pixels"}, ValueError, "box_unit must be one of .* got 'pixels'"),
    ({"activation": "relu"}, ValueError, "activation must be one of .* got 'relu'"),
    ({"crop": "late"}, ValueError, "crop must be one of .* got 'late'"),
    ({"threshold": math.nan}, ValueError, "threshold must be within .* got nan"),
    ({"padding": -1.0}, ValueError, "padding must be within .* got -1.0"),
    ({"source_region": torch.zeros(4)}, ValueError, r"source_region must be of shape \[1, 4\], got \[4\]"),
]
