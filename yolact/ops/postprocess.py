"""The network's raw outputs to results, in one call on anybody's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from yolact.ops._checks import FLOATING, check_tensor
from yolact.ops.assemble_run_lengths import check_sizes, prototypes_to_rles
from yolact.ops.detect import detect

MASK_OPTIONS = ("layout", "activation", "threshold", "crop", "padding", "source_region")


class PictureResults(NamedTuple):
    """What was found in one picture, N objects by falling score."""

    boxes: Tensor  # [N, 4] float32 xyxy, pixels of the picture, inside it
    labels: Tensor  # [N] int64, 0-based foreground class
    scores: Tensor  # [N] float32
    rles: list[dict[str, Any]]  # N of {"size": [H, W], "counts": str}


def postprocess(
    box_deltas: Tensor,  # [B, P, 4]
    class_logits: Tensor,  # [B, P, 1 + C], background first
    mask_coefficients: Tensor,  # [B, P, K]
    priors: Tensor,  # [P, 4] cx cy w h, 0..1
    prototypes: Tensor,  # [B, h, w, K], or [B, K, h, w] with layout "khw"
    sizes: Tensor | Sequence[tuple[int, int]],  # [B, 2] int64, (H, W) of each picture
    **options: Any,
) -> list[PictureResults]:
    """Turn a network's outputs into boxes, labels, scores and COCO masks; synchronises on a GPU.

    All of YOLACT after the network (sections 3 and 4): `detect`, the coefficients of what it keeps, and
    `prototypes_to_rles`.

    Args:
        box_deltas, class_logits, priors: see `detect`.
        mask_coefficients: [B, P, K] floating, as they multiply the prototypes (YOLACT: after tanh).
        prototypes: see `assemble_masks` (YOLACT: after ReLU).
        sizes: [B, 2] int64 tensor, or a sequence of pairs: (height, width) of each picture.
        options: layout, activation, threshold, crop, padding and source_region go to `prototypes_to_rles`, all
            others to `detect`. With a source region, the part of the network's input that is the picture, boxes
            are told in the picture's pixels too.

    Returns:
        One (boxes, labels, scores, rles) a picture. Boxes are pixels of the picture as floats, clamped to it.

    Raises:
        TypeError, ValueError: an argument of the wrong type, dtype, shape, device or range, named with its value.
    """
    mask_options = {name: options.pop(name) for name in MASK_OPTIONS if name in options}
    check_tensor(class_logits, "class_logits", (None, None, None), FLOATING)
    check_tensor(prototypes, "prototypes", (None, None, None, None), FLOATING, like=class_logits)
    check_tensor(mask_coefficients, "mask_coefficients", (*class_logits.shape[:2], None), FLOATING, like=prototypes)
    sizes = check_sizes(sizes, len(class_logits), prototypes.device)
    found = detect(box_deltas, class_logits, priors, **options)

    counts = found.count.tolist()
    most = max(counts, default=0)  # no row past it is looked at: there may be no prior at all to gather from
    rows = found.prior[:, :most].clamp(min=0)[..., None].expand(-1, -1, mask_coefficients.shape[2])  # [B, most, K]
    coefficients = mask_coefficients.gather(1, rows)
    rles = prototypes_to_rles(prototypes, coefficients, found.boxes[:, :most], sizes, count=found.count, **mask_options)

    height, width = prototypes.shape[1:3] if mask_options.get("layout", "hwk") == "hwk" else prototypes.shape[2:]
    extent = sizes.flip(1).to(found.boxes)  # [B, 2]: width, height
    boxes = found.boxes.unflatten(2, (2, 2))  # [B, D, corner, xy]
    if (source_region := mask_options.get("source_region")) is not None:
        limit = extent.new_tensor([width, height])
        corners = source_region.to(extent).round().unflatten(1, (2, 2)).clamp(min=0).minimum(limit) / limit
        first, last = corners[:, None, :1], corners[:, None, 1:]  # [B, 1, 1, xy]
        boxes = (boxes - first) / (last - first)
    boxes = (boxes * extent[:, None, None]).clamp(min=extent.new_zeros(2)).minimum(extent[:, None, None]).flatten(2)
    return [
        PictureResults(boxes[b, :count], found.label[b, :count], found.score[b, :count], rles[b])
        for b, count in enumerate(counts)
    ]
