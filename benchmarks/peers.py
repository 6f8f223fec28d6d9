"""How others do the same jobs: written here from their description, or called where they are installed."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from yolact.bench.eager import eager_detect, eager_fast_nms, eager_masks, eager_preprocess

__all__ = ["eager_detect", "eager_fast_nms", "eager_masks", "eager_preprocess"]  # beside what is defined here


def torchvision_nms(
    boxes: Tensor,  # [N, 4]
    scores: Tensor,  # [C, N]
) -> tuple[Tensor, Tensor, Tensor]:  # index [M], label [M], score [M]
    """Traditional NMS of every (class, box) pair above a score of 0.05, by torchvision; the best hundred."""
    from torchvision.ops import batched_nms

    label, index = (scores > 0.05).nonzero().unbind(1)
    score = scores[label, index]
    keep = batched_nms(boxes[index], score, label, 0.5)[:100]
    return index[keep], label[keep], score[keep]


def eager_resize(logits: Tensor, size: tuple[int, int]) -> Tensor:  # [N, h, w] -> [N, H, W] bool
    """What most networks end with."""
    return F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0] > 0


def runs_mask_by_mask(
    masks: Tensor,  # [N, H, W] bool
) -> list[dict[str, Any]]:
    """COCO's dictionaries as segment-anything makes them: transitions by torch, each mask's selected and counted on
    the host, the strings by pycocotools."""
    from pycocotools import mask as coco

    count, height, width = masks.shape
    pixels = masks.permute(0, 2, 1).flatten(1)  # column by column
    changes = (pixels[:, 1:] ^ pixels[:, :-1]).nonzero()  # [transitions, 2]: mask, pixel before
    rles = []
    for number in range(count):
        ends = changes[changes[:, 0] == number, 1] + 1
        border = ends.new_tensor([0]), ends.new_tensor([height * width])
        lengths = torch.cat([border[0], ends, border[1]]).diff().tolist()
        counts = [0, *lengths] if bool(pixels[number, 0]) else lengths
        rle = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        rles.append({"size": [height, width], "counts": rle["counts"].decode()})
    return rles


def runs_all_at_once(
    masks: Tensor,  # [N, H, W] bool
) -> list[dict[str, Any]]:
    """COCO's dictionaries the way ultralytics is described to make them: the transitions of all masks found at once
    by torch and copied, the strings written in Python."""
    count, height, width = masks.shape
    pixels = F.pad(masks.permute(0, 2, 1).flatten(1), (1, 0))  # column by column, a zero before the first
    numbers, places = (pixels[:, 1:] != pixels[:, :-1]).nonzero().cpu().numpy().T
    rles = []
    for ends in np.split(places, np.searchsorted(numbers, np.arange(1, count))):
        counts = np.diff(ends, prepend=0, append=height * width).tolist()
        rles.append({"size": [height, width], "counts": string_of(counts)})
    return rles


def string_of(counts: list[int]) -> str:
    """COCO's string: each count from the fourth on as its difference to the one two before, five bits a character."""
    characters = []
    for place, value in enumerate(counts):
        value = value - counts[place - 2] if place > 2 else value
        while not -16 <= value < 16:
            characters.append((value & 31 | 32) + 48)
            value >>= 5
        characters.append((value & 31) + 48)
    return bytes(characters).decode()


def copied_then_encoded(
    masks: Tensor,  # [N, H, W] bool
    package: str,  # pycocotools or hotcoco
    *,
    turn: bool,  # on the device, to the column-major layout that the packages want
) -> list[dict[str, Any]]:
    """Dense masks copied to the host, then encoded there."""
    encode = importlib.import_module(f"{package}.mask").encode
    if turn:
        return encode(masks.mT.contiguous().cpu().numpy().view(np.uint8).T)
    return encode(np.asfortranarray(masks.cpu().permute(1, 2, 0).numpy().view(np.uint8)))


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same by torch.compile; its mode "reduce-overhead" is this in a graph, which the benchmark captures itself."""
    return torch.compile(function)


def mask_packages() -> dict[str, ModuleType]:
    """The packages that encode COCO's run lengths, of those installed."""
    packages = {}
    for name in ("pycocotools", "hotcoco"):
        try:
            packages[name] = importlib.import_module(f"{name}.mask")
        except ImportError:
            continue
    return packages
