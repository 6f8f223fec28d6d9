"""Prototypes to dense masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from assembly import REJECTED, operator_options, random_case, real_case, simple_case

from yolact import ops
from yolact.ops.reference.assemble import assemble_values

NEAR = 1e-5  # of the threshold, either answer is right: another order of a sum in float32 may decide


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_assemble_masks_matches_reference(start):
    for seed in range(start, start + 50):
        case = random_case(seed)
        masks = ops.assemble_masks(*case.tensors, case.size, **case.options)
        values, inside = assemble_values(*case.tensors, case.size, **case.options)
        threshold = case.options["threshold"]
        wrong = (masks != (values > threshold) & inside) & ((values - threshold).abs() >= NEAR)
        assert not wrong.any(), (seed, wrong.nonzero()[:5])


def test_assemble_masks_is_the_original_procedure():
    # Independently of the reference: sigmoid, crop at prototype resolution, bilinear, above a half.
    case = simple_case(detections=1)
    low = (case.prototypes[0] @ case.coefficients[0, 0]).sigmoid()  # [12, 15]
    x1, y1, x2, y2 = (case.boxes[0, 0] * torch.tensor([15, 12, 15, 12])).tolist()
    column, row = torch.arange(15), torch.arange(12)[:, None]
    low = low * ((column >= max(x1 - 1, 0)) & (column < x2 + 1) & (row >= max(y1 - 1, 0)) & (row < y2 + 1))
    expected = F.interpolate(low[None, None], case.size, mode="bilinear", align_corners=False)[0, 0] > 0.5
    assert torch.equal(ops.assemble_masks(*case.tensors, case.size)[0, 0], expected)
    assert 0 < expected.sum() < expected.numel()


@pytest.mark.parametrize("size", [(640, 640), (97, 120)])
def test_assemble_masks_matches_reference_on_real_prototypes(size):
    case = real_case(size)
    masks = ops.assemble_masks(*case.tensors, case.size, **case.options)
    values, inside = assemble_values(*case.tensors, case.size, **case.options)
    # Logits of up to a hundred: an ulp of theirs is what 1e-5 is to a probability.
    assert not ((masks != (values > 0) & inside) & (values.abs() >= 10 * NEAR)).any()
    assert masks.any((2, 3)).float().mean() > 0.9


@pytest.mark.parametrize("crop", ["before", "after", "none"])
def test_assemble_masks_layouts_give_the_same_bits(crop):
    generator = torch.Generator().manual_seed(1)
    prototypes = torch.randn(2, 30, 44, 33, generator=generator)
    coefficients = torch.randn(2, 4, 33, generator=generator)
    boxes = torch.rand(2, 4, 4, generator=generator)
    expected = ops.assemble_masks(prototypes, coefficients, boxes, (77, 91), crop=crop)
    planes = prototypes.permute(0, 3, 1, 2)
    for khw in (planes, planes.contiguous(), planes.transpose(1, 3).contiguous().transpose(1, 3)):
        assert torch.equal(ops.assemble_masks(khw, coefficients, boxes, (77, 91), layout="khw", crop=crop), expected)


def test_assemble_masks_box_units_agree():
    case = simple_case()
    boxes = torch.tensor([[[0.25, 0.125, 0.75, 0.5]] * 3])  # exact in every unit
    expected = ops.assemble_masks(case.prototypes, case.coefficients, boxes, (48, 60))
    for unit, extent in (("output", (60, 48)), ("prototype", (15, 12))):
        scaled = boxes * torch.tensor([*extent, *extent])
        masks = ops.assemble_masks(case.prototypes, case.coefficients, scaled, (48, 60), box_unit=unit)
        assert torch.equal(masks, expected)


def test_assemble_masks_source_region_is_a_slice():
    case = simple_case(batch=2)
    region = torch.tensor([[2, 0, 15, 9], [1, 3, 8, 12]])
    masks = ops.assemble_masks(*case.tensors, case.size, source_region=region, crop="none")
    for b, (x0, y0, x1, y1) in enumerate(region.tolist()):
        cut = case.prototypes[b : b + 1, y0:y1, x0:x1]
        one = slice(b, b + 1)
        expected = ops.assemble_masks(cut, case.coefficients[one], case.boxes[one], case.size, crop="none")
        assert torch.equal(masks[one], expected)


@pytest.mark.parametrize("crop", ["before", "after", "none"])
def test_assemble_masks_of_nan(crop):
    case = simple_case(batch=2)
    expected = ops.assemble_masks(*case.tensors, case.size, crop=crop)
    boxes = case.boxes.clone()
    boxes[0, 1, 2] = torch.nan
    masks = ops.assemble_masks(case.prototypes, case.coefficients, boxes, case.size, crop=crop)
    assert not masks[0, 1].any()
    assert torch.equal(masks[:, ::2], expected[:, ::2])
    assert torch.equal(masks[1], expected[1])

    prototypes = case.prototypes.clone()
    prototypes[1] = torch.nan
    masks = ops.assemble_masks(prototypes, case.coefficients, case.boxes, case.size, crop=crop)
    assert not masks[1].any()
    assert torch.equal(masks[0], expected[0])


def test_assemble_masks_of_odd_boxes():
    case = simple_case(detections=7)
    inf = torch.inf
    odd = [[0.8, 0.9, 0.2, 0.1], [-inf, -inf, inf, inf], [1.5, 0, 2, 1], [-2, 0, -1.5, 1], [-1e30, -1e30, 1e30, 1e30]]
    boxes = torch.tensor([[*odd, [0.2, 0.1, 0.8, 0.9], [0, 0, 1, 1]]])
    coefficients = case.coefficients[:, :1].expand(-1, 7, -1)
    masks = ops.assemble_masks(case.prototypes, coefficients, boxes, case.size)[0]
    assert torch.equal(masks[0], masks[5])  # corners of any order
    assert torch.equal(masks[1], masks[6])
    assert torch.equal(masks[4], masks[6])
    assert not masks[2:4].any()
    assert masks[5].any()


def test_assemble_masks_past_count_are_empty():
    case = simple_case(batch=3)
    expected = ops.assemble_masks(*case.tensors, case.size)
    masks = ops.assemble_masks(*case.tensors, case.size, count=torch.tensor([2, 0, 9]))
    assert torch.equal(masks[0, :2], expected[0, :2])
    assert torch.equal(masks[2], expected[2])
    assert not masks[0, 2:].any()
    assert not masks[1].any()


@pytest.mark.parametrize("width", [1, 7, 8, 9, 64, 75])
def test_assemble_masks_packed_are_the_same_bits(width):
    case = simple_case()
    masks = ops.assemble_masks(*case.tensors, (33, width))
    packed = ops.assemble_masks(*case.tensors, (33, width), packed=True)
    assert np.array_equal(packed.numpy(), np.packbits(masks.numpy(), axis=-1, bitorder="little"))


def test_assemble_masks_on_empty():
    case = simple_case()
    nothing = case.coefficients[:, :0], case.boxes[:, :0]
    assert ops.assemble_masks(case.prototypes, *nothing, (4, 5)).shape == (1, 0, 4, 5)
    none = [tensor[:0] for tensor in case.tensors]
    assert ops.assemble_masks(*none, (4, 5)).shape == (0, 3, 4, 5)
    assert ops.assemble_masks(*none, (4, 9), packed=True).shape == (0, 3, 4, 2)


@pytest.mark.cpu_only
def test_assemble_masks_is_deterministic():
    case = random_case(7)
    threads = torch.get_num_threads()
    expected = ops.assemble_masks(*case.tensors, (211, 333), **case.options)
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            assert torch.equal(ops.assemble_masks(*case.tensors, (211, 333), **case.options), expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        *REJECTED,
        ({"size": (0, 5)}, ValueError, "the height of size must be at least 1, got 0"),
        ({"size": (5, 2.5)}, TypeError, "the width of size must be a whole number, got 2.5"),
        ({"size": (1 << 16, 1 << 16)}, ValueError, r"size must have fewer than 2\*\*32 pixels, .* got 65536 x 65536"),
        ({"size": (1, 1 << 30)}, ValueError, r"size must have .* 2\*\*30 a side, got 1 x 1073741824"),
        ({"size": 5}, TypeError, "size must be a sequence, got 5"),
        ({"size": (5, 5, 5)}, ValueError, r"size must be \(height, width\), got \[5, 5, 5\]"),
    ],
)
def test_assemble_masks_rejects(change, error, message):
    case = simple_case()
    arguments = dict(zip(("prototypes", "coefficients", "boxes"), case.tensors, strict=True)) | {"size": case.size}
    with pytest.raises(error, match=message):
        ops.assemble_masks(**arguments | change)


@pytest.mark.parametrize("packed", [False, True])
def test_assemble_masks_opcheck(packed):
    case = simple_case(batch=2)
    for changed in ({}, {"count": torch.tensor([1, 3]), "source_region": torch.tensor([[0.0, 1, 9, 9]] * 2)}):
        options = operator_options(**changed, packed=packed)
        torch.library.opcheck(torch.ops.yolact.assemble_masks, (*case.tensors, [20, 30]), options)


@pytest.mark.cpu_only
def test_assemble_masks_compiles_with_dynamic_sizes():
    compiled = torch.compile(
        lambda p, c, b, h, w: ops.assemble_masks(p, c, b, (h, w)), fullgraph=True, dynamic=True, backend="eager"
    )
    for batch, detections, size in [(1, 3, (20, 30)), (2, 5, (33, 31))]:
        case = simple_case(batch, detections)
        assert torch.equal(compiled(*case.tensors, *size), ops.assemble_masks(*case.tensors, size))


@pytest.mark.cpu_only
def test_assemble_masks_exports():
    class Assemble(torch.nn.Module):
        def forward(self, prototypes, coefficients, boxes):
            return ops.assemble_masks(prototypes, coefficients, boxes, (40, 50))

    batch, detections = torch.export.Dim("batch", min=1), torch.export.Dim("detections", min=1)
    shapes = ({0: batch}, {0: batch, 1: detections}, {0: batch, 1: detections})
    program = torch.export.export(Assemble(), simple_case(2, 3).tensors, dynamic_shapes=shapes).module()
    case = simple_case(3, 5)
    assert torch.equal(program(*case.tensors), ops.assemble_masks(*case.tensors, (40, 50)))
