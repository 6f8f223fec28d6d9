"""The modulated deformable convolution, and its gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from deform_conv2d_cases import (
    DOUBLE,
    HALF,
    TOLERANCE,
    assert_close,
    assert_equal,
    random_case,
    simple_case,
    with_gradients,
)

from yolact import ops
from yolact.ops import reference


@pytest.mark.parametrize("start", range(0, 45, 15))
def test_deform_conv2d_matches_reference(start):
    for seed in range(start, start + 15):
        case = random_case(seed)
        found, expected = with_gradients(ops.deform_conv2d, case), with_gradients(reference.deform_conv2d, case)
        # Columns, their gradient and the result are each rounded to a half type on a GPU; offsets have their own.
        half = max(HALF[each.dtype] for each in (case.input, case.offset))
        assert_close(found, expected, TOLERANCE + 4 * half, f"seed {seed}")


def test_deform_conv2d_matches_reference_in_float64():
    for seed in range(8):
        case = random_case(seed, (torch.float64,))
        found, expected = with_gradients(ops.deform_conv2d, case), with_gradients(reference.deform_conv2d, case)
        assert_close(found, expected, DOUBLE, f"seed {seed}")


def test_deform_conv2d_gradcheck():
    case = simple_case(1, 4, 2, (3, 4), torch.float64)
    # Away from whole pixels, where the derivative jumps.
    offset = case.offset.frac() * 0.6 + case.offset.trunc() + 0.2 * case.offset.sign()
    tensors = [t.requires_grad_() for t in (case.input, offset, case.weight, case.bias, case.mask)]
    assert torch.autograd.gradcheck(
        lambda i, o, w, b, m: ops.deform_conv2d(i, o, w, b, padding=1, mask=m), tensors, fast_mode=True
    )


@pytest.mark.parametrize("groups", [1, 4])
def test_deform_conv2d_without_offsets_is_a_convolution(groups):
    case = simple_case(channels=8, outputs=8, size=(12, 10))
    weight = case.weight[:, : 8 // groups]
    options = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
    expected = F.conv2d(case.input, weight, case.bias, groups=groups, **options)
    offset = torch.zeros(2, 18, *expected.shape[2:])
    found = ops.deform_conv2d(case.input, offset, weight, case.bias, **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE * expected.abs().max().item())
    assert found.is_contiguous(memory_format=torch.channels_last)
    ones = torch.ones(2, 9, *expected.shape[2:])
    assert torch.equal(ops.deform_conv2d(case.input, offset, weight, case.bias, **options, mask=ones), found)


def test_deform_conv2d_of_whole_offsets_is_one_of_a_shifted_input():
    case = simple_case()
    offset = torch.tensor([1.0, -2.0]).repeat(9)[:, None, None].expand(2, 18, 7, 9)  # a row down, two columns left
    shifted = F.pad(case.input, (2, 0, 0, 1))[:, :, 1:, :9]
    options = {"padding": 1, "mask": case.mask}
    found = ops.deform_conv2d(case.input, offset, case.weight, **options)
    inside = ops.deform_conv2d(shifted, torch.zeros(2, 18, 7, 9), case.weight, **options)
    # But for taps that were in the border, and are not any more.
    assert torch.equal(found[:, :, 1:, :-1], inside[:, :, 1:, :-1])


def test_deform_conv2d_of_odd_offsets():
    case = simple_case(batch=1, channels=3, outputs=2)
    inf, nan = math.inf, math.nan
    odd = [-1e30, 1e30, inf, -inf, 2.0**31, -(2.0**63), 1e-30, -1e-30, -1.0, 7.0, 9.0, -8.0]
    offset = case.offset.clone()
    for i, value in enumerate(odd):
        offset[0, i, i % 7, i % 9] = value
    case = replace(case, offset=offset)
    found = with_gradients(ops.deform_conv2d, case)
    assert all(each.isfinite().all() for each in found.values())
    assert_close(found, with_gradients(reference.deform_conv2d, case), TOLERANCE)

    offset[0, 4, 2, 3] = nan
    found = with_gradients(ops.deform_conv2d, case)
    assert found["result"].isnan().nonzero().tolist() == [[0, 0, 2, 3], [0, 1, 2, 3]]
    assert found["mask"].isnan().nonzero().tolist() == [[0, 2, 2, 3]]
    assert found["input"].isfinite().all()  # what is sampled nowhere goes back nowhere
    assert_close(found, with_gradients(reference.deform_conv2d, case), TOLERANCE)


def test_deform_conv2d_keeps_nan_where_it_is():
    case = simple_case()
    expected = ops.deform_conv2d(**case.arguments)
    case.input[1, 2, 3, 4] = torch.nan
    found = ops.deform_conv2d(**case.arguments)
    assert torch.equal(found[0], expected[0])
    assert 0 < found[1].isnan().float().mean() < 1
    assert torch.equal(found[~found.isnan()], expected[~found.isnan()])


def test_deform_conv2d_makes_the_gradients_that_are_asked_for():
    case = simple_case()
    arguments, expected = case.arguments, with_gradients(ops.deform_conv2d, case)
    weights = torch.randn(expected["result"].shape, generator=torch.Generator().manual_seed(5))
    for names in (["input"], ["offset"], ["mask"], ["weight"], ["bias"], ["input", "mask"], ["offset", "weight"]):
        leaves = {name: arguments[name].detach().requires_grad_() for name in names}
        result = ops.deform_conv2d(**(arguments | leaves))
        result.backward(weights)
        found = {name: leaf.grad for name, leaf in leaves.items()}
        assert_close(found, {name: expected[name] for name in names}, TOLERANCE)


@pytest.mark.cpu_only
def test_deform_conv2d_by_tiles():
    # The columns of a picture are more than 8 MiB: a tile ends within it, and the next goes on into another.
    case = simple_case(2, 64, 4, (70, 70))
    found, expected = with_gradients(ops.deform_conv2d, case), with_gradients(reference.deform_conv2d, case)
    assert_close(found, expected, 3 * TOLERANCE)  # sums over 9,800 positions


@pytest.mark.cpu_only
def test_deform_conv2d_is_deterministic_whatever_the_threads():
    case = simple_case(3, 128, 32, (40, 30))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(with_gradients(ops.deform_conv2d, case))
    finally:
        torch.set_num_threads(before)
    products = [{"weight": each.pop("weight")} for each in found]  # torch's, which may add up in parts, one a thread
    for other, product in zip(found[1:], products[1:], strict=True):
        assert_equal(other, found[0])
        assert_close(product, products[0], TOLERANCE)


def test_deform_conv2d_is_deterministic_when_told_so():
    case = simple_case(3, 16, 4, (12, 11))
    case = replace(case, offset=case.offset * 0)  # many taps meet in a pixel
    found = [with_gradients(ops.deform_conv2d, case, deterministic=True) for _ in range(2)]
    assert_equal(*found)
    torch.use_deterministic_algorithms(True)
    try:
        assert_equal(with_gradients(ops.deform_conv2d, case), found[0])
    finally:
        torch.use_deterministic_algorithms(False)
    assert_close(with_gradients(ops.deform_conv2d, case, deterministic=False), found[0], TOLERANCE)
