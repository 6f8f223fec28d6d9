"""Small models, and how far two networks are apart."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor, nn

import yolact
from yolact.config import get_config
from yolact.models.deformable import DeformableConv2d
from yolact.structures import RawOutputs


def create(
    name: str = "yolact_lite0", size: int = 64, seed: int = 0, *, mask_rescoring: bool | None = None
) -> yolact.Model:
    """A small network whose batch norms have statistics, scales and shifts worth folding, and offsets of a pixel.

    Its net for scores of masks, if any, tells different ones apart.
    """
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    config = get_config(name)
    rescoring = config.mask_rescoring and size >= 249 if mask_rescoring is None else mask_rescoring
    model = yolact.Model(replace(config, size=size, mask_rescoring=rescoring).with_num_classes(2))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.2), (module.running_var, 0.8), (module.bias, -0.2)):
                tensor.data.uniform_(low, low + 0.4, generator=random)
            module.weight.data.uniform_(0.6, 1.2, generator=random)
        elif isinstance(module, DeformableConv2d):
            for tensor in (module.bias, module.conv_offset_mask.bias):
                tensor.data.uniform_(-1, 1, generator=random)
            module.conv_offset_mask.weight.data.normal_(0, 0.03, generator=random)
    if model.maskiou_net is not None:
        *layers, last = (layer for layer in model.maskiou_net.modules() if isinstance(layer, nn.Conv2d))
        for layer in layers:
            layer.weight.data.mul_(1.5)
        last.bias.data.fill_(0.4)
    return model.eval()


def images(batch: int = 1, size: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def distance(found: RawOutputs, expected: RawOutputs) -> float:
    """The largest difference of any output, in units of that output's largest value."""
    tensors = [(getattr(found, f.name).float(), getattr(expected, f.name)) for f in fields(RawOutputs)]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in tensors)


ROUNDING = 2e-5  # float32: folding and another order of sums, through up to a hundred layers


def scores(model: yolact.Model) -> Tensor:
    return model.predict(picture(), score_threshold=0)[0].scores
