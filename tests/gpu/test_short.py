"""Every way through the CUDA kernels once, small, beside the CPU's: on simt, and on a GPU, where compute-sanitizer goes
over this list too.

Inputs are drawn on the CPU and copied as they lie there, strides and all, so that the only kernels are the package's
own and whatever reads memory that nothing wrote is one of them: but for those of gradients, which torch hands over.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from backends import running_on, to_gpu
from calls import (
    CALLS,
    decode,
    deform_conv2d,
    deform_conv2d_gradients,
    deformable,
    mask_loss_gradients,
    results_of,
)
from conftest import skip_or_fail
from torch import Tensor

from yolact import ops

RANDOM = torch.Generator().manual_seed(0)
HEAD = CALLS["detect"].tensors
MAPS, COEFFICIENTS, BOXES, COUNT = CALLS["assemble_masks"].tensors.values()
SIZES = CALLS["assemble_run_lengths"].tensors["sizes"]
MASKS = CALLS["encode_run_lengths"].tensors["masks"]


def crowd(priors: int) -> tuple[Tensor, Tensor, Tensor]:
    """So many priors, all of them above any usual threshold, in four classes."""
    logits = torch.randn(2, priors, 5, generator=RANDOM)
    corners = torch.rand(priors, 2, generator=RANDOM)
    return torch.randn(2, priors, 4, generator=RANDOM), logits, torch.cat([corners, corners + 0.2], 1)


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=RANDOM) < 0.5


# 270 positives, more than a block has threads, of 33 channels, more than it has gradients of; prototypes by planes.
MANY = (
    torch.randn(2, 33, 20, 18, generator=RANDOM).half().permute(0, 2, 3, 1),
    torch.randn(270, 33, generator=RANDOM).bfloat16(),
    torch.arange(270) % 2,
    torch.arange(270) % 3,
    torch.tensor([[0.1, 0.2, 0.9, 0.7], [0.4, 0.4, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]]),
    noise(3, 20, 18),
)


def convolve(function: Callable[..., Any], *tensors: Tensor) -> Any:
    return function(**dict(zip(("input", "offset", "mask", "weight", "bias"), tensors, strict=True)))


CONVOLUTIONS = {
    "deform_conv2d": deform_conv2d,
    "deform_conv2d_backward": deform_conv2d_gradients,
    "deform_conv2d_backward by atomics": partial(deform_conv2d_gradients, False),
}

# Groups of both kinds, whose channels are loaded one by one; more channels than a block has; and few enough that sums
# are exact in half precision, in which torch may add up parts of a product.
GROUPS, WIDE, FEW = (tuple(deformable(*numbers, RANDOM).values()) for numbers in ((12, 2, 3), (264, 1, 1), (16, 1, 1)))

# A function, its tensors, its options.
SHORT: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], dict[str, Any]]] = {
    "detect": (ops.detect, tuple(HEAD.values()), {}),
    "detect, half": (ops.detect, tuple(tensor.half() for tensor in HEAD.values()), {"second_threshold": True}),
    "detect, bfloat16": (ops.detect, tuple(tensor.bfloat16() for tensor in HEAD.values()), {"clip": True}),
    "detect, strided": (
        ops.detect,
        tuple(part.repeat_interleave(2, -1)[..., ::2] for part in crowd(70)),
        {"max_log_size": 0.5},
    ),
    "detect, crowded": (ops.detect, crowd(1500), {"top_k": 700, "max_detections": None}),
    "detect, greedy": (ops.detect, crowd(400), {"method": "greedy", "across_classes": True}),
    "detect, levels": (ops.detect, crowd(300), {"level_sizes": [200, 90, 10], "pre_nms_top_k": 30}),
    "detect, none": (ops.detect, crowd(40), {"score_threshold": 1.0}),
    "mask_loss": (ops.mask_loss, tuple(CALLS["mask_loss"].tensors.values()), {}),
    "mask_loss, many": (ops.mask_loss, MANY, {}),
    "mask_loss_backward": (mask_loss_gradients, tuple(CALLS["mask_loss"].tensors.values()), {}),
    "mask_loss_backward, many": (mask_loss_gradients, MANY, {}),
    "fast_nms": (ops.fast_nms, tuple(CALLS["fast_nms"].tensors.values()), {"score_threshold": 0.3}),
    "fast_nms, greedy": (
        ops.fast_nms,
        tuple(CALLS["fast_nms"].tensors.values()),
        {"method": "greedy", "plus_one": True},
    ),
    "fast_nms, across": (ops.fast_nms, tuple(CALLS["fast_nms"].tensors.values()), {"across_classes": True, "top_k": 7}),
    "fast_nms, many": (
        ops.fast_nms,
        (torch.rand(1, 2000, 4, generator=RANDOM), torch.rand(1, 2, 2000, generator=RANDOM)),
        {"top_k": 900, "suppress_equal": True},
    ),
    "assemble_masks": (ops.assemble_masks, (MAPS, COEFFICIENTS, BOXES), {"size": (45, 61)}),
    "assemble_masks, count": (
        lambda maps, coefficients, boxes, count, size: ops.assemble_masks(maps, coefficients, boxes, size, count=count),
        (MAPS, COEFFICIENTS, BOXES, COUNT),
        {"size": (64, 128)},
    ),
    "assemble_masks, packed": (
        ops.assemble_masks,
        (MAPS.half(), COEFFICIENTS, BOXES),
        {"size": (30, 13), "packed": True},
    ),
    "assemble_masks, logits": (
        ops.assemble_masks,
        (MAPS.permute(0, 3, 1, 2), COEFFICIENTS.bfloat16(), BOXES),
        {"size": (40, 50), "layout": "khw", "activation": "none", "threshold": 0.0, "crop": "after"},
    ),
    "assemble_masks, outside": (ops.assemble_masks, (MAPS, COEFFICIENTS, BOXES), {"size": (9, 70), "threshold": -1.0}),
    "assemble_masks, large map": (
        ops.assemble_masks,
        (
            torch.randn(1, 90, 500, 4, generator=RANDOM),
            COEFFICIENTS[:1, :, :4].contiguous(),
            torch.tensor([[[0, 0, 1.0, 1]] * 7]),
        ),
        {"size": (60, 700)},
    ),
    "assemble_run_lengths": (ops.assemble_run_lengths, (MAPS, COEFFICIENTS, BOXES, SIZES), {}),
    "assemble_run_lengths, overflow": (ops.assemble_run_lengths, (MAPS, COEFFICIENTS, BOXES, SIZES), {"capacity": 9}),
    "assemble_run_lengths, wide": (
        ops.assemble_run_lengths,
        (
            torch.randn(2, 12, 15, 8, generator=RANDOM),
            COEFFICIENTS,
            BOXES * 0 + torch.tensor([0, 0, 1.0, 1]),
            SIZES * 20,
        ),
        {"capacity": 3000},
    ),
    "assemble_run_lengths, no crop": (
        ops.assemble_run_lengths,
        (MAPS.half(), COEFFICIENTS.half(), BOXES, SIZES),
        {"crop": "none", "activation": "none", "threshold": 0.1, "capacity": 600},
    ),
    "encode_run_lengths": (ops.encode_run_lengths, (MASKS,), {}),
    "encode_run_lengths, noise": (ops.encode_run_lengths, (noise(2, 130, 150),), {"capacity": 40_000}),
    "encode_run_lengths, overflow": (ops.encode_run_lengths, (noise(2, 130, 150),), {"capacity": 100}),
    "encode_run_lengths, turned": (ops.encode_run_lengths, (noise(3, 65, 33).mT,), {}),
    "encode_run_lengths, sliced": (ops.encode_run_lengths, (noise(4, 50, 90).byte()[::2, 1::3, 2:-3],), {}),
    "decode_run_lengths": (decode, tuple(CALLS["decode_run_lengths"].tensors.values()), {}),
    "decode_run_lengths, noise": (
        lambda *rows: ops.decode_run_lengths(ops.RunLengths(*rows), (70, 90)),
        results_of(ops.encode_run_lengths(noise(3, 70, 90), capacity=20_000)),
        {},
    ),
    **{
        f"{name}, {kind}": (partial(convolve, function), tensors, {})
        for kind, tensors in {
            "groups": GROUPS,
            "wide": WIDE,
            "half": tuple(tensor.half() for tensor in FEW),
            "bfloat16": tuple(tensor.bfloat16() if i != 1 else tensor for i, tensor in enumerate(GROUPS)),
            "double": tuple(tensor.double() for tensor in GROUPS),
        }.items()
        for name, function in CONVOLUTIONS.items()
    },
    "preprocess": (
        ops.preprocess,
        tuple(CALLS["preprocess"].tensors.values()),
        {"size": (7, 9), "mean": (1, 2, 3), "std": (4, 5, 6)},
    ),
    "preprocess, rounded": (
        ops.preprocess,
        (CALLS["preprocess"].tensors["pictures"].transpose(1, 2),),
        {"size": 40, "mean": (0, 0, 0), "std": (1, 1, 1), "round_to_uint8": True},
    ),
}


@pytest.mark.parametrize("where", ["simt", "cuda"])
@pytest.mark.parametrize("name", SHORT)
def test_short(name, where, request):
    run, tensors, options = SHORT[name]
    expected = results_of(run(*tensors, **options))
    if where == "simt":
        with running_on("simt", skip_or_fail):
            found = results_of(run(*tensors, **options))
    else:
        request.getfixturevalue("gpu")
        found = results_of(run(*(to_gpu(tensor) for tensor in tensors), **options))
    for here, there in zip(found, expected, strict=True):
        # An exponential's last bit, in scores and in the sizes of boxes.
        torch.testing.assert_close(here.cpu(), there, rtol=1e-6, atol=1e-6)
