"""Prototypes straight to run lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from assembly import REJECTED, operator_options, random_case, real_case, simple_case

from yolact import ops
from yolact.ops import reference

AMPLE = 1 << 15  # bytes, for the largest of these pictures in the worst of masks


def assert_same(run_lengths: ops.RunLengths, expected: ops.RunLengths, where: object = None) -> None:
    for name in ("data", "length", "needed", "size"):
        assert torch.equal(getattr(run_lengths, name), getattr(expected, name)), (where, name)


def encoded(case, size=None, capacity=AMPLE):
    masks = ops.assemble_masks(*case.tensors, size or case.size, **case.options)
    return ops.encode_run_lengths(masks.flatten(0, 1), capacity=capacity)


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_assemble_run_lengths_equals_encoded_masks(start):
    for seed in range(start, start + 100):
        case = random_case(seed)
        sizes = [case.size] * len(case.prototypes)
        run_lengths = ops.assemble_run_lengths(*case.tensors, sizes, capacity=AMPLE, **case.options)
        assert_same(run_lengths, encoded(case), seed)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 3e38, -3e38, 1e-45])
@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, 3e38, torch.inf, -torch.inf])
def test_assemble_run_lengths_of_extreme_values(value, threshold):
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randn(1, 40, 30, 1, generator=generator)
    prototypes[torch.rand(1, 40, 30, 1, generator=generator) < 0.3] = value
    case = simple_case()
    case = type(case)(
        prototypes, torch.ones(1, 2, 1), torch.tensor([[[0, 0, 1, 1], [0.2, 0.2, 0.9, 0.9]]]), (90, 40), {}
    )
    for activation in ("none", "sigmoid"):
        case.options.update(activation=activation, threshold=threshold)
        run_lengths = ops.assemble_run_lengths(*case.tensors, [case.size], capacity=AMPLE, **case.options)
        assert_same(run_lengths, encoded(case))


@pytest.mark.parametrize("nudge", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("threshold", [0.5, 0.1, -0.7, 1e-38, 3.0])
def test_assemble_run_lengths_within_an_ulp_of_the_threshold(nudge, threshold):
    # Every low-resolution value is the threshold or a unit in the last place beside it.
    generator = torch.Generator().manual_seed(nudge)
    bits = torch.full((1, 33, 21, 1), threshold).view(torch.int32)
    bits = bits + nudge + torch.randint(-1, 2, bits.shape, generator=generator, dtype=torch.int32)
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    options = {"activation": "none", "threshold": threshold}
    for size in [(200, 150), (33, 21), (20, 9)]:
        masks = ops.assemble_masks(bits.view(torch.float32), torch.ones(1, 1, 1), boxes, size, **options)
        run_lengths = ops.assemble_run_lengths(
            bits.view(torch.float32), torch.ones(1, 1, 1), boxes, [size], capacity=AMPLE, **options
        )
        assert_same(run_lengths, ops.encode_run_lengths(masks[0], capacity=AMPLE))


def test_assemble_run_lengths_on_real_prototypes():
    for size in [(640, 640), (427, 640), (90, 70)]:
        case = real_case(size)
        run_lengths = ops.assemble_run_lengths(*case.tensors, [size], capacity=AMPLE, **case.options)
        assert_same(run_lengths, encoded(case))


def test_assemble_run_lengths_matches_reference():
    case = simple_case(batch=2)
    sizes = torch.tensor([[33, 47], [60, 21]])
    count = torch.tensor([2, 3])
    assert_same(
        ops.assemble_run_lengths(*case.tensors, sizes, count=count),
        reference.assemble_run_lengths(*case.tensors, sizes, count=count),
    )


def test_assemble_run_lengths_is_told_what_overflows():
    case = simple_case()
    ample = ops.assemble_run_lengths(*case.tensors, [case.size])
    capacity = int(ample.needed.max()) - 1
    tight = ops.assemble_run_lengths(*case.tensors, [case.size], capacity=capacity)
    assert torch.equal(tight.needed, ample.needed)
    assert torch.equal(tight.length, ample.needed.where(ample.needed <= capacity, 0))
    with pytest.raises(ValueError, match="overflowed"):
        tight.to_coco()


def test_prototypes_to_rles_are_the_masks_of_each_picture():
    case = simple_case(batch=3)
    sizes = [(40, 50), (31, 77), (5, 3)]
    count = torch.tensor([3, 0, 2])
    pictures = ops.prototypes_to_rles(*case.tensors, sizes, count=count)
    assert [len(rles) for rles in pictures] == [3, 0, 2]
    for b, (rles, size) in enumerate(zip(pictures, sizes, strict=True)):
        masks = ops.assemble_masks(*case.tensors, size)[b]
        assert rles == ops.masks_to_rles(masks[: count[b]])


def test_prototypes_to_rles_encodes_again_what_overflowed():
    # A mask of noise needs far more than the default capacity; its neighbours do not.
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randn(2, 100, 100, 1, generator=generator)
    coefficients = torch.ones(2, 3, 1)
    boxes = torch.tensor([[0, 0, 0.1, 0.1], [0, 0, 1, 1], [0.5, 0.5, 0.6, 0.7]]).expand(2, 3, 4)
    regions = torch.tensor([[0, 0, 100, 100], [0, 0, 90, 80]])
    sizes = [(300, 200), (150, 333)]
    pictures = ops.prototypes_to_rles(prototypes, coefficients, boxes, sizes, source_region=regions)
    for b, size in enumerate(sizes):
        masks = ops.assemble_masks(prototypes, coefficients, boxes, size, source_region=regions)[b]
        assert pictures[b] == ops.masks_to_rles(masks)
        assert len(pictures[b][1]["counts"]) > 4096
    tight = ops.prototypes_to_rles(prototypes, coefficients, boxes, sizes, source_region=regions, capacity=16)
    assert tight == pictures


def test_assemble_run_lengths_on_empty():
    case = simple_case()
    run_lengths = ops.assemble_run_lengths(case.prototypes, case.coefficients[:, :0], case.boxes[:, :0], [(4, 5)])
    assert run_lengths.data.shape == (0, 4096)
    assert run_lengths.size.shape == (0, 2)
    none = [tensor[:0] for tensor in case.tensors]
    assert len(ops.assemble_run_lengths(*none, torch.empty(0, 2, dtype=torch.int64))) == 0
    assert ops.prototypes_to_rles(*none, []) == []
    assert ops.prototypes_to_rles(*case.tensors, [(4, 5)], count=torch.tensor([0])) == [[]]


@pytest.mark.cpu_only
def test_assemble_run_lengths_is_deterministic():
    case = random_case(7)
    sizes = [(211, 333)] * len(case.prototypes)
    threads = torch.get_num_threads()
    expected = ops.assemble_run_lengths(*case.tensors, sizes, **case.options)
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            assert_same(ops.assemble_run_lengths(*case.tensors, sizes, **case.options), expected, count)
    finally:
        torch.set_num_threads(threads)


def test_assemble_run_lengths_takes_numpy_sizes():
    case = simple_case()
    expected = ops.assemble_run_lengths(*case.tensors, [case.size], capacity=100)
    assert_same(ops.assemble_run_lengths(*case.tensors, np.array([case.size]), capacity=np.int32(100)), expected)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        *REJECTED,
        ({"capacity": 0}, ValueError, "capacity must be at least 1, got 0"),
        ({"sizes": [(4, 5), (4, 5)]}, ValueError, r"sizes must be of shape \[1, 2\], got \[2, 2\]"),
        ({"sizes": [(4, 5, 6)]}, ValueError, r"sizes\[0\] must be \(height, width\), got \[4, 5, 6\]"),
        ({"sizes": 5}, TypeError, "sizes must be a sequence, got 5"),
        ({"sizes": [4]}, TypeError, r"sizes\[0\] must be a sequence, got 4"),
        ({"sizes": [(0, 5)]}, ValueError, r"the height of sizes\[0\] must be at least 1, got 0"),
        ({"sizes": [(5, 1 << 31)]}, ValueError, r"sizes\[0\] must have fewer than 2\*\*32 pixels"),
        ({"sizes": torch.tensor([[5, -1]])}, ValueError, r"the width of sizes\[0\] must be at least 1, got -1"),
        ({"sizes": torch.tensor([[5, 1 << 31]])}, ValueError, r"sizes\[0\] must have fewer than 2\*\*32 pixels"),
        ({"capacity": 1 << 70}, ValueError, "capacity must be at most"),
        ({"sizes": torch.ones(1, 2, device="meta").long()}, ValueError, "sizes must be on the CPU or on cpu"),
        ({"sizes": torch.ones(1, 2)}, TypeError, "sizes must be of dtype int64, got float32"),
    ],
)
def test_assemble_run_lengths_rejects(change, error, message):
    case = simple_case()
    arguments = dict(zip(("prototypes", "coefficients", "boxes"), case.tensors, strict=True)) | {"sizes": [case.size]}
    with pytest.raises(error, match=message):
        ops.assemble_run_lengths(**arguments | change)


def test_assemble_run_lengths_opcheck():
    case = simple_case(batch=2)
    sizes = torch.tensor([[20, 30], [9, 8]])
    for changed in ({}, {"count": torch.tensor([1, 3]), "source_region": torch.tensor([[0.0, 1, 9, 9]] * 2)}):
        options = operator_options(**changed, capacity=64)
        torch.library.opcheck(torch.ops.yolact.assemble_run_lengths, (*case.tensors, sizes), options)


@pytest.mark.cpu_only
def test_assemble_run_lengths_compiles_with_dynamic_sizes():
    compiled = torch.compile(ops.assemble_run_lengths, fullgraph=True, dynamic=True, backend="eager")
    for batch, detections in [(1, 3), (2, 5)]:
        case = simple_case(batch, detections)
        sizes = torch.tensor([[20, 30]] * batch)
        assert_same(compiled(*case.tensors, sizes), ops.assemble_run_lengths(*case.tensors, sizes))


@pytest.mark.cpu_only
def test_assemble_run_lengths_exports():
    class Assemble(torch.nn.Module):
        def forward(self, prototypes, coefficients, boxes, sizes):
            return ops.assemble_run_lengths(prototypes, coefficients, boxes, sizes)

    batch, detections = torch.export.Dim("batch", min=1), torch.export.Dim("detections", min=1)
    shapes = ({0: batch}, {0: batch, 1: detections}, {0: batch, 1: detections}, {0: batch})
    example = (*simple_case(2, 3).tensors, torch.tensor([[40, 50]] * 2))
    program = torch.export.export(Assemble(), example, dynamic_shapes=shapes).module()
    case, sizes = simple_case(3, 5), torch.tensor([[20, 30], [50, 11], [1, 1]])
    assert_same(program(*case.tensors, sizes), ops.assemble_run_lengths(*case.tensors, sizes))
