"""Random weights that find as many instances as trained ones do: for timing where no trained weights are at hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from yolact import ops
from yolact.config import get_config
from yolact.models.deformable import DeformableConv2d
from yolact.models.head import PredictionHead
from yolact.models.yolact import Yolact
from yolact.predictor import Model

INSTANCES = 36  # above a score of 0.05: what the published yolact_base and yolact_resnet50 answer on COCO on average
SPREADS = {"bbox_layer": 1.0, "conf_layer": 2.0, "mask_layer": 0.5}  # standard deviations that the head's layers get
MARGIN = 0.02  # off the logit at which the last object falls under the threshold, where others may round it away
SEED = 0


@torch.no_grad()
def stand_in(
    config: str,
    pictures: list[np.ndarray],  # [H, W, 3] uint8 RGB
    device: torch.device,
) -> Model:
    """A network of that configuration that finds `INSTANCES` objects a picture in these, on average.

    Weights are drawn; then batch norm and the last layers are scaled by what they give on the pictures, so that
    activations, boxes, classes and prototypes vary as a trained network's do.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = Model(get_config(config))
        for module in model.modules():
            if isinstance(module, DeformableConv2d):  # whose offsets begin as 0
                # By a pixel from tap to tap, by less from place to place: features that are random, sampled a pixel off
                # by a random feature, and so on from block to block, would come out otherwise for a rounding error.
                offset_mask = module.conv_offset_mask
                nn.init.normal_(offset_mask.weight, std=0.1 * offset_mask.weight[0].numel() ** -0.5)
                assert offset_mask.bias is not None
                nn.init.normal_(offset_mask.bias)
    model.to(device).train()
    images = model.preprocess(pictures)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of what passes, whole
    model(images)
    model.eval()
    head = model.prediction_layers[0]
    assert isinstance(head, PredictionHead)
    prototypes = model.proto_net[-2]  # before the ReLU
    assert isinstance(prototypes, nn.Conv2d)
    _normalise(model, images, {prototypes: 1.0} | {getattr(head, name): spread for name, spread in SPREADS.items()})
    find(model, pictures, INSTANCES)
    return model


def _normalise(model: Yolact, images: Tensor, spreads: dict[nn.Conv2d, float]) -> None:
    """Give each channel of these layers a mean of zero and that standard deviation, on these images."""
    given: dict[nn.Module, list[Tensor]] = {layer: [] for layer in spreads}
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: given[layer].append(output.transpose(0, 1).flatten(1)))
        for layer in spreads
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    for layer, spread in spreads.items():
        std, mean = torch.std_mean(torch.cat(given[layer], 1), 1)
        layer.weight.mul_((spread / std)[:, None, None, None])
        assert layer.bias is not None
        layer.bias.sub_(mean).mul_(spread / std)


@torch.no_grad()
def find(model: Model, pictures: list[np.ndarray], instances: int) -> None:
    """Let the model find so many objects a picture in these, on average, a hundred at most: by the background's bias,
    found by bisection."""
    head = model.prediction_layers[0]
    assert isinstance(head, PredictionHead)
    assert head.conf_layer.bias is not None
    raw = model(model.preprocess(pictures))
    low, high = -50.0, 50.0
    for _ in range(25):
        more = (low + high) / 2
        logits = raw.class_logits.clone()
        logits[..., 0] += more
        found = ops.detect(raw.box_deltas, logits, raw.priors, **model.config.detect.kwargs())
        if int((found.score > model.config.detect.score_threshold).sum()) >= instances * len(pictures):
            low = more
        else:
            high = more
    head.conf_layer.bias.view(head.anchors, -1)[:, 0] += low - MARGIN
