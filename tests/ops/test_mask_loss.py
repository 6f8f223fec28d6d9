"""The loss of assembled masks, and its gradients."""

from __future__ import annotations

import math
import random
from dataclasses import astuple, dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from yolact import ops
from yolact.ops import reference

# Sums of up to a thousand terms in another order, beside the largest of them: a gradient may be the rest of many.
TOLERANCE = {"rtol": 3e-5, "atol": 3e-5}
DOUBLE = {"rtol": 1e-9, "atol": 1e-9}  # float64 knows nothing of the orders of sums, but boxes are in float32
HALF = {torch.float32: 0.0, torch.float16: 2**-11, torch.bfloat16: 2**-8}  # of a value: half a unit in the last place


@dataclass(frozen=True, eq=False)
class Case:
    """The arguments of one call."""

    prototypes: Tensor
    coefficients: Tensor
    picture: Tensor
    truth: Tensor
    boxes: Tensor
    masks: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return astuple(self)


def simple_case(batch: int = 2, positives: int = 7, size: tuple[int, int] = (20, 23), channels: int = 8) -> Case:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(4, 2, generator=generator) * 0.5
    return Case(
        torch.randn(batch, *size, channels, generator=generator).relu(),
        torch.randn(positives, channels, generator=generator),
        torch.randint(0, batch, (positives,), generator=generator),
        torch.randint(0, 4, (positives,), generator=generator),
        torch.cat([low, low + 0.1 + torch.rand(4, 2, generator=generator) * 0.4], 1),
        torch.rand(4, *size, generator=generator) < 0.5,
    )


def random_case(seed: int, dtype: torch.dtype | None = None) -> tuple[Case, float]:
    """One call with everything drawn, and its padding: sizes, types, strides, boxes of any order and off the map."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    batch, positives, truths = draw.choice([1, 2, 3]), draw.choice([1, 4, 9]), draw.choice([1, 5])
    height, width, channels = (draw.choice(sizes) for sizes in ([1, 5, 16, 17, 40], [1, 7, 16, 33], [1, 5, 32, 33]))
    prototypes = torch.randn(batch, height, width, channels, generator=generator)
    coefficients = torch.randn(positives, channels, generator=generator) * draw.choice([0.1, 1.0, 4.0])
    strides = draw.choice(["contiguous", "planes", "sliced"])
    if strides == "planes":
        prototypes = prototypes.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    elif strides == "sliced":
        prototypes, coefficients = prototypes.repeat(1, 1, 1, 2)[..., ::2], coefficients.repeat(2, 1)[::2]
    masks = torch.rand(truths, width, height, generator=generator) < 0.5
    dtypes = [dtype] if dtype else [torch.float32, torch.float16, torch.bfloat16]
    case = Case(
        prototypes.to(draw.choice(dtypes)),
        coefficients.to(draw.choice(dtypes)),
        torch.randint(0, batch, (positives,), generator=generator),
        torch.randint(0, truths, (positives,), generator=generator),
        torch.rand(truths, 4, generator=generator) * 1.4 - 0.2,
        masks.mT if draw.random() < 0.5 else masks.view(truths, height, width),
    )
    return case, draw.choice([0.0, 0.5, 1.0, 3.0])


def with_gradients(function, case: Case, padding: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The losses and the gradients of the prototypes and the coefficients of a weighted sum of them."""
    prototypes, coefficients = case.prototypes.detach().requires_grad_(), case.coefficients.detach().requires_grad_()
    loss = function(prototypes, coefficients, *case.tensors[2:], padding=padding)
    weights = torch.linspace(-1, 2, len(loss), dtype=loss.dtype)
    return loss.detach(), *torch.autograd.grad((loss * weights).sum(), (prototypes, coefficients))


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


def test_mask_loss_of_any_strides_is_the_same():
    case = simple_case(size=(33, 40), channels=33)
    expected = with_gradients(ops.mask_loss, case)
    planes = case.prototypes.permute(0, 3, 1, 2).contiguous()
    views = (planes.permute(0, 2, 3, 1), case.prototypes.transpose(1, 2).contiguous().transpose(1, 2))
    for prototypes in views:
        found = with_gradients(ops.mask_loss, replace(case, prototypes=prototypes, masks=case.masks.mT.contiguous().mT))
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert expected[1].is_contiguous()
    assert with_gradients(ops.mask_loss, replace(case, prototypes=views[0]))[1].permute(0, 3, 1, 2).is_contiguous()


def test_mask_loss_of_any_order():
    case = simple_case(positives=40)
    loss, _, gradient = with_gradients(ops.mask_loss, case)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    shuffled = replace(case, **{name: getattr(case, name)[order] for name in ("coefficients", "picture", "truth")})
    assert torch.equal(ops.mask_loss(*shuffled.tensors), loss[order])
    assert torch.equal(with_gradients(ops.mask_loss, case)[2], gradient)


@pytest.mark.cpu_only
def test_mask_loss_is_deterministic_whatever_the_threads():
    case = simple_case(batch=3, positives=30, size=(70, 50), channels=32)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(with_gradients(ops.mask_loss, case))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


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


def test_mask_loss_of_no_picture_or_truth_is_nan():
    # The operator itself, as it is called where the public function cannot look at what the tensors hold.
    case = simple_case(positives=6)
    picture, truth = case.picture.clone(), case.truth.clone()
    picture[1], picture[2], truth[3], truth[4] = -1, 2, 4, -(2**62)

    def operator(*tensors: Tensor, padding: float) -> Tensor:
        return torch.ops.yolact.mask_loss(*tensors, padding=padding)

    loss, prototypes, coefficients = with_gradients(operator, replace(case, picture=picture, truth=truth))
    assert loss.isnan().tolist() == [False, True, True, True, True, False]
    assert not coefficients[1:5].any()
    assert coefficients[[0, 5]].any(1).all()
    assert prototypes.isfinite().all()
    with pytest.raises(RuntimeError, match="prototypes must be of a picture, got 6 positives of none"):
        torch.ops.yolact.mask_loss(case.prototypes[:0], *case.tensors[1:], padding=1.0)


def test_mask_loss_on_empty():
    case = simple_case()
    none = replace(case, coefficients=case.coefficients[:0], picture=case.picture[:0], truth=case.truth[:0])
    for empty in (none, replace(none, boxes=none.boxes[:0], masks=none.masks[:0])):
        loss, prototypes, coefficients = with_gradients(ops.mask_loss, empty)
        assert loss.shape == (0,)
        assert prototypes.shape == case.prototypes.shape
        assert not prototypes.any()
        assert coefficients.shape == (0, 8)
    nothing = with_gradients(ops.mask_loss, replace(none, prototypes=case.prototypes[:0]))
    assert [tuple(tensor.shape) for tensor in nothing] == [(0,), (0, 20, 23, 8), (0, 8)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"prototypes": torch.zeros(20, 23, 8)}, ValueError, r"prototypes must be of shape .* got \[20, 23, 8\]"),
        ({"prototypes": torch.zeros(2, 0, 23, 8)}, ValueError, "the height of prototypes must be at least 1, got 0"),
        ({"prototypes": torch.zeros(2, 20, 23, 0)}, ValueError, "the channels of prototypes must be at least 1, got 0"),
        ({"prototypes": torch.zeros(2, 20, 23, 8).long()}, TypeError, "prototypes must be of dtype .* got int64"),
        (
            {"prototypes": torch.zeros(2, 20, 23, 8).double()},
            TypeError,
            "coefficients must be of dtype float64, got",
        ),
        ({"prototypes": torch.zeros(2, 20, 23, 8, device="meta").double()}, TypeError, "float64 must be on the CPU"),
        ({"coefficients": torch.zeros(7, 9)}, ValueError, r"coefficients must be of shape \[\*, 8\], got \[7, 9\]"),
        ({"coefficients": torch.zeros(7, 8).double()}, TypeError, "coefficients must be of dtype float32, .*float64"),
        ({"coefficients": None}, TypeError, "coefficients must be a tensor, got NoneType"),
        ({"picture": torch.zeros(6).long()}, ValueError, r"picture must be of shape \[7\], got \[6\]"),
        ({"picture": torch.zeros(7).int()}, TypeError, "picture must be of dtype int64, got int32"),
        ({"picture": torch.full((7,), 2)}, ValueError, r"picture must be within \[0, 2\), got 2"),
        ({"truth": torch.arange(7)}, ValueError, r"truth must be within \[0, 4\), got 4"),
        ({"truth": torch.full((7,), -1)}, ValueError, r"truth must be within \[0, 4\), got -1"),
        ({"boxes": torch.zeros(4, 5)}, ValueError, r"boxes must be of shape \[\*, 4\], got \[4, 5\]"),
        ({"boxes": torch.zeros(4, 4, device="meta")}, ValueError, "boxes must be on cpu, got meta"),
        (
            {"masks": torch.zeros(4, 20, 22).bool()},
            ValueError,
            r"masks must be of shape \[4, 20, 23\], got",
        ),
        (
            {"masks": torch.zeros(3, 20, 23).bool()},
            ValueError,
            r"masks must be of shape \[4, 20, 23\], got",
        ),
        ({"masks": torch.zeros(4, 20, 23)}, TypeError, "masks must be of dtype bool, got float32"),
        ({"padding": -1}, ValueError, "padding must be within .* got -1"),
        ({"padding": "1"}, TypeError, "padding must be a number, got '1'"),
    ],
)
def test_mask_loss_rejects(change, error, message):
    case = simple_case()
    arguments = dict(zip(Case.__annotations__, case.tensors, strict=True)) | change
    with pytest.raises(error, match=message):
        ops.mask_loss(**arguments)


def test_mask_loss_is_differentiated_once():
    case = simple_case()
    prototypes = case.prototypes.requires_grad_()
    loss = ops.mask_loss(prototypes, *case.tensors[1:]).sum()
    (gradient,) = torch.autograd.grad(loss, prototypes, create_graph=True)
    with pytest.raises(RuntimeError, match="mask_loss can be differentiated once"):
        gradient.sum().backward()


def test_mask_loss_under_autocast_is_that_of_what_comes_in():
    case = simple_case()
    expected = with_gradients(ops.mask_loss, case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(ops.mask_loss, case)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_mask_loss_opcheck():
    case = simple_case()
    planes = case.prototypes.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    for prototypes in (planes, case.prototypes.bfloat16()):
        tensors = (prototypes.requires_grad_(), case.coefficients.requires_grad_(), *case.tensors[2:])
        torch.library.opcheck(torch.ops.yolact.mask_loss, tensors, {"padding": 1.0})
        plain = [tensor.detach() for tensor in tensors]
        torch.library.opcheck(torch.ops.yolact.mask_loss_backward, (torch.ones(7), *plain), {"padding": 1.0})


def test_mask_loss_compiles_with_dynamic_sizes():
    def call(*tensors: Tensor, padding: float) -> Tensor:
        return ops.mask_loss(*tensors, padding=padding)

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    for case in (simple_case(), simple_case(3, 11, (17, 30), 5)):
        found, expected = with_gradients(compiled, case), with_gradients(ops.mask_loss, case)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
