"""From the names of other projects' weights to ours, which are the original's as its published weights have them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

CONF_LAYER = "prediction_layers.0.conf_layer"
BBOX_LAYER = "prediction_layers.0.bbox_layer"
MASK_IOU_LAYER = "maskiou_net.maskiou_net.10"  # the last

# mmdetection counts stages from one and pyramid levels from the finest.
_MMDETECTION = (
    (r"backbone\.layer([1-4])\.", lambda m: f"backbone.layers.{int(m[1]) - 1}."),
    (r"neck\.lateral_convs\.([0-2])\.conv\.", lambda m: f"fpn.lat_layers.{2 - int(m[1])}."),
    (r"neck\.fpn_convs\.([0-2])\.conv\.", lambda m: f"fpn.pred_layers.{2 - int(m[1])}."),
    (r"neck\.fpn_convs\.([34])\.conv\.", lambda m: f"fpn.downsample_layers.{int(m[1]) - 3}."),
    (r"bbox_head\.head_convs\.0\.conv\.", "prediction_layers.0.upfeature.0."),
    (r"bbox_head\.conv_cls\.", f"{CONF_LAYER}."),
    (r"bbox_head\.conv_reg\.", f"{BBOX_LAYER}."),
    (r"bbox_head\.conv_coeff\.", "prediction_layers.0.mask_layer."),
    (r"mask_head\.protonet\.", "proto_net."),
    (r"mask_head\.segm_branch\.segm_conv\.", "semantic_seg_conv."),
    (r"segm_head\.segm_conv\.", "semantic_seg_conv."),  # 2.x
)


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The original's weights without what old files carry besides: copies of the backbone, spare downsample layers."""
    spare = re.compile(r"backbone\.layer\d|fpn\.downsample_layers\.([2-9]|\d\d)")
    return {name: tensor for name, tensor in state.items() if not spare.match(name)}


def from_mmdetection(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """mmdetection's weights under our names, the background class moved from last to first."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in _MMDETECTION:
            name, count = re.subn(f"^{pattern}", replacement, name)
            if count:
                break
        renamed[name] = tensor
    anchors = renamed[f"{BBOX_LAYER}.weight"].shape[0] // 4
    for name in (f"{CONF_LAYER}.weight", f"{CONF_LAYER}.bias"):
        if name in renamed:
            by_anchor = renamed[name].unflatten(0, (anchors, -1))  # [anchors, C + 1, ...]
            renamed[name] = torch.cat((by_anchor[:, -1:], by_anchor[:, :-1]), dim=1).flatten(0, 1)
    return renamed
