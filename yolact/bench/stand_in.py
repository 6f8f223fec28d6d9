"""Random weights that find as many instances as trained ones do: for timing where no trained weights are at hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from yolact import ops
from yolact.config import get_config
from yolact.models.head import PredictionHead
from yolact.models.yolact import Yolact
from yolact.predictor import Model

INSTANCES = 36  # above a score of 0.05: what the published yolact_base and yolact_resnet50 answer on COCO on average
LOGIT_SPREAD = 2.0  # standard deviation of the class logits
SEED = 0


@torch.no_grad()
def stand_in(
    config: str,
    pictures: list[np.ndarray],  # [H, W, 3] uint8 RGB
    device: torch.device,
) -> Model:
    """A network of that configuration that finds `INSTANCES` objects a picture in these, on average.

    Weights are drawn; batch norm takes its statistics from the pictures, so that activations are of a usual size all
    the way; the class logits are spread as a trained network's, and the background's bias is what gives the number.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = Model(get_config(config))
    model.to(device).train()
    images = model.preprocess(pictures)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of what passes, whole
    model(images)
    model.eval()
    head = model.prediction_layers[0]
    assert isinstance(head, PredictionHead)
    head.conf_layer.weight.mul_(LOGIT_SPREAD / model(images).class_logits.std())
    assert head.conf_layer.bias is not None
    head.conf_layer.bias.view(head.anchors, -1)[:, 0] = _background(model, images)
    return model


def _background(model: Yolact, images: Tensor) -> float:
    """The background's logit that leaves `INSTANCES` a picture, by bisection."""
    raw = model(images)
    low, high = 0.0, 50.0
    for _ in range(25):
        bias = (low + high) / 2
        logits = raw.class_logits.clone()
        logits[..., 0] += bias
        found = ops.detect(raw.box_deltas, logits, raw.priors, **model.config.detect.kwargs())
        if int((found.score > model.config.detect.score_threshold).sum()) > INSTANCES * len(images):
            low = bias
        else:
            high = bias
    return high
