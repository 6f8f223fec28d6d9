"""Every backbone that a configuration can name, and what differs between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor, nn

from yolact.config import CONFIGS, Config
from yolact.errors import UserError
from yolact.models.darknet import DarkNet53
from yolact.models.efficientnet_lite import EfficientNetLite0
from yolact.models.mobilenet_v2 import MobileNetV2, mobilenet_v2_names
from yolact.models.resnet import ResNet, resnet50, resnet101, resnet152
from yolact.models.timm_backbone import TimmBackbone, preprocessing_of, timms_name

Backbone = ResNet | DarkNet53 | EfficientNetLite0 | MobileNetV2 | TimmBackbone

_BACKBONES: dict[str, Callable[..., Backbone]] = {
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
    "darknet53": DarkNet53,
    "efficientnet_lite0": EfficientNetLite0,
    "mobilenet_v2": MobileNetV2,
}


def make_backbone(config: Config) -> Backbone:
    """The backbone of a configuration, of random weights: pictures [B, 3, S, S] in, C3, C4 and C5 out.

    Raises:
        UserError: it is one of timm's, which is not installed or does not make such feature maps.
    """
    if (name := timms_name(config.backbone)) is not None:
        return TimmBackbone(name, config.size)
    # Deformable are ResNets alone, as the configuration saw to.
    options = {} if config.deformable is None else {"deformable": config.deformable}
    return _BACKBONES[config.backbone](**options)


def with_backbone(config: Config, backbone: str | None) -> Config:
    """The same configuration on another backbone, normalised as that one's ImageNet weights want it; None: the same.

    Raises:
        UserError: there is no such backbone, or the configuration has deformable convolutions that it cannot have.
    """
    if backbone in (None, config.backbone):
        return config
    assert backbone is not None
    try:
        other = replace(config, name=f"{config.name} with {backbone}", backbone=backbone)
    except ValueError as error:
        raise UserError(str(error)) from None
    if (name := timms_name(backbone)) is not None:
        how = preprocessing_of(name)
    else:
        how = next(known.preprocessing for known in CONFIGS.values() if known.backbone == backbone)
    return replace(other, preprocessing=replace(how, resize=config.preprocessing.resize))


def under_our_names(backbone: Backbone, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a classifier of torchvision's, timm's or mmdetection's as its backbone here names them."""
    if isinstance(backbone, TimmBackbone):
        return backbone.under_our_names(tensors)
    if isinstance(backbone, MobileNetV2):
        return mobilenet_v2_names(tensors)
    # A ResNet's stages, which the others count from one.
    return {re.sub(r"^layer([1-4])\.", lambda m: f"layers.{int(m[1]) - 1}.", n): t for n, t in tensors.items()}


def layers_to_c4(backbone: Backbone) -> list[nn.Module]:
    """The layers that C4 is computed by."""
    if isinstance(backbone, TimmBackbone):
        return backbone.layers_to_c4()
    layers: list[nn.Module] = []
    for child in backbone.children():
        layers += child if isinstance(child, nn.ModuleList) else [child]  # lists of stages or blocks unrolled
    return layers[: backbone.layers_to_c4]
