"""What `mask_loss` takes and refuses, and how it is called."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mask_loss_cases import Case, simple_case, with_gradients
from torch import Tensor
from torch.autograd import forward_ad

from yolact import ops


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


@pytest.mark.cpu_only
@pytest.mark.parametrize("index", [0, 1], ids=["prototypes", "coefficients"])
def test_mask_loss_is_not_differentiated_forwards(index):
    tensors = [*simple_case().tensors]
    value = tensors[index]

    def run(tensor):
        return ops.mask_loss(*tensors[:index], tensor, *tensors[index + 1 :])

    with pytest.raises(NotImplementedError, match="mask_loss has no forward-mode derivative"):
        torch.func.jvp(run, (value,), (value,))
    with forward_ad.dual_level():
        run(value)  # without a tangent
        with pytest.raises(NotImplementedError, match="mask_loss has no forward-mode derivative"):
            run(forward_ad.make_dual(value, value))
        with pytest.raises(Exception, match="mask_loss has no forward-mode derivative"):
            torch.compile(run, backend="eager", fullgraph=True)(forward_ad.make_dual(value, value))
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.grad(lambda tensor: run(tensor).sum())(value)


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
