"""What is exported: the network alone, and the whole way from pictures, as modules of tensors in and tensors out."""

from __future__ import annotations

import copy
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from yolact import ops
from yolact.engine.network import Network, is_plain, lean_network
from yolact.engine.rescoring import lean_mask_iou, rescore
from yolact.models.yolact import Yolact
from yolact.options import DetectOptions
from yolact.predictor import Model
from yolact.structures import RawOutputs

Masks = Literal["run-lengths", "dense", "none"]
MASKS = get_args(Masks)


def inference_network(model: Yolact) -> Network:
    """What `model.eval()` computes in float32: with batch norm folded, unless the model has parts of its own."""
    if is_plain(model):
        return lean_network(model, torch.float32, portable=True)
    return copy.deepcopy(model).float().eval()


class RawNetwork(nn.Module):
    """The network: preprocessed pictures [B, 3, S, S] float32 to the fields of `RawOutputs`, in their order."""

    def __init__(self, model: Yolact) -> None:
        super().__init__()
        self.network = inference_network(model)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        raw: RawOutputs = self.network(images)
        return raw.box_deltas, raw.class_logits, raw.mask_coefficients, raw.priors, raw.prototypes


class Pictures(nn.Module):
    """The whole way with our operators: pictures [B, H, W, 3] uint8 RGB to results, a dictionary of tensors.

    boxes [B, D, 4] float32 xyxy in pixels of the picture, label [B, D] int64 (-1 past the count), score [B, D],
    count [B] int64; of rows b * D + d, run_lengths [B * D, capacity] uint8 (COCO's strings), length [B * D] and needed
    [B * D] int64 (a row with needed > capacity has no string), or masks [B, D, H, W] bool; and mask_score [B, D] of a
    network that scores masks, in the order of score.
    """

    def __init__(self, model: Model, options: DetectOptions, masks: Masks, capacity: int | None) -> None:
        super().__init__()
        self.network = inference_network(model)
        self.config, self.options = model.config, options
        self.masks, self.capacity = masks, capacity
        self.mask_iou = None if model.maskiou_net is None else lean_mask_iou(model.maskiou_net)
        self.rows = model.rows  # a function, as the network is: what is no module gives no parameters
        self.eval()

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        how, (batch, height, width, _) = self.config.preprocessing, pictures.shape
        rounded = how.resize == "uint8"
        images = ops.preprocess(pictures, self.config.size, how.mean, how.std, round_to_uint8=rounded)  # [B, 3, S, S]
        raw: RawOutputs = self.network(images)
        found = ops.detect(raw.box_deltas, raw.class_logits, raw.priors, **self.options.kwargs())
        sizes = torch.stack([images.new_full((batch,), side, dtype=torch.int64) for side in (height, width)], 1)
        rows = self.rows(raw, found, sizes, 0.0)  # [B, D] of everything, boxes in pixels
        results = {"boxes": rows.boxes, "label": rows.labels, "score": rows.scores, "count": rows.count}
        parts = rows.prototypes, rows.coefficients, rows.relative_boxes
        if self.masks == "dense":
            results["masks"] = ops.assemble_masks(*parts, (height, width), count=rows.count)
        elif self.masks == "run-lengths":
            run_lengths = ops.assemble_run_lengths(*parts, sizes, count=rows.count, capacity=self.capacity)
            results["run_lengths"] = run_lengths.data
            results["length"] = run_lengths.length
            results["needed"] = run_lengths.needed
        if self.mask_iou is not None:  # last, so that the others have their places in every network
            rescored = rescore(rows, self.mask_iou, "box", 0.0, ragged=False)
            assert rescored.mask_scores is not None
            results["mask_score"] = rescored.mask_scores
        return results
