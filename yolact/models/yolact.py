"""YOLACT: real-time instance segmentation (Bolya et al., 2019), composed as figure 2 of the paper shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from yolact.config import Config
from yolact.models.anchors import make_priors
from yolact.models.backbones import make_backbone
from yolact.models.fpn import FPN
from yolact.models.head import PredictionHead
from yolact.models.mask_iou import MaskIoUNet
from yolact.models.protonet import Protonet
from yolact.structures import RawOutputs


class Yolact(nn.Module):
    """The network of a configuration: preprocessed pictures in, raw outputs out.

    Args:
        config: fixes everything; `config.size` is the only input size taken.
        freeze_batch_norm: batch norm keeps its running statistics and its parameters get no gradient, even after
            `.train(True)`; for batches too small to have statistics of their own.
    """

    priors: Tensor  # [P, 4] float32 cx cy w h

    def __init__(self, config: Config, *, freeze_batch_norm: bool = False) -> None:
        super().__init__()
        self.config = config
        self.freeze_batch_norm = freeze_batch_norm
        channels = config.fpn.channels
        backbone = make_backbone(config)
        self.backbone = backbone
        self.fpn = FPN(backbone.channels, config.fpn)
        self.proto_net = Protonet(channels, config.protonet_channels, config.prototypes)
        self.prediction_layers = nn.ModuleList(
            [
                PredictionHead(
                    channels,
                    config.head_channels,
                    config.anchors.per_cell,
                    config.num_classes,
                    config.prototypes,
                )
            ]
        )
        self.semantic_seg_conv = nn.Conv2d(channels, config.num_classes, 1)  # for the semantic loss, training only
        self.maskiou_net = MaskIoUNet(config.num_classes) if config.mask_rescoring else None
        self.register_buffer("priors", make_priors(config), persistent=False)
        self._initialise()
        self._layers = _layers_of(self)
        self.train(self.training)

    def forward(
        self,
        images: Tensor,  # [B, 3, S, S] preprocessed
    ) -> RawOutputs:
        """Box deltas, class logits and mask coefficients of every prior, and the prototypes.

        Raises:
            ValueError: the images are not of the configuration's size.
        """
        return self._predict(self._pyramid(images))

    def forward_train(
        self,
        images: Tensor,  # [B, 3, S, S] preprocessed
    ) -> tuple[RawOutputs, Tensor]:  # and semantic logits [B, C, h, w] at P3's size
        """`forward`, and the logits that the semantic segmentation loss is taken on (section 3.4 of the paper)."""
        levels = self._pyramid(images)
        return self._predict(levels), self.semantic_seg_conv(levels[0])

    def train(self, mode: bool = True) -> Yolact:
        super().train(mode)
        if self.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval().requires_grad_(False)
        return self

    def is_as_built(self) -> bool:
        """Whether every layer is of the kind, and with the options, that the configuration gave it, for predicting."""
        return _layers_of(self) == self._layers

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        size = self.config.size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(f"images: {self.config.name} takes [B, 3, {size}, {size}], got {list(images.shape)}")
        features = self.backbone(images)  # C3, C4, C5
        return self.fpn(features)  # P3, P4, P5, P6, P7

    def _predict(self, levels: list[Tensor]) -> RawOutputs:
        prototypes = self.proto_net(levels[0])  # [B, h, w, K]
        (head,) = self.prediction_layers
        deltas, logits, coefficients = zip(*map(head, levels), strict=True)
        return RawOutputs(
            box_deltas=torch.cat(deltas, dim=1),  # [B, P, 4]
            class_logits=torch.cat(logits, dim=1),  # [B, P, 1 + C]
            mask_coefficients=torch.cat(coefficients, dim=1),  # [B, P, K]
            priors=self.priors,  # [P, 4]
            prototypes=prototypes,
        )

    def _initialise(self) -> None:
        """Xavier outside the backbone.

        A new mask-IoU net predicts IoUs of about 1, which leave scores as they are: from a bias of 0, the ReLU after it
        begins at 0 for some of the classes, and may for ever stay there.
        """
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d) and not name.startswith("backbone."):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if self.maskiou_net is not None:
            nn.init.ones_(self.get_parameter("maskiou_net.maskiou_net.10.bias"))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        # The priors go where the network goes but stay float32: half precision would move a box by pixels' parts.
        self.priors = make_priors(self.config).to(self.priors.device)
        return self


def _layers_of(model: nn.Module) -> str:
    """Every layer and its options, but for what makes a difference in training alone."""
    return re.sub(r", momentum=[^,)]+", "", repr(model)).replace("SyncBatchNorm(", "BatchNorm2d(")
