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


def eager_detect(
    box_deltas: Tensor,  # [B, P, 4]
    class_logits: Tensor,  # [B, P, 1 + C]
    priors: Tensor,  # [P, 4]
    carried: Tensor | None = None,  # [B, P, K] what each prior takes along, such as mask coefficients
) -> list[tuple[Tensor, ...]]:  # a picture: boxes [N, 4], label [N], score [N] and, where asked for, carried [N, K]
    """Detection as the original formulates it, in eager torch: a picture at a time, matrices throughout."""
    probabilities = class_logits.softmax(-1)
    results = []
    for b, (deltas, scores) in enumerate(zip(box_deltas, probabilities.transpose(1, 2), strict=True)):
        centre = priors[:, :2] + deltas[:, :2] * 0.1 * priors[:, 2:]
        size = priors[:, 2:] * torch.exp(deltas[:, 2:] * 0.2)
        boxes = torch.cat([centre - size / 2, centre - size / 2 + size], 1)
        keep = scores[1:].max(0).values > 0.05
        along = () if carried is None else (carried[b, keep],)
        results.append(eager_fast_nms(boxes[keep], scores[1:, keep], *along))
    return results


def eager_fast_nms(
    boxes: Tensor,  # [N, 4]
    scores: Tensor,  # [C, N]
    *carried: Tensor,  # [N, K]
) -> tuple[Tensor, ...]:  # boxes [M, 4], label [M], score [M], and of what is carried the rows that stay
    """Fast NMS as the paper gives it: sort, an overlap matrix a class, its upper triangle, the columns' maxima."""
    scores, order = scores.sort(1, descending=True)
    scores, order = scores[:, :200], order[:, :200]
    boxes = boxes[order]  # [C, K, 4]
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    overlap = intersection / (area[:, :, None] + area[:, None] - intersection)
    keep = overlap.triu_(1).amax(1) <= 0.5
    label = torch.arange(len(scores), device=scores.device)[:, None].expand_as(keep)[keep]
    which = order[keep]
    scores, order = scores[keep].sort(descending=True)
    rows = (along[which[order[:100]]] for along in carried)
    return boxes[keep][order[:100]], label[order[:100]], scores[:100], *rows


def eager_masks(
    prototypes: Tensor,  # [h, w, K]
    coefficients: Tensor,  # [N, K]
    boxes: Tensor,  # [N, 4] xyxy, fractions of the picture
    size: tuple[int, int],
) -> Tensor:  # [N, H, W] bool
    """Masks as the original makes them, in eager torch: all prototypes for each, cut by the box, stretched whole."""
    height, width, _ = prototypes.shape
    masks = (prototypes @ coefficients.T).sigmoid()  # [h, w, N]
    x0, y0, x1, y1 = boxes.unbind(1)
    column = torch.arange(width, device=boxes.device)[None, :, None]
    row = torch.arange(height, device=boxes.device)[:, None, None]
    inside = (column >= (x0 * width - 1).clamp(min=0)) & (column < (x1 * width + 1).clamp(max=width))
    inside = inside & (row >= (y0 * height - 1).clamp(min=0)) & (row < (y1 * height + 1).clamp(max=height))
    masks = (masks * inside.to(masks.dtype)).permute(2, 0, 1).contiguous()
    return F.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0].gt(0.5)


def eager_preprocess(
    pictures: Tensor,  # [B, H, W, 3] uint8
    size: tuple[int, int],
    mean: Tensor,  # [3]
    std: Tensor,  # [3]
) -> Tensor:  # [B, 3, *size] float32
    """Pictures to the network's input, in eager torch."""
    images = F.interpolate(pictures.permute(0, 3, 1, 2).float(), size, mode="bilinear", align_corners=False)
    return (images - mean[:, None, None]) / std[:, None, None]


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
