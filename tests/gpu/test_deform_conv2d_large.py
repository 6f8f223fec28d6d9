"""The deformable convolution at the sizes that it has in a network: how it adds by default, and in order when asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from yolact import ops
from yolact.ops import reference

NAMES = ("output", "input", "offset", "mask", "weight", "bias")
# Of the largest value: sums of 1152 products, or of 2450 positions, in another order; half has 10 bits, bfloat16 has 7,
# of samples and of the columns' gradient.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def draw(dtype: torch.dtype) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    tensors = (
        torch.randn(2, 128, 35, 35, generator=random).contiguous(memory_format=torch.channels_last),
        torch.randn(2, 18, 35, 35, generator=random) * 2,
        torch.rand(2, 9, 35, 35, generator=random),
        torch.randn(64, 128, 3, 3, generator=random) / 34,
        torch.randn(64, generator=random),
    )
    return [tensor.to(dtype) for tensor in tensors]


def run(tensors: list[Tensor], **options: bool) -> dict[str, Tensor]:
    """The output, and the gradients of five by what makes each output count differently."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    input, offset, mask, weight, bias = leaves
    convolve = ops.deform_conv2d if options else reference.deform_conv2d
    output = convolve(input, offset, weight, bias, padding=1, mask=mask, **options)
    factors = torch.linspace(-1, 1, output.numel(), device=output.device).view_as(output).to(output.dtype)
    return dict(zip(NAMES, (output.detach(), *torch.autograd.grad(output, leaves, factors)), strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_orders_of_sums(dtype, gpu):
    tensors = [tensor.to(gpu) for tensor in draw(dtype)]
    expected = run([tensor.double() for tensor in tensors])
    in_order, by_atomics = (run(tensors, deterministic=deterministic) for deterministic in (True, False))
    for found in (in_order, by_atomics):
        for name, wanted in expected.items():
            assert found[name].dtype == dtype
            difference = (found[name].double() - wanted).abs().max()
            assert difference <= TOLERANCE[dtype] * wanted.abs().max(), name
    for _ in range(5):
        again = run(tensors, deterministic=True)
        assert all(torch.equal(again[name], in_order[name]) for name in NAMES)
        # Atomics are the input's gradient's alone.
        again = run(tensors, deterministic=False)
        assert all(torch.equal(again[name], by_atomics[name]) for name in NAMES if name != "input")


def test_torchs_own_switch_is_followed(gpu):
    tensors = [tensor.to(gpu) for tensor in draw(torch.float32)]
    wanted = run(tensors, deterministic=True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # as cuBLAS wants a variable of the environment set
    try:
        found = run(tensors, deterministic=None)
    finally:
        torch.use_deterministic_algorithms(before)
    assert torch.equal(found["input"], wanted["input"])


def test_past_two_to_the_31_elements(gpu):
    """The last picture of a batch whose numbers 31 bits do not count, beside the picture alone."""
    if torch.cuda.mem_get_info()[0] < 24e9:
        pytest.skip("it takes 24 GB of a GPU's memory")
    input = torch.randint(-3, 4, (3, 8, 9500, 9500), dtype=torch.int8, device=gpu)
    input = input.to(torch.float16, memory_format=torch.channels_last)
    assert input.numel() > 2**31
    positions = (9500 - 3) // 3000 + 1
    offset = torch.randint(-8, 9, (3, 18, positions, positions), device=gpu).to(torch.float16) / 4
    weight = torch.randint(-1, 2, (4, 8, 3, 3), device=gpu).to(torch.float16)

    def both_ways(pictures: slice, deterministic: bool) -> tuple[Tensor, ...]:
        leaves = [tensor.detach().requires_grad_() for tensor in (input[pictures], offset[pictures])]
        output = ops.deform_conv2d(*leaves, weight, stride=3000, deterministic=deterministic)
        of_input, of_offset = torch.autograd.grad(output.sum(), leaves)
        return output.detach()[-1], of_input[-1].abs().amax(0).nonzero(), of_offset[-1]

    for deterministic in (True, False):
        for whole, alone in zip(*(both_ways(slice(i, 3), deterministic) for i in (0, 2)), strict=True):
            assert whole.count_nonzero() > 0
            assert torch.equal(whole, alone)
