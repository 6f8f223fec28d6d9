"""mmdetection's YOLACT: its head's and its mask head's predictions, `fast_nms`, the run lengths of its results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolact.errors import UserError
from yolact.integrations.patching import Acceleration, Patch, find_module, original_of, version_of
from yolact.integrations.tensors import rles_of, takes
from yolact.ops import assemble_masks, detect
from yolact.ops import fast_nms as select

KNOWN = "3.3.0"


def fast_nms(
    multi_bboxes: Tensor,  # [N, 4] float32 xyxy
    multi_scores: Tensor,  # [N, C + 1] float32, background last
    multi_coeffs: Tensor,  # [N, K]
    score_thr: float,
    iou_thr: float,
    top_k: int,
    max_num: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:  # [D, 5] boxes and scores, [D] labels, [D, K] coefficients
    """Select as mmdetection's `fast_nms` does, by falling score; `max_num` of at most 0 keeps all."""
    found = select(
        multi_bboxes[None],
        multi_scores[:, :-1].t()[None],
        iou_threshold=iou_thr,
        top_k=top_k,
        max_detections=max_num if max_num > 0 else None,
        score_threshold=score_thr,
        union_eps=1e-6,
    )
    rows = slice(int(found.count))
    kept = found.index[0, rows]
    return torch.cat([multi_bboxes[kept], found.score[0, rows, None]], 1), found.label[0, rows], multi_coeffs[kept]


def masks_in_picture(
    mask_preds: Tensor,  # [h, w, N], after the sigmoid
    bboxes: Tensor,  # [N, 4] xyxy, pixels of the network's input
    img_shape: tuple[int, int],  # (height, width) of that input
    size: tuple[int, int],  # (H, W) of the result
    mask_thr: float = 0.5,
) -> Tensor:  # [N, H, W] bool
    """Crop masks by their boxes and stretch them to the picture, as `YOLACTProtonet` does."""
    boxes = bboxes / bboxes.new_tensor([img_shape[1], img_shape[0]]).repeat(2)
    prototypes = mask_preds.permute(2, 0, 1)[..., None]  # each mask a prototype of its own
    ones = prototypes.new_ones(len(boxes), 1, 1)
    return assemble_masks(prototypes, ones, boxes[:, None], size, activation="none", threshold=mask_thr).flatten(0, 1)


def encode_mask_results(mask_results: Any) -> list[dict[str, Any]]:
    """Make COCO's run lengths, counts as bytes, of [N, H, W] masks or of a sequence of [H, W]."""
    if not len(mask_results):
        return []
    if not isinstance(mask_results, Tensor):
        # Torch takes neither mirrored nor read-only arrays.
        mask_results = torch.from_numpy(np.require(mask_results, requirements=["C", "W"]))
    return [rle | {"counts": rle["counts"].encode()} for rle in rles_of(mask_results)]


def accelerate() -> Acceleration:
    """Put our kernels into the installed mmdetection's YOLACT.

    `YOLACTHead` decodes and suppresses by `detect`, `YOLACTProtonet` makes its masks by `assemble_masks`; `fast_nms`
    and `encode_mask_results` are ours as well. Results are what they were but for rounding: scores to 1e-6, boxes to
    2e-4 pixels, and pixels of masks where a value or a box's border is that close to its threshold. What another
    configuration does otherwise (a sigmoid for scores, another coder of boxes) stays mmdetection's own.

    Raises:
        UserError: mmdetection is not here, or has no such functions; nothing is changed.
    """
    head_module = find_module("mmdet.models.dense_heads.yolact_head")
    nms_module = find_module("mmdet.models.layers.bbox_nms")
    masks_module = find_module("mmdet.structures.mask.utils")
    try:
        head, protonet = head_module.YOLACTHead, head_module.YOLACTProtonet
        patches = [
            Patch(owner, name, replace(original_of(owner, name)))
            for owner, name, replace in (
                (nms_module, "fast_nms", _fast_nms),
                (masks_module, "encode_mask_results", lambda theirs: encode_mask_results),
                (head, "_predict_by_feat_single", _predict_boxes),
                (protonet, "predict_by_feat", _predict_masks),
            )
        ]
    except (KeyError, AttributeError) as error:
        raise UserError(
            f"mmdet {version_of('mmdet')} lacks {error}, which the known release {KNOWN} has; nothing was changed"
        ) from error
    return Acceleration(patches)


accelerated = accelerate  # reads well after `with`


def _fast_nms(theirs: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(theirs)
    def fast(
        multi_bboxes: Tensor,
        multi_scores: Tensor,
        multi_coeffs: Tensor,
        score_thr: float,
        iou_thr: float,
        top_k: int,
        max_num: int = -1,
    ) -> Any:
        exact = multi_bboxes.dtype == multi_scores.dtype == torch.float32 and len(multi_bboxes) and top_k > 0
        call = fast_nms if exact and takes(multi_bboxes, multi_scores, multi_coeffs) else theirs
        return call(multi_bboxes, multi_scores, multi_coeffs, score_thr, iou_thr, top_k, max_num)

    return fast


def _predict_boxes(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """`YOLACTHead._predict_by_feat_single`."""

    @wraps(theirs)
    def predict(
        self: Any,
        cls_score_list: Sequence[Tensor],  # a level each: [A * (C + 1), h, w]
        bbox_pred_list: Sequence[Tensor],  # [A * 4, h, w]
        coeff_preds_list: Sequence[Tensor],  # [A * K, h, w]
        mlvl_priors: Sequence[Tensor],  # [h * w * A, 4] xyxy, pixels of the input
        img_meta: dict[str, Any],
        cfg: Any,
        rescale: bool = True,
    ) -> Any:
        everything = (*cls_score_list, *bbox_pred_list, *coeff_preds_list, *mlvl_priors)
        cfg = self.test_cfg if cfg is None else cfg
        known = not self.use_sigmoid_cls and _is_ssd_coder(self.bbox_coder) and cfg.top_k > 0
        if not known or not takes(*everything):
            return theirs(self, cls_score_list, bbox_pred_list, coeff_preds_list, mlvl_priors, img_meta, cfg, rescale)
        logits = _rows(cls_score_list, self.cls_out_channels)  # [P, C + 1], background last
        coefficients = _rows(coeff_preds_list, self.num_protos)  # [P, K]
        height, width = img_meta["img_shape"][:2]
        extent = logits.new_tensor([width, height])
        corners = torch.cat(list(mlvl_priors)).unflatten(1, (2, 2)) / extent  # [P, corner, xy]
        priors = torch.cat([corners.mean(1), corners[:, 1] - corners[:, 0]], 1)  # [P, 4] cx cy w h
        per_level = cfg.get("nms_pre", -1)
        most = cfg.max_per_img
        found = detect(
            _rows(bbox_pred_list, 4)[None],
            logits.roll(1, 1)[None],
            priors,
            score_threshold=cfg.score_thr,
            second_threshold=True,
            iou_threshold=cfg.iou_thr,
            top_k=cfg.top_k,
            max_detections=most if most > 0 else None,
            variances=self.bbox_coder.stds[1:3],
            max_log_size=_MAX_LOG_SIZE,
            clip=True,
            union_eps=1e-6 / (width * height),  # theirs is in pixels
            level_sizes=[len(level) for level in mlvl_priors],
            pre_nms_top_k=per_level if per_level > 0 else None,
        )
        rows = slice(int(found.count))
        boxes = found.boxes[0, rows] * extent.repeat(2)
        if rescale:
            boxes = boxes / boxes.new_tensor(img_meta["scale_factor"]).repeat(2)
        results = find_module("mmengine.structures").InstanceData()
        results.bboxes = boxes
        results.scores = found.score[0, rows]
        results.labels = found.label[0, rows]
        results.coeffs = coefficients[found.prior[0, rows]]
        return results

    return predict


def _predict_masks(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """`YOLACTProtonet.predict_by_feat`."""

    @wraps(theirs)
    def predict(
        self: Any,
        mask_preds: Sequence[Tensor],  # a picture each: [h, w, N]
        segm_preds: Any,
        results_list: list[Any],
        batch_img_metas: Sequence[dict[str, Any]],
        rescale: bool = True,
        **kwargs: Any,
    ) -> list[Any]:
        for place, (masks, results, meta) in enumerate(zip(mask_preds, results_list, batch_img_metas, strict=True)):
            boxes = results.bboxes
            if not len(boxes) or self.test_cfg.mask_thr_binary < 0 or not takes(masks, boxes):
                results_list[place] = theirs(self, [masks], segm_preds, [results], [meta], rescale, **kwargs)[0]
                continue
            height, width = meta["ori_shape"][:2]
            scale_x, scale_y = meta["scale_factor"]
            if not rescale:
                height, width = round(height * scale_y), round(width * scale_x)
            results.masks = masks_in_picture(
                masks, boxes, meta["img_shape"][:2], (height, width), self.test_cfg.mask_thr
            )
            if rescale:
                boxes /= boxes.new_tensor([scale_x, scale_y]).repeat(2)
        return results_list

    return predict


_MAX_LOG_SIZE = math.log(1000 / 16)  # mmdetection's bound of what a delta can grow a box by


def _is_ssd_coder(coder: Any) -> bool:
    """Whether boxes are coded as `detect` decodes them."""
    stds = tuple(getattr(coder, "stds", ()))
    return (
        type(coder).__name__ == "DeltaXYWHBBoxCoder"
        and len(stds) == 4
        and stds[0] == stds[1]
        and stds[2] == stds[3]
        and not any(coder.means)
        and coder.clip_border
        and not coder.add_ctr_clamp
    )


def _rows(levels: Sequence[Tensor], channels: int) -> Tensor:
    """[P, channels] of maps [A * channels, h, w]."""
    return torch.cat([level.permute(1, 2, 0).reshape(-1, channels) for level in levels])
