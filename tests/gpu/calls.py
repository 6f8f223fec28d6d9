"""A call of each operator, small: what the tests of streams, devices and waits put through its paces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from yolact import ops


@dataclass(frozen=True)
class Call:
    """A public function and tensors for it, on the CPU."""

    run: Callable[..., Any]
    tensors: dict[str, Tensor]

    def on(self, device: torch.device | str) -> dict[str, Tensor]:
        return {name: tensor.to(device) for name, tensor in self.tensors.items()}


def results_of(found: Any) -> tuple[Tensor, ...]:
    """The tensors of a result."""
    if is_dataclass(found):
        return tuple(getattr(found, field.name) for field in fields(found))
    return found if isinstance(found, tuple) else (found,)


def decode(data: Tensor, length: Tensor, needed: Tensor, size: Tensor) -> Tensor:
    return ops.decode_run_lengths(ops.RunLengths(data, length, needed, size), (40, 50))


def mask_loss_gradients(
    prototypes: Tensor, coefficients: Tensor, picture: Tensor, truth: Tensor, boxes: Tensor, masks: Tensor
) -> tuple[Tensor, ...]:
    inputs = prototypes.detach().requires_grad_(), coefficients.detach().requires_grad_()
    return torch.autograd.grad(ops.mask_loss(*inputs, picture, truth, boxes, masks).sum(), inputs)


def deform_conv2d(deterministic: bool = True, **tensors: Tensor) -> Tensor:
    return ops.deform_conv2d(**tensors, padding=1, deterministic=deterministic)


def deform_conv2d_gradients(deterministic: bool = True, **tensors: Tensor) -> tuple[Tensor, ...]:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    return torch.autograd.grad(deform_conv2d(deterministic, **leaves).sum(), list(leaves.values()))


def deformable(channels: int, groups: int, offset_groups: int, random: torch.Generator) -> dict[str, Tensor]:
    """A convolution of 3 x 3 whose numbers are such that sums and products of them are exact, in any order."""

    def whole(most: int, *shape: int) -> Tensor:
        return torch.randint(-most, most + 1, shape, generator=random).float()

    return {
        "input": whole(3, 2, channels, 5, 7).contiguous(memory_format=torch.channels_last),
        "offset": whole(8, 2, 18 * offset_groups, 5, 7) / 4,
        "mask": whole(1, 2, 9 * offset_groups, 5, 7).exp2(),
        "weight": whole(1, 4, channels // groups, 3, 3).contiguous(memory_format=torch.channels_last),
        "bias": whole(9, 4),
    }


def calls() -> dict[str, Call]:
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 30, 2, generator=random)
    boxes = torch.cat([corners, corners + 0.3], -1)
    logits = torch.randn(2, 30, 5, generator=random) * 3
    head = {"box_deltas": torch.randn(2, 30, 4, generator=random), "class_logits": logits, "priors": boxes[0]}
    masks = torch.rand(6, 40, 50, generator=random) < 0.02
    encoded = ops.encode_run_lengths(masks, capacity=512)
    assembly = {
        "prototypes": torch.randn(2, 12, 15, 8, generator=random).relu(),
        "coefficients": torch.randn(2, 7, 8, generator=random),
        "boxes": boxes[:, :7].contiguous(),
        "count": torch.tensor([7, 4]),
    }
    positives = {
        "prototypes": assembly["prototypes"],
        "coefficients": torch.randn(9, 8, generator=random),
        "picture": torch.arange(9) % 2,
        "truth": torch.arange(9) % 4,
        "boxes": boxes[0, :4],
        "masks": torch.rand(4, 12, 15, generator=random) < 0.5,
    }
    sizes = torch.tensor([[40, 50], [33, 70]])
    pictures = torch.randint(0, 256, (2, 20, 30, 3), dtype=torch.uint8, generator=random)
    return {
        "detect": Call(ops.detect, head),
        "fast_nms": Call(ops.fast_nms, {"boxes": boxes, "scores": torch.rand(2, 3, 30, generator=random)}),
        "assemble_masks": Call(lambda **tensors: ops.assemble_masks(**tensors, size=(40, 50)), assembly),
        "assemble_run_lengths": Call(ops.assemble_run_lengths, assembly | {"sizes": sizes}),
        "encode_run_lengths": Call(ops.encode_run_lengths, {"masks": masks}),
        "decode_run_lengths": Call(decode, {name: getattr(encoded, name) for name in ops.RunLengths.__annotations__}),
        "mask_loss": Call(ops.mask_loss, positives),
        "mask_loss_backward": Call(mask_loss_gradients, positives),
        "deform_conv2d": Call(deform_conv2d, deformable(8, 1, 1, random)),
        "deform_conv2d_backward": Call(deform_conv2d_gradients, deformable(8, 1, 1, random)),
        "preprocess": Call(lambda pictures: ops.preprocess(pictures, 24, (1, 2, 3), (4, 5, 6)), {"pictures": pictures}),
    }


CALLS = calls()
