"""The original repository (dbolya/yolact) with our kernels in: `Detect`, `postprocess`, the encoder of its COCO JSON.

Its checkout has a module `yolact` too, which hides this package from programs in its folder. So it is run from here::

    python -I -m yolact.integrations.original eval.py --trained_model=weights/yolact_base_54_800000.pth ...
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolact import mask
from yolact.errors import UserError
from yolact.integrations.patching import Acceleration, Patch, find_module, original_of
from yolact.integrations.tensors import takes
from yolact.ops import assemble_masks, fast_nms
from yolact.structures import Selection

KNOWN = "902073d"


def accelerate() -> Acceleration:
    """Put our kernels into a checkout whose folder is on `sys.path`.

    `Detect` suppresses by `fast_nms`, with or without classes; traditional NMS stays. `postprocess` makes its masks
    by `assemble_masks`, and no longer changes the detections that it is given. pycocotools encodes masks by
    `yolact.mask.encode`, here and wherever else this process calls it, to the same bytes. Names that your own program
    imported from the checkout before stay what they were.

    Raises:
        UserError: no checkout is on `sys.path`, or it has no such functions; nothing is changed.
    """
    detection, output = find_module("layers.functions.detection"), find_module("layers.output_utils")
    encoder = find_module("pycocotools.mask")
    try:
        patches = [
            Patch(owner, name, replace(original_of(owner, name)))
            for owner, name, replace in (
                (detection.Detect, "fast_nms", _fast_nms),
                (detection.Detect, "cc_fast_nms", _cc_fast_nms),
                (output, "postprocess", _postprocess),
                (encoder, "encode", lambda theirs: mask.encode),
            )
        ]
    except (KeyError, AttributeError) as error:
        raise UserError(
            f"the checkout lacks {error}, which the known commit {KNOWN} has; nothing was changed"
        ) from error
    return Acceleration(patches)


accelerated = accelerate  # reads well after `with`


def _fast_nms(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """`Detect.fast_nms`: a box's classes apart."""

    @wraps(theirs)
    def suppress(
        self: Any,
        boxes: Tensor,  # [N, 4]
        masks: Tensor,  # [N, K] coefficients
        scores: Tensor,  # [C, N]
        iou_threshold: float = 0.5,
        top_k: int = 200,
        second_threshold: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not _fits(boxes, scores):
            return theirs(self, boxes, masks, scores, iou_threshold, top_k, second_threshold)
        found = fast_nms(
            boxes[None],
            scores[None],
            iou_threshold=iou_threshold,
            top_k=top_k,
            max_detections=find_module("data").cfg.max_num_detections,
            score_threshold=self.conf_thresh if second_threshold else None,
        )
        return _selected(found, boxes, masks)

    return suppress


def _cc_fast_nms(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """`Detect.cc_fast_nms`: across classes."""

    @wraps(theirs)
    def suppress(
        self: Any,
        boxes: Tensor,  # [N, 4]
        masks: Tensor,  # [N, K] coefficients
        scores: Tensor,  # [C, N]
        iou_threshold: float = 0.5,
        top_k: int = 200,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not _fits(boxes, scores):
            return theirs(self, boxes, masks, scores, iou_threshold, top_k)
        found = fast_nms(
            boxes[None],
            scores[None],
            iou_threshold=iou_threshold,
            top_k=top_k,
            max_detections=None,
            across_classes=True,
        )
        return _selected(found, boxes, masks)

    return suppress


def _selected(
    found: Selection, boxes: Tensor, masks: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # D boxes, coefficients, labels, scores
    rows = slice(int(found.count))
    kept = found.index[0, rows]
    return boxes[kept], masks[kept], found.label[0, rows], found.score[0, rows]


def _postprocess(theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(theirs)
    def postprocess(
        det_output: list[dict[str, Any]],
        w: int,
        h: int,
        batch_idx: int = 0,
        interpolation_mode: str = "bilinear",
        visualize_lincomb: bool = False,
        crop_masks: bool = True,
        score_threshold: float = 0,
    ) -> Any:
        found = det_output[batch_idx]["detection"]
        cfg = find_module("data").cfg
        if (
            found is None
            or "proto" not in found
            or interpolation_mode != "bilinear"
            or visualize_lincomb
            or not cfg.eval_mask_branch
            or cfg.use_maskiou
            or cfg.mask_proto_mask_activation is not torch.sigmoid
            or getattr(cfg, "mask_proto_debug", False)
            or not takes(found["proto"], found["mask"], found["box"])
        ):
            options = (interpolation_mode, visualize_lincomb, crop_masks, score_threshold)
            return theirs(det_output, w, h, batch_idx, *options)
        rows = found["score"] > score_threshold if score_threshold > 0 else slice(None)
        boxes, scores, classes = found["box"][rows], found["score"][rows], found["class"][rows]
        if not len(scores):
            return [torch.Tensor()] * 4
        masks = assemble_masks(
            found["proto"][None],
            found["mask"][rows][None],
            boxes[None],
            (h, w),
            crop="before" if crop_masks else "none",
        )[0]
        corners = boxes.view(-1, 2, 2) * boxes.new_tensor([w, h])
        first, last = corners.amin(1).clamp(min=0), corners.amax(1).minimum(boxes.new_tensor([w, h]))
        return classes, scores, torch.cat([first, last], 1).long(), masks.float()

    return postprocess


def _fits(boxes: Tensor, scores: Tensor) -> bool:
    return boxes.dtype == scores.dtype == torch.float32 and takes(boxes, scores)


def main(arguments: list[str]) -> None:
    """Run one of the checkout's programs with our kernels in."""
    if not arguments:
        raise SystemExit("usage: python -I -m yolact.integrations.original PROGRAM [ARGUMENT ...]")
    sys.argv[:] = arguments
    sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
    try:
        acceleration = accelerate()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    with acceleration:
        sys.modules.pop("yolact")  # the program means its own
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
