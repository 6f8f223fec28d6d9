"""SAM, SAM 2 and SAM 3 of Hugging Face's transformers: masks in the picture, to call or in the library's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yolact.errors import UserError
from yolact.integrations.patching import Acceleration, Patch, find_module, original_of, version_of
from yolact.integrations.tensors import alike, takes
from yolact.ops import logits_to_rles, resize_masks
from yolact.ops._checks import FLOATING, check_size, check_tensor

KNOWN = "5.23.0"
PADDED = (1024, 1024)


def masks_in_picture(
    masks: Tensor,  # [P, C, h, w] logits: of each prompt, so many candidates
    original_size: tuple[int, int],  # (H, W) of the picture
    reshaped_input_size: tuple[int, int] | None = None,
    *,
    pad_size: tuple[int, int] = PADDED,
    mask_threshold: float = 0.0,
) -> Tensor:  # [P, C, H, W] bool
    """Stretch SAM's masks to the picture and threshold them, as `post_process_masks` does.

    Args:
        reshaped_input_size: SAM's own: (height, width) of the picture in a network's input of `pad_size`, the rest of
            which is padding. Masks are stretched to that input first. None: SAM 2 and 3, which stretch once.
    """
    logits, region = _in_picture(masks, reshaped_input_size, pad_size)
    found = resize_masks(logits, original_size, source_region=region, threshold=mask_threshold)
    return found.unflatten(0, masks.shape[:2])


def masks_to_rles(
    masks: Tensor,  # [P, C, h, w] logits
    original_size: tuple[int, int],  # (H, W) of the picture
    reshaped_input_size: tuple[int, int] | None = None,
    *,
    pad_size: tuple[int, int] = PADDED,
    mask_threshold: float = 0.0,
) -> list[list[dict[str, Any]]]:
    """Make COCO's run lengths of what `masks_in_picture` returns, without a dense mask in between; a list a prompt."""
    logits, region = _in_picture(masks, reshaped_input_size, pad_size)
    rles = logits_to_rles(logits, original_size, source_region=region, threshold=mask_threshold)
    candidates = masks.shape[1]
    return [rles[prompt * candidates : (prompt + 1) * candidates] for prompt in range(len(masks))]


def accelerate() -> Acceleration:
    """Put `resize_masks` into `post_process_masks` of the installed transformers' SAM, SAM 2 and SAM 3.

    Pixels differ only where a logit is within rounding error of the threshold. What asks for values in place of
    masks, or for masks that do not overlap, stays the library's.

    Raises:
        UserError: transformers is not here, or acts like no known release; nothing is changed.
    """
    patches = []
    for module, name, replace, sizes in (
        ("sam.image_processing_sam", "SamImageProcessor", _sam, ([(30, 41)], [(9, 16)])),
        ("sam.image_processing_pil_sam", "SamImageProcessorPil", _sam, ([(30, 41)], [(9, 16)])),
        ("sam2.image_processing_sam2", "Sam2ImageProcessor", _sam2, ([(30, 41)],)),
        ("sam3.image_processing_sam3", "Sam3ImageProcessor", _sam2, ([(30, 41)],)),
    ):
        try:
            owner = getattr(find_module(f"transformers.models.{module}"), name)
            theirs = original_of(owner, "post_process_masks")
        except (KeyError, AttributeError) as error:
            raise _unknown(f"lacks {error} of") from error
        ours = replace(theirs)
        if not _agree(ours, theirs, owner(pad_size={"height": 16, "width": 16}), sizes):
            raise _unknown(f"makes other masks in {name} than")
        patches.append(Patch(owner, "post_process_masks", ours))
    return Acceleration(patches)


accelerated = accelerate  # reads well after `with`


def _in_picture(
    masks: Tensor, reshaped_input_size: tuple[int, int] | None, pad_size: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:  # [P * C, h, w], and the picture in them
    check_tensor(masks, "masks", (None, None, None, None), FLOATING)
    if reshaped_input_size is None:
        return masks.flatten(0, 1), None
    height, width = check_size(map(int, reshaped_input_size), "reshaped_input_size")
    each = masks.flatten(0, 1)[:, None]  # a picture each: of a few channels, torch would take several times as long
    input_logits = F.interpolate(each, pad_size, mode="bilinear", align_corners=False)
    return input_logits[:, 0], torch.tensor([0, 0, width, height], device=masks.device)


def _sam(theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(theirs)
    def post_process_masks(
        self: Any,
        masks: Any,  # a picture each: [P, C, h, w]
        original_sizes: Any,
        reshaped_input_sizes: Any,
        mask_threshold: float = 0.0,
        binarize: bool = True,
        pad_size: dict[str, int] | None = None,
    ) -> list[Tensor]:
        if not binarize or not _fit(masks, original_sizes, reshaped_input_sizes):
            return theirs(self, masks, original_sizes, reshaped_input_sizes, mask_threshold, binarize, pad_size)
        padded = self.pad_size if pad_size is None else pad_size
        sides = (padded["height"], padded["width"])
        return [
            masks_in_picture(logits, size, inner, pad_size=sides, mask_threshold=mask_threshold)
            for logits, size, inner in zip(masks, _pairs(original_sizes), _pairs(reshaped_input_sizes), strict=True)
        ]

    return post_process_masks


def _sam2(theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(theirs)
    def post_process_masks(
        self: Any,
        masks: Any,  # a picture each: [P, C, h, w]
        original_sizes: Any,
        mask_threshold: float = 0.0,
        binarize: bool = True,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        apply_non_overlapping_constraints: bool = False,
        **options: Any,
    ) -> list[Tensor]:
        changes = max_hole_area or max_sprinkle_area or apply_non_overlapping_constraints
        if not binarize or changes or not _fit(masks, original_sizes):
            areas = (max_hole_area, max_sprinkle_area, apply_non_overlapping_constraints)
            return theirs(self, masks, original_sizes, mask_threshold, binarize, *areas, **options)
        return [
            masks_in_picture(logits, size, mask_threshold=mask_threshold)
            for logits, size in zip(masks, _pairs(original_sizes), strict=True)
        ]

    return post_process_masks


def _fit(masks: Any, *sizes: Any) -> bool:
    return all(len(pairs) == len(masks) for pairs in sizes) and all(
        isinstance(logits, Tensor) and logits.ndim == 4 and takes(logits) for logits in masks
    )


def _pairs(sizes: Any) -> Sequence[tuple[int, int]]:
    return sizes if isinstance(sizes, (list, tuple)) else sizes.tolist()


def _agree(ours: Callable[..., Any], theirs: Callable[..., Any], processor: Any, sizes: tuple[Any, ...]) -> bool:
    """Whether both make the same masks of a small case."""
    masks = [torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))]
    try:
        (found,), (expected,) = (function(processor, masks, *sizes) for function in (ours, theirs))
        return alike(found, expected)
    except Exception:  # another signature, another kind of result
        return False


def _unknown(what: str) -> UserError:
    return UserError(f"transformers {version_of('transformers')} {what} the known release {KNOWN}; nothing was changed")
