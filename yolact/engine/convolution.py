"""Convolutions for inference alone: batch norm folded in, and what follows them done in the same pass.

On a CPU they are oneDNN's fused ones, through the operators that torch's own compiler emits (`torch.ops.mkldnn`). Those
are not public: a probe compares them with plain convolutions before any is used, and without them all of this is plain.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init
from torch.nn.utils.fusion import fuse_conv_bn_weights

from yolact.models.deformable import DeformableConv2d, offset_and_mask
from yolact.models.efficientnet_lite import SamePadConv2d
from yolact.ops import deform_conv2d

# Batch sizes, or numbers of threads, that a convolution keeps reordered weights for: the batch size of full batches and
# that of a stream's last one.
_LAYOUTS = 2


@dataclass(frozen=True)
class Activation:
    """An activation as torch and as oneDNN know it."""

    in_place: Callable[[Tensor], Tensor]
    name: str
    numbers: list[float | None] = field(default_factory=list)


NONE = Activation(lambda x: x, "none")
RELU = Activation(lambda x: F.relu(x, inplace=True), "relu")
RELU6 = Activation(lambda x: F.relu6(x, inplace=True), "hardtanh", [0.0, 6.0])


def leaky_relu(slope: float) -> Activation:
    return Activation(lambda x: F.leaky_relu(x, slope, inplace=True), "leaky_relu", [slope])


class Convolution(Protocol):
    """activation(convolution(x) + plus), which may be written over `plus`; the activation is then none or ReLU."""

    def __call__(
        self,
        x: Tensor,  # [B, C, h, w], channels last
        plus: Tensor | None = None,  # [B, C', h', w'], as the result
    ) -> Tensor: ...


class Unit(Protocol):
    """What makes a convolution for inference of the network's layers."""

    def __call__(
        self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, activation: Activation = NONE
    ) -> Convolution: ...


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a convolution's windows lie."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


def fold(
    conv: nn.Conv2d, norm: nn.BatchNorm2d | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None, Geometry]:  # weight [C', C / groups, kh, kw], bias [C']
    """The weights of a convolution and the batch norm after it as those of one convolution, folded in float32."""
    weight, bias = conv.weight.detach().float(), None if conv.bias is None else conv.bias.detach().float()
    if norm is not None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        statistics = norm.running_mean.float(), norm.running_var.float()
        scale, shift = norm.weight.detach().float(), norm.bias.detach().float()
        weight, bias = fuse_conv_bn_weights(weight, bias, *statistics, norm.eps, scale, shift)
        weight, bias = weight.detach(), bias.detach()
    assert isinstance(conv.padding, tuple)
    padding = list(conv.padding)
    if isinstance(conv, SamePadConv2d):
        weight, padding = _pad_evenly(conv, weight)
    geometry = Geometry(list(conv.stride), padding, list(conv.dilation), conv.groups)
    weight = weight.to(dtype, memory_format=torch.channels_last)
    return weight, None if bias is None else bias.to(dtype), geometry


def _pad_evenly(conv: nn.Conv2d, weight: Tensor) -> tuple[Tensor, list[int]]:
    """The weight and the padding of a convolution that pads one pixel more at the end than at the beginning.

    A first row and column of zeros in the kernel take the place of that pixel, and nobody copies the input to pad it:
    with a stride of two and an even side, the windows are the same.
    """
    before = [(kernel - stride) // 2 for kernel, stride in zip(conv.kernel_size, conv.stride, strict=True)]
    after = [kernel - stride - b for kernel, stride, b in zip(conv.kernel_size, conv.stride, before, strict=True)]
    return F.pad(weight, [after[1] - before[1], 0, after[0] - before[0], 0]), after


class PlainConvolution:
    """By torch's public functions, on any device."""

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d | None = None,
        activation: Activation = NONE,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.weight, self.bias, self.geometry = fold(conv, norm, dtype)
        self.activation = activation

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        g = self.geometry
        x = F.conv2d(x, self.weight, self.bias, g.stride, g.padding, g.dilation, g.groups)
        return self.activation.in_place(x if plus is None else x.add_(plus))


class DeformableConvolution:
    """By our operator.

    Offsets are of the network's own type: in a half one they lose no more than the features that they come from, and
    float32 offsets bring its outputs no nearer to float32's.
    """

    def __init__(
        self,
        conv: DeformableConv2d,
        norm: nn.BatchNorm2d | None = None,
        activation: Activation = NONE,
        *,
        dtype: torch.dtype = torch.float32,
        offset_mask: Convolution,
    ) -> None:
        self.weight, self.bias, self.geometry = fold(conv, norm, dtype)
        self.activation, self.offset_mask = activation, offset_mask

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        g = self.geometry
        offset, mask = offset_and_mask(self.offset_mask(x))
        x = deform_conv2d(x, offset, self.weight, self.bias, g.stride, g.padding, g.dilation, mask)
        return self.activation.in_place(x if plus is None else x.add_(plus))


class OneDnnConvolution:
    """By oneDNN's fused primitives, the weights reordered for each input shape, which is met again every time.

    And for the number of threads: in the order for another, oneDNN takes several times as long.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d | None = None,
        activation: Activation = NONE,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.layers, self.dtype, self.activation = (conv, norm), dtype, activation
        # No weight of its own but those reordered: an input of another shape, which is rare, folds the layers again.
        self.reordered: dict[tuple[int, torch.Size], tuple[Tensor, Tensor | None, Geometry]] = {}
        self.lock = threading.Lock()

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        key = torch.get_num_threads(), x.shape
        weight, bias, g = self.reordered.get(key) or self._reorder(key)
        where = (g.padding, g.stride, g.dilation, g.groups)
        a = self.activation
        if plus is None:
            return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *where, a.name, a.numbers, "")
        then = (None, [], None) if a is NONE else (a.name, a.numbers, None)
        return torch.ops.mkldnn._convolution_pointwise_.binary(plus, x, weight, bias, *where, "add", 1.0, *then)

    def _reorder(self, key: tuple[int, torch.Size]) -> tuple[Tensor, Tensor | None, Geometry]:
        weight, bias, g = fold(*self.layers, self.dtype)
        weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, g.padding, g.stride, g.dilation, g.groups, list(key[1])
        )
        with self.lock:
            layouts = list(dict.fromkeys(map(_layout, self.reordered)))  # the oldest first
            if _layout(key) not in layouts and len(layouts) == _LAYOUTS:
                self.reordered = {kept: made for kept, made in self.reordered.items() if _layout(kept) != layouts[0]}
            self.reordered[key] = weight, bias, g
        return weight, bias, g


def _layout(key: tuple[int, torch.Size]) -> tuple[int, int]:
    """The number of threads and the batch size."""
    threads, shape = key
    return threads, shape[0]


@cache
def onednn_fuses(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's fused convolutions, under the names and with the meaning known here."""
    if not torch.backends.mkldnn.is_available():
        return False
    # What the caller has set, a default device or autocast, neither changes nor is changed.
    with torch.device("cpu"), torch.autocast("cpu", enabled=False):
        return _fuses(dtype)


def _fuses(dtype: torch.dtype) -> bool:
    # No random numbers: the generator is the whole process's.
    conv, norm = skip_init(nn.Conv2d, 16, 16, 3, padding=1), nn.BatchNorm2d(16).eval()
    for parameter in conv.parameters():
        parameter.data = torch.linspace(-99, 99, parameter.numel()).sin().div(12).view_as(parameter)
    x = torch.linspace(-1, 1, 16 * 36, dtype=dtype).view(1, 6, 6, 16).permute(0, 3, 1, 2)  # channels last
    try:
        for activation, adds in ((NONE, 0), (RELU, 0), (RELU6, 0), (leaky_relu(0.1), 0), (NONE, 1), (RELU, 1)):
            made = [kind(conv, norm, activation, dtype=dtype) for kind in (PlainConvolution, OneDnnConvolution)]
            expected, found = (one(x, x.flip(1) if adds else None).float() for one in made)
            if not torch.allclose(found, expected, atol=1e-5 if dtype == torch.float32 else 0.05):
                return False
    except (RuntimeError, AttributeError, TypeError):  # what the dispatcher raises on a name or signature it lacks
        return False
    return True
