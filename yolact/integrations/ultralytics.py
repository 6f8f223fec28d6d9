"""Ultralytics' segmentation masks (YOLOv8, YOLO11 and their kin): to call, or in the installed library's place.

Of a YOLO's outputs, prototypes are [K, h, w] logits; a mask is their sum by an object's coefficients, cropped by its
box, stretched, positive. How exactly has changed between releases: `Release` tells what.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yolact.errors import UserError
from yolact.integrations.patching import Acceleration, Patch, find_module, original_of, version_of
from yolact.integrations.tensors import alike, rles_of, takes
from yolact.ops import assemble_masks, logits_to_rles, prototypes_to_rles, resize_masks

Functions = dict[str, Callable[..., Any]]  # by their names in the library


@dataclass(frozen=True)
class Release:
    """How a release makes masks."""

    version: str
    crop: str  # of process_mask with upsample: "before" the interpolation, or "after" it
    whole_pixels: bool  # whether a letterbox's borders are rounded, not cut off
    stride: int  # of prototypes in the pixels that process_mask_native counts a letterbox's borders in
    dtype: torch.dtype


V8_3 = Release("8.3.0", crop="before", whole_pixels=False, stride=1, dtype=torch.float32)
V8_4 = Release("8.4.190", crop="after", whole_pixels=True, stride=4, dtype=torch.uint8)
RELEASES = (V8_4, V8_3)


def process_mask(
    protos: Tensor,  # [K, h, w]
    masks_in: Tensor,  # [N, K]
    bboxes: Tensor,  # [N, 4] xyxy, pixels of the network's input
    shape: tuple[int, int],  # (height, width) of the network's input
    upsample: bool = False,
    *,
    release: Release = V8_4,
) -> Tensor:  # [N, height, width] bool, or [N, h, w] without upsample
    """Make the masks in the network's input, or in the prototypes, as `process_mask` does."""
    height, width = protos.shape[1:]
    boxes = _ordered(bboxes)
    if upsample and release.crop == "after":
        options = _LOGITS | {"crop": "after", "box_unit": "output"}
    else:
        boxes = boxes * boxes.new_tensor([width / shape[1], height / shape[0]]).repeat(2)
        options = _LOGITS | {"crop": "before", "box_unit": "prototype"}
    size = shape if upsample else (height, width)
    return assemble_masks(protos[None], masks_in[None], boxes[None], size, **options)[0]


def process_mask_native(
    protos: Tensor,  # [K, h, w]
    masks_in: Tensor,  # [N, K]
    bboxes: Tensor,  # [N, 4] xyxy, pixels of the picture
    shape: tuple[int, int],  # (H, W) of the picture
    *,
    release: Release = V8_4,
) -> Tensor:  # [N, H, W] bool
    """Make the masks in the picture, without a letterbox's borders, as `process_mask_native` does."""
    tensors, region = _without_letterbox(protos, masks_in, bboxes, shape, release)
    options = _LOGITS | {"source_region": region, "crop": "after", "box_unit": "output"}
    return assemble_masks(*tensors, shape, **options).flatten(0, 1)


def process_mask_native_to_rles(
    protos: Tensor,  # [K, h, w]
    masks_in: Tensor,  # [N, K]
    bboxes: Tensor,  # [N, 4] xyxy, pixels of the picture
    shape: tuple[int, int],  # (H, W) of the picture
    *,
    release: Release = V8_4,
) -> list[dict[str, Any]]:
    """Make COCO's run lengths of what `process_mask_native` returns, without a dense mask in between."""
    tensors, region = _without_letterbox(protos, masks_in, bboxes, shape, release)
    options = _LOGITS | {"source_region": region, "crop": "after", "box_unit": "output"}
    return list(chain(*prototypes_to_rles(*tensors, [shape] * len(region), **options)))


def scale_masks(
    masks: Tensor,  # [N, h, w]
    shape: tuple[int, int],  # (H, W) of the picture
    padding: bool = True,  # whether the letterbox has borders on both sides, not at the end alone
    *,
    threshold: float = 0.0,
    release: Release = V8_4,
) -> Tensor:  # [N, H, W] bool
    """Stretch masks of the network's input to the picture as `scale_masks` does: where they are above a threshold.

    0 is for logits; of masks that are 0 or 1, 0.5 is the border.
    """
    region = torch.tensor(_picture_region(masks.shape[1:], shape, padding, release), device=masks.device)
    return resize_masks(masks, shape, source_region=region, threshold=threshold)


def scale_masks_to_rles(
    masks: Tensor,  # [N, h, w]
    shape: tuple[int, int],  # (H, W) of the picture
    padding: bool = True,
    *,
    threshold: float = 0.0,
    release: Release = V8_4,
) -> list[dict[str, Any]]:
    """Make COCO's run lengths of what `scale_masks` returns, without a dense mask in between."""
    region = torch.tensor(_picture_region(masks.shape[1:], shape, padding, release), device=masks.device)
    return logits_to_rles(masks, shape, source_region=region, threshold=threshold)


def results_to_rles(results: Any, *, release: Release = V8_4) -> list[dict[str, Any]]:
    """Make COCO's run lengths, in the picture's size, of a `Results`' masks; none where it has none.

    Masks of the network's input (all but those of `retina_masks=True`) are stretched to the picture at 0.5.
    """
    if results.masks is None:
        return []
    masks = torch.as_tensor(results.masks.data)
    if tuple(masks.shape[1:]) == tuple(results.orig_shape):
        return rles_of(masks)
    return scale_masks_to_rles(masks.float(), results.orig_shape, threshold=0.5, release=release)


def accelerate() -> Acceleration:
    """Put our `process_mask` and `process_mask_native`, and our encoder of COCO's JSON, into the installed Ultralytics.

    Arguments, results and dtypes stay those of the release, whichever of the known ones it acts like; pixels differ
    only where a value is within rounding error of the threshold. No detections give no masks, where 8.3.0 raises.
    `scale_masks` stays: it returns values, of 0 and 1 as well, and the validator of 8.4 cuts them to whole numbers, so
    that a value which is 1 but for rounding is another mask. Only what is equal to the bit could take its place.

    Raises:
        UserError: Ultralytics is not here, or acts like no known release; nothing is changed.
    """
    library = find_module("ultralytics.utils.ops")
    validator = find_module("ultralytics.models.yolo.segment.val").SegmentationValidator
    names = ("process_mask", "process_mask_native")
    try:
        theirs = {name: original_of(library, name) for name in names}
        their_json = original_of(validator, "pred_to_json")
    except (KeyError, AttributeError) as error:
        raise _unknown(f"lacks {error}") from error
    for release in RELEASES:
        ours = _replacements(theirs, release)
        if _agree(ours, theirs):
            break
    else:
        raise _unknown("makes other masks than")
    patches = [Patch(library, name, function) for name, function in ours.items()]
    return Acceleration([*patches, Patch(validator, "pred_to_json", _json_writer(their_json))])


accelerated = accelerate  # reads well after `with`


_LOGITS: dict[str, Any] = {"layout": "khw", "activation": "none", "threshold": 0.0, "padding": 0.0}


def _ordered(boxes: Tensor) -> Tensor:
    """The boxes, NaN where the corners are swapped: those masks are empty, and `assemble_masks` would swap them."""
    return boxes.masked_fill((boxes[:, :2] > boxes[:, 2:]).any(1, keepdim=True), torch.nan)


def _without_letterbox(
    protos: Tensor, masks_in: Tensor, bboxes: Tensor, shape: tuple[int, int], release: Release
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Prototypes, coefficients and boxes, and the part of the prototypes that is the picture.

    Where a border is no whole number of prototypes, they are finer by two or `stride`, so that it is one. Then the
    fewer are made finer: the prototypes, or the masks, each of them a prototype of its own.
    """
    sides = [side * release.stride for side in protos.shape[1:]]
    region = _picture_region(sides, shape, True, release)
    boxes = _ordered(bboxes)
    finer = release.stride // math.gcd(release.stride, *region)
    corners = [corner * finer // release.stride for corner in region]
    prototypes, coefficients, boxes = protos[None], masks_in[None], boxes[None]
    if finer > 1 and len(masks_in):
        if len(masks_in) < len(protos):
            logits = (masks_in.float() @ protos.float().flatten(1)).view(-1, *protos.shape[1:])
            prototypes, coefficients, boxes = logits[:, None], logits.new_ones(len(logits), 1, 1), boxes[0][:, None]
        near = prototypes.float().contiguous(memory_format=torch.channels_last)  # a pixel's prototypes lie together
        prototypes = F.interpolate(near, scale_factor=finer, mode="bilinear")
    return (prototypes, coefficients, boxes), torch.tensor(corners, device=protos.device).expand(len(prototypes), 4)


def _picture_region(
    sides: Sequence[int], shape: tuple[int, int], padding: bool, release: Release
) -> tuple[int, int, int, int]:
    """Corners x1 y1 x2 y2 of the picture in a map of those sides, without the borders of its letterbox."""
    height, width = sides
    gain = min(height / shape[0], width / shape[1])
    inner_y, inner_x = shape[0] * gain, shape[1] * gain
    if release.whole_pixels:
        inner_y, inner_x = round(inner_y), round(inner_x)
    border_y, border_x = height - inner_y, width - inner_x
    if padding:
        border_y, border_x = border_y / 2, border_x / 2
    if release.whole_pixels:  # of two borders that should be a broken number of pixels, the second is the larger
        x1, y1 = round(border_x - 0.1), round(border_y - 0.1)
        x2, y2 = width - round(border_x + 0.1), height - round(border_y + 0.1)
    else:
        x1, y1 = int(border_x), int(border_y)
        x2, y2 = int(width - border_x), int(height - border_y)
    return (x1, y1, x2, y2) if padding else (0, 0, x2, y2)


def _replacements(theirs: Functions, release: Release) -> Functions:
    """Our functions in their signatures; what the kernels do not take goes to theirs."""

    def as_theirs(masks: Tensor) -> Tensor:
        return masks.view(torch.uint8) if release.dtype is torch.uint8 else masks.to(release.dtype)

    @wraps(theirs["process_mask"])
    def fast_process_mask(
        protos: Tensor, masks_in: Tensor, bboxes: Tensor, shape: tuple[int, int], upsample: bool = False
    ) -> Tensor:
        if not takes(protos, masks_in, bboxes):
            return theirs["process_mask"](protos, masks_in, bboxes, shape, upsample)
        return as_theirs(process_mask(protos, masks_in, bboxes, shape, upsample, release=release))

    @wraps(theirs["process_mask_native"])
    def fast_process_mask_native(protos: Tensor, masks_in: Tensor, bboxes: Tensor, shape: tuple[int, int]) -> Tensor:
        if not takes(protos, masks_in, bboxes):
            return theirs["process_mask_native"](protos, masks_in, bboxes, shape)
        return as_theirs(process_mask_native(protos, masks_in, bboxes, shape, release=release))

    return {"process_mask": fast_process_mask, "process_mask_native": fast_process_mask_native}


def _json_writer(theirs: Callable[..., None]) -> Callable[..., None]:
    """A validator's `pred_to_json`: theirs writes all but the masks, of which it is shown one pixel each."""

    @wraps(theirs)
    def fast_pred_to_json(self: Any, predn: Any, source: Any, *masks: Any) -> None:
        first = len(self.jdict)
        if masks:  # 8.3.0: [H, W, N], NumPy's, beside the boxes
            dense = torch.from_numpy(masks[0]).permute(2, 0, 1)
            theirs(self, predn, source, masks[0][:1, :1])
        else:  # since: [N, H, W] among the predictions
            dense = predn["masks"]
            theirs(self, {**predn, "masks": dense[:, :1, :1]}, source)
        for entry, rle in zip(self.jdict[first:], rles_of(dense), strict=True):
            entry["segmentation"] = rle

    return fast_pred_to_json


def _agree(ours: Functions, theirs: Functions) -> bool:
    """Whether both make the same masks of a small case, whose letterbox has borders of broken pixels."""
    random = torch.Generator().manual_seed(0)
    protos = torch.randn(4, 20, 24, generator=random)
    coefficients = torch.randn(8, 4, generator=random)
    corners = torch.rand(8, 2, 2, generator=random) * torch.tensor([96.0, 80.0])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("process_mask", ((80, 96), False)),
        ("process_mask", ((80, 96), True)),
        ("process_mask_native", ((61, 87),)),
        ("process_mask_native", ((90, 67),)),
    ]
    for name, options in calls:
        try:
            expected = theirs[name](protos, coefficients, boxes.clone(), *options)
            found = ours[name](protos, coefficients, boxes, *options)
            if not alike(found, expected):
                return False
        except Exception:  # another signature, another kind of result
            return False
    return True


def _unknown(what: str) -> UserError:
    known = " and ".join(release.version for release in RELEASES)
    return UserError(f"ultralytics {version_of('ultralytics')} {what} the known releases {known}; nothing was changed")
