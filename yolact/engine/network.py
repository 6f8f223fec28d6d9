"""The network once more, for inference alone: its layers as fused convolutions, and nothing that only training needs.

The functions below mirror the modules of `yolact.models`, one each; tests hold them equal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolact.engine.convolution import (
    NONE,
    RELU,
    RELU6,
    Activation,
    Convolution,
    DeformableConvolution,
    OneDnnConvolution,
    PlainConvolution,
    Unit,
    leaky_relu,
    onednn_fuses,
)
from yolact.models.darknet import DarkNet53, DarkNetBlock
from yolact.models.deformable import DeformableConv2d
from yolact.models.efficientnet_lite import TAPS, EfficientNetLite0, InvertedResidual
from yolact.models.fpn import FPN
from yolact.models.head import PredictionHead
from yolact.models.mobilenet_v2 import TAPS as MOBILENET_V2_TAPS
from yolact.models.mobilenet_v2 import InvertedResidual as MobileNetV2Block
from yolact.models.mobilenet_v2 import MobileNetV2
from yolact.models.protonet import Protonet
from yolact.models.resnet import Bottleneck, ResNet
from yolact.models.timm_backbone import TimmBackbone
from yolact.models.yolact import Yolact
from yolact.structures import RawOutputs

Network = Callable[[Tensor], RawOutputs]  # [B, 3, S, S] preprocessed
_Layer = Callable[[Tensor], Tensor]


def lean_network(model: Yolact, dtype: torch.dtype, *, portable: bool = False) -> Network:
    """What `model.eval()` computes, with batch norm folded into the convolutions and channels last.

    Args:
        model: `is_plain` holds for it. Its weights are read now and at the first batch of another size.
        dtype: of weights, activations and outputs; the priors stay float32.
        portable: whether it keeps to torch's public functions, for whoever exports it.
    """
    fused = not portable and model.priors.device.type == "cpu" and onednn_fuses(dtype)
    plain: Unit = partial(OneDnnConvolution if fused else PlainConvolution, dtype=dtype)

    def unit(conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, activation: Activation = NONE) -> Convolution:
        if isinstance(conv, DeformableConv2d):
            return DeformableConvolution(conv, norm, activation, dtype=dtype, offset_mask=plain(conv.conv_offset_mask))
        return plain(conv, norm, activation)

    backbone = (
        _timm(model.backbone, dtype)
        if isinstance(model.backbone, TimmBackbone)
        else _BACKBONES[type(model.backbone)](model.backbone, unit)
    )
    pyramid = _pyramid(model.fpn, unit)
    proto_net = _proto_net(model.proto_net, unit)
    (layers,) = model.prediction_layers
    head = _head(cast(PredictionHead, layers), unit)
    priors = model.priors

    def network(images: Tensor) -> RawOutputs:
        images = images.to(dtype, memory_format=torch.channels_last)
        levels = pyramid(backbone(images))  # P3, P4, P5, P6, P7
        prototypes = proto_net(levels[0])  # [B, h, w, K]
        deltas, logits, coefficients = zip(*map(head, levels), strict=True)
        return RawOutputs(
            box_deltas=torch.cat(deltas, dim=1),  # [B, P, 4]
            class_logits=torch.cat(logits, dim=1),  # [B, P, 1 + C]
            mask_coefficients=torch.cat(coefficients, dim=1).tanh_(),  # [B, P, K]
            priors=priors,  # [P, 4]
            prototypes=prototypes,
        )

    return network


def is_plain(model: Yolact) -> bool:
    """Whether a network is what `yolact.models` builds, so that `lean_network` computes the same.

    It is not with hooks, with other layers, parametrised ones among them, or with a `forward` of its own; nor is
    EfficientNet-Lite0 at a size whose halves are odd, where it pads in another way.
    """
    if type(model.backbone) is EfficientNetLite0 and model.config.size % 32:
        return False
    if any(getattr(type(model), name) is not getattr(Yolact, name) for name in ("forward", "_pyramid", "_predict")):
        return False
    if not model.is_as_built():
        return False
    known = ("yolact.models.", "torch.nn.modules.") + (("timm.",) if isinstance(model.backbone, TimmBackbone) else ())
    return all(
        (module is model or type(module).__module__.startswith(known))
        and not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
        for module in model.modules()
    )


def _chain(layers: Sequence[_Layer]) -> _Layer:
    def run(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x

    return run


def _stages(layers: Sequence[_Layer]) -> Callable[[Tensor], list[Tensor]]:
    def run(x: Tensor) -> list[Tensor]:
        stages = []
        for layer in layers:
            x = layer(x)
            stages.append(x)
        return stages

    return run


def _resnet(net: ResNet, unit: Unit) -> Callable[[Tensor], list[Tensor]]:
    stem = unit(net.conv1, net.bn1, RELU)
    stages = _stages([_chain([_bottleneck(block, unit) for block in _sequence(stage)]) for stage in net.layers])
    return lambda x: stages(F.max_pool2d(stem(x), 3, stride=2, padding=1))[1:]


def _bottleneck(block: Bottleneck, unit: Unit) -> _Layer:
    reduce, spatial = unit(block.conv1, block.bn1, RELU), unit(block.conv2, block.bn2, RELU)
    expand = unit(block.conv3, block.bn3, RELU)
    around: _Layer = unit(*_sequence(block.downsample)) if block.downsample is not None else lambda x: x
    # Without a convolution around it a block may write over its input: what leaves a stage goes into one that has.
    return lambda x: expand(spatial(reduce(x)), around(x))


def _darknet(net: DarkNet53, unit: Unit) -> Callable[[Tensor], list[Tensor]]:
    def convolution(layers: Any) -> _Layer:
        conv, norm, activation = layers
        return unit(conv, norm, leaky_relu(activation.negative_slope))

    def block(layers: DarkNetBlock) -> _Layer:
        reduce, spatial = convolution(layers.conv1), convolution(layers.conv2)
        return lambda x: spatial(reduce(x)).add_(x)

    stem = convolution(net._preconv)
    stages = []
    for layer in net.layers:
        down, *blocks = _sequence(layer)
        stages.append(_chain([convolution(down), *map(block, blocks)]))
    run = _stages(stages)
    return lambda x: run(stem(x))[2:]


def _efficientnet_lite0(net: EfficientNetLite0, unit: Unit) -> Callable[[Tensor], list[Tensor]]:
    stem = unit(net._conv_stem, net._bn0, RELU6)
    run = _stages([_inverted_residual(cast(InvertedResidual, block), unit) for block in net._blocks])

    def features(x: Tensor) -> list[Tensor]:
        blocks = run(stem(x))
        return [blocks[tap] for tap in TAPS]

    return features


def _inverted_residual(block: InvertedResidual, unit: Unit) -> _Layer:
    layers: list[_Layer] = []
    if block._expand_conv is not None:
        layers.append(unit(cast(nn.Conv2d, block._expand_conv), block._bn0, RELU6))
    layers.append(unit(block._depthwise_conv, block._bn1, RELU6))
    inner, project = _chain(layers), unit(block._project_conv, block._bn2)
    # The input is written over; what C3 to C5 are taken from goes into blocks that are not residual.
    return (lambda x: project(inner(x), x)) if block.residual else (lambda x: project(inner(x)))


def _mobilenet_v2(net: MobileNetV2, unit: Unit) -> Callable[[Tensor], list[Tensor]]:
    def convolution(layers: Any) -> _Layer:
        conv, norm, _ = layers
        return unit(conv, norm, RELU6)

    def block(layers: MobileNetV2Block) -> _Layer:
        *units, conv, norm = _sequence(layers.conv)
        inner, project = _chain([*map(convolution, units)]), unit(conv, norm)
        # As in EfficientNet-Lite0, nothing writes over C3 to C5.
        return (lambda x: project(inner(x), x)) if layers.residual else (lambda x: project(inner(x)))

    stem, *blocks = net.features
    run = _stages([convolution(stem), *(block(cast(MobileNetV2Block, layers)) for layers in blocks)])

    def features(x: Tensor) -> list[Tensor]:
        layers = run(x)
        return [layers[tap] for tap in MOBILENET_V2_TAPS]

    return features


def _timm(net: TimmBackbone, dtype: torch.dtype) -> Callable[[Tensor], list[Tensor]]:
    """As it is, of whatever layers that may be, but in the precision and the layout of the rest."""
    same = copy.deepcopy(net).eval().requires_grad_(False).to(dtype)
    return same.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _pyramid(net: FPN, unit: Unit) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    laterals = [unit(cast(nn.Conv2d, conv)) for conv in net.lat_layers]
    outputs = [unit(cast(nn.Conv2d, conv), None, RELU if net.options.relu else NONE) for conv in net.pred_layers]
    to_p6, to_p7 = (unit(cast(nn.Conv2d, conv)) for conv in net.downsample_layers)

    def run(features: Sequence[Tensor]) -> list[Tensor]:
        x: Tensor | None = None
        levels = []  # from P5 down to P3
        for feature, lateral, output in zip(reversed(features), laterals, outputs, strict=True):
            if x is not None:
                x = F.interpolate(x, size=feature.shape[2:], mode="bilinear", align_corners=False)
            x = lateral(feature, x)
            levels.append(output(x))
        p6 = to_p6(features[-1] if net.options.p6_from == "C5" else levels[0])
        return [*reversed(levels), p6, to_p7(p6)]

    return run


def _proto_net(net: Protonet, unit: Unit) -> _Layer:
    layers: list[_Layer] = []
    for module, following in zip(net, [*list(net)[1:], None], strict=True):
        if isinstance(module, nn.Conv2d):
            layers.append(unit(module, None, RELU if isinstance(following, nn.ReLU) else NONE))
        elif isinstance(module, nn.Upsample):
            layers.append(module)
    run = _chain(layers)
    return lambda p3: run(p3).permute(0, 2, 3, 1)


def _head(net: PredictionHead, unit: Unit) -> Callable[[Tensor], tuple[Tensor, ...]]:
    upfeature = unit(cast(nn.Conv2d, net.upfeature[0]), None, RELU)
    layers = [unit(layer) for layer in (net.bbox_layer, net.conf_layer, net.mask_layer)]

    def run(level: Tensor) -> tuple[Tensor, ...]:  # deltas, logits, coefficients before tanh: [B, p, .]
        x = upfeature(level)
        return tuple(net.by_prior(layer(x)) for layer in layers)

    return run


def _sequence(module: nn.Module) -> list[Any]:
    return list(cast(nn.Sequential, module))


_BACKBONES: dict[type[nn.Module], Callable[[Any, Unit], Callable[[Tensor], list[Tensor]]]] = {
    ResNet: _resnet,
    DarkNet53: _darknet,
    EfficientNetLite0: _efficientnet_lite0,
    MobileNetV2: _mobilenet_v2,
}
