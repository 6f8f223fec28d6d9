"""The loss of assembled masks, and its gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from mask_loss_cases import DOUBLE, HALF, TOLERANCE, Case, random_case, simple_case, with_gradients
from torch import Tensor

from yolact import ops
from yolact.ops import reference


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_mask_loss_matches_reference(start):
    for seed in range(start, start + 20):
        case, padding = random_case(seed)
        found = with_gradients(ops.mask_loss, case, padding)
        expected = with_gradients(reference.mask_loss, case, padding)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == theirs.dtype
            ours, theirs = ours.float(), theirs.float()
            scale = theirs.abs().max().clamp(min=1e-3)
            half = HALF.get(case.prototypes.dtype, 0.0) + HALF.get(case.coefficients.dtype, 0.0)
            torch.testing.assert_close(
                ours / scale, theirs / scale, atol=TOLERANCE["atol"], rtol=TOLERANCE["rtol"] + 2 * half, msg=str(seed)
            )


def test_mask_loss_is_the_original_procedure():
    # Independently of the reference: sigmoid, crop by the box and a pixel more, cross entropy, over the box's area.
    case = simple_case(batch=1, positives=1)
    x1, y1, x2, y2 = (case.boxes[case.truth[0]] * torch.tensor([23, 20, 23, 20])).tolist()
    column, row = torch.arange(23), torch.arange(20)[:, None]
    inside = (column >= max(x1 - 1, 0)) & (column < x2 + 1) & (row >= max(y1 - 1, 0)) & (row < y2 + 1)
    probability = (case.prototypes[0] @ case.coefficients[0]).sigmoid()
    entropy = F.binary_cross_entropy(probability, case.masks[case.truth[0]].float(), reduction="none")
    expected = (entropy * inside).sum() / ((x2 - x1) * (y2 - y1))
    torch.testing.assert_close(ops.mask_loss(*case.tensors), expected[None], **TOLERANCE)


@pytest.mark.cpu_only
def test_mask_loss_matches_reference_in_float64():
    for seed in range(40):
        case, padding = random_case(seed, torch.float64)
        found = with_gradients(ops.mask_loss, case, padding)
        for ours, theirs in zip(found, with_gradients(reference.mask_loss, case, padding), strict=True):
            torch.testing.assert_close(ours, theirs, **DOUBLE)


@pytest.mark.cpu_only
@pytest.mark.parametrize("planes", [False, True])
def test_mask_loss_gradcheck(planes):
    case = simple_case(size=(17, 4), channels=2, positives=4)
    prototypes, coefficients = case.prototypes.double(), case.coefficients.double().requires_grad_()
    if planes:
        prototypes = prototypes.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.autograd.gradcheck(
        lambda p, c: ops.mask_loss(p, c, *case.tensors[2:]), (prototypes.requires_grad_(), coefficients)
    )


def test_mask_loss_certain_and_wrong_costs_100_without_a_gradient():
    # e^-16.7 vanishes beside 1, and e^88.8 is infinite; with logits a little nearer to 0 neither is so.
    logits = torch.tensor([16.7, 16.6, -88.8, -88.6, 16.7, -88.8])
    case = Case(
        torch.ones(1, 3, 4, 1),
        logits[:, None],
        torch.zeros(6, dtype=torch.int64),
        torch.tensor([0, 0, 1, 1, 1, 0]),
        torch.tensor([[0.0, 0, 1, 1]]).expand(2, 4),
        torch.tensor([False, True])[:, None, None].expand(2, 3, 4),
    )
    loss, _, gradient = with_gradients(ops.mask_loss, case)
    torch.testing.assert_close(loss, torch.tensor([100.0, 16.6, 100.0, 88.6, 0.0, 0.0]), rtol=1e-6, atol=1e-6)
    assert (gradient[:, 0] != 0).tolist() == [False, True, False, True, False, False]


def test_mask_loss_of_any_order():
    case = simple_case(positives=40)
    loss, _, gradient = with_gradients(ops.mask_loss, case)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    shuffled = replace(case, **{name: getattr(case, name)[order] for name in ("coefficients", "picture", "truth")})
    assert torch.equal(ops.mask_loss(*shuffled.tensors), loss[order])
    assert torch.equal(with_gradients(ops.mask_loss, case)[2], gradient)


def test_mask_loss_of_odd_boxes():
    inf = math.inf
    nan, corners = math.nan, [0.2, 0.1, 0.7, 0.9]
    odd = [[0.7, 0.1, 0.2, 0.9], [0.7, 0.9, 0.2, 0.1], [2, 2, 3, 3], [0.5, 0.5, 0.5, 0.9], [0.2, 0.1, nan, 0.9]]
    boxes = torch.tensor([corners, *odd, [-inf, -inf, inf, inf]])
    simple = simple_case(batch=1, positives=1)
    case = Case(
        simple.prototypes,
        simple.coefficients.expand(7, -1),
        torch.zeros(7, dtype=torch.int64),
        torch.arange(7),
        boxes,
        simple.masks[:1].expand(7, -1, -1),
    )
    loss = ops.mask_loss(*case.tensors)
    assert loss[0] > 0
    assert (loss[1:3] == loss[0]).all()  # corners of any order
    assert loss[3] == 0  # none of its pixels is on the map
    assert loss[4] == inf  # no area
    assert loss[5].isnan()
    assert loss[6] == 0  # over an infinite area
    one = with_gradients(ops.mask_loss, replace(case, coefficients=simple.coefficients, **rows(case, [5])))
    assert one[0].isnan()
    assert not one[1].any()
    assert not one[2].any()


def rows(case: Case, which: list[int]) -> dict[str, Tensor]:
    return {"picture": case.picture[which], "truth": case.truth[which]}


def test_mask_loss_keeps_nan_where_it_is():
    case = simple_case()
    expected = with_gradients(ops.mask_loss, case)
    coefficients = case.coefficients.clone()
    coefficients[2] = torch.nan
    loss, prototypes, gradient = with_gradients(ops.mask_loss, replace(case, coefficients=coefficients))
    assert loss.isnan().nonzero().tolist() == [[2]]
    assert gradient.isnan().all(1).nonzero().tolist() == [[2]]
    other = case.picture[2].item() ^ 1
    assert torch.equal(prototypes[other], expected[1][other])
    x1, y1, x2, y2 = (case.boxes[case.truth[2]] * torch.tensor([23, 20, 23, 20])).tolist()
    pixels = prototypes[other ^ 1].isnan().any(-1)
    assert pixels.any(0).nonzero().flatten().tolist() == list(range(max(math.ceil(x1 - 1), 0), math.ceil(x2 + 1)))
    assert pixels.any(1).nonzero().flatten().tolist() == list(range(max(math.ceil(y1 - 1), 0), math.ceil(y2 + 1)))

    # One that lies just past the last column of a box is nobody's whose box does not reach it.
    outside = torch.ones_like(case.masks[0])
    for box in case.boxes:
        x1, y1, x2, y2 = (box * torch.tensor([23, 20, 23, 20])).tolist()
        column, row = torch.arange(23), torch.arange(20)[:, None]
        outside &= ~((column >= x1 - 1) & (column < x2 + 1) & (row >= y1 - 1) & (row < y2 + 1))
    assert outside.any()
    prototypes = case.prototypes.masked_fill(outside[..., None], torch.nan)
    found = with_gradients(ops.mask_loss, replace(case, prototypes=prototypes))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
