"""Masks of low resolution to the picture's size, dense and as run lengths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from yolact import mask, ops

NEAR = 1e-5  # of the threshold, times the largest value: another order of a sum in float32 may decide
SIZES = [(1, 1, 7, 9), (28, 28, 60, 41), (40, 33, 40, 33), (64, 50, 31, 77), (12, 90, 150, 200)]  # h, w, H, W


def draw(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Logits that vary from pixel to pixel."""
    return torch.randn(count, height, width, generator=torch.Generator().manual_seed(seed)) * 3


def interpolated(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """What PyTorch makes of them."""
    return F.interpolate(logits[None].float(), size, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize(("height", "width", "to_height", "to_width"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_resize_masks_matches_interpolate(height, width, to_height, to_width, dtype):
    logits, size = draw(5, height, width).to(dtype), (to_height, to_width)
    for threshold in (0.0, 0.7):
        values = interpolated(logits, size)
        wrong = (ops.resize_masks(logits, size, threshold=threshold) != (values > threshold)) & (
            (values - threshold).abs() >= NEAR * logits.abs().max()
        )
        assert not wrong.any()
    probabilities = interpolated(logits.float().sigmoid(), size)
    wrong = ops.resize_masks(logits, size, activation="sigmoid", threshold=0.5) != (probabilities > 0.5)
    assert not (wrong & ((probabilities - 0.5).abs() >= NEAR)).any()


@pytest.mark.parametrize(("height", "width", "to_height", "to_width"), SIZES)
def test_resize_run_lengths_equals_encoded_masks(height, width, to_height, to_width):
    logits, size = draw(4, height, width), (to_height, to_width)
    run_lengths = ops.resize_run_lengths(logits, size, capacity=1 << 15)
    expected = ops.encode_run_lengths(ops.resize_masks(logits, size), capacity=1 << 15)
    for name in ("data", "length", "needed", "size"):
        assert torch.equal(getattr(run_lengths, name), getattr(expected, name)), name
    rles = ops.logits_to_rles(logits, size, capacity=8)  # which all overflow
    assert rles == expected.to_coco()
    assert mask.decode(rles).shape == (*size, 4)


def test_resize_masks_of_a_region_are_those_of_the_slice():
    logits, size = draw(3, 20, 24), (55, 61)
    region = torch.tensor([2, 5, 23, 19])
    sliced = ops.resize_masks(logits[:, 5:19, 2:23], size)
    assert torch.equal(ops.resize_masks(logits, size, source_region=region), sliced)
    assert torch.equal(ops.resize_masks(logits, size, source_region=region.float().expand(3, 4)), sliced)
    assert ops.logits_to_rles(logits, size, source_region=region) == ops.masks_to_rles(sliced)
    each = torch.tensor([[2, 5, 23, 19], [0, 0, 24, 20], [4, 4, 4, 9]])
    masks = ops.resize_masks(logits, size, source_region=each)
    assert torch.equal(masks[0], sliced[0])
    assert torch.equal(masks[1], ops.resize_masks(logits[1:2], size)[0])
    assert not masks[2].any(), "a region of no pixels"


def test_resize_run_lengths_of_pictures_of_their_own():
    logits, sizes = draw(3, 16, 16), [(20, 30), (31, 17), (16, 16)]
    expected = [ops.logits_to_rles(logits[i : i + 1], size)[0] for i, size in enumerate(sizes)]
    assert ops.logits_to_rles(logits, sizes) == expected
    assert ops.logits_to_rles(logits, torch.tensor(sizes)) == expected
    assert ops.resize_run_lengths(logits, torch.tensor([20, 30])).size.tolist() == [[20, 30]] * 3


def test_resize_masks_packed_strided_and_odd_values():
    logits, size = draw(6, 30, 22), (41, 37)
    masks = ops.resize_masks(logits, size)
    assert torch.equal(ops.resize_masks(logits.mT.contiguous().mT, size), masks)
    assert torch.equal(ops.resize_masks(draw(12, 30, 22)[::2], size), ops.resize_masks(draw(12, 30, 22), size)[::2])
    packed = ops.resize_masks(logits, size, packed=True)
    bits = (packed[..., None] >> torch.arange(8, dtype=torch.uint8)) & 1
    assert torch.equal(bits.flatten(-2)[..., :37].bool(), masks)
    logits[0], logits[1], logits[2] = torch.nan, torch.inf, -torch.inf
    masks = ops.resize_masks(logits, size)
    assert not masks[0].any()
    assert not masks[2].any()
    assert torch.equal(masks[1], interpolated(logits[1:2], size)[0] > 0)


def test_resize_masks_of_probabilities_in_a_region_in_half_types():
    region, size = torch.tensor([[1, 2, 13, 15], [0, 0, 16, 16], [3, 0, 4, 16]]), (37, 29)
    for dtype in (torch.float16, torch.bfloat16):
        probabilities = draw(3, 16, 16).sigmoid().to(dtype)
        found = ops.resize_masks(probabilities, size, source_region=region, threshold=0.5)
        for mask_of_one, one, (x1, y1, x2, y2) in zip(found, probabilities, region.tolist(), strict=True):
            values = interpolated(one[None, y1:y2, x1:x2], size)[0]
            assert not ((mask_of_one != (values > 0.5)) & ((values - 0.5).abs() >= NEAR)).any()
        assert ops.logits_to_rles(probabilities, size, source_region=region, threshold=0.5) == ops.masks_to_rles(found)


@pytest.mark.cpu_only
def test_resize_masks_of_a_huge_picture():
    """Of 268 million pixels, of which none is in memory."""
    logits = torch.full((1, 5, 4), -1.0)
    logits[0, 2, 1] = 3
    (rle,) = ops.logits_to_rles(logits, (1 << 14, 1 << 14))
    (small,) = ops.logits_to_rles(logits, (1 << 7, 1 << 7))
    assert rle["size"] == [1 << 14] * 2
    assert int(mask.area([rle])[0]) == pytest.approx(int(mask.area([small])[0]) * 4**7, rel=0.01)


def test_resize_masks_on_empty():
    nothing = torch.zeros(0, 9, 8)
    assert ops.resize_masks(nothing, (4, 5)).shape == (0, 4, 5)
    assert ops.resize_masks(nothing, (4, 9), packed=True).shape == (0, 4, 2)
    assert len(ops.resize_run_lengths(nothing, (4, 5))) == 0
    assert ops.logits_to_rles(nothing, (4, 5)) == ops.logits_to_rles(nothing, []) == []


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": torch.zeros(9, 8)}, ValueError, r"logits must be of shape \[\*, \*, \*\], got \[9, 8\]"),
        ({"logits": torch.zeros(1, 9, 8).long()}, TypeError, "logits must be of dtype .* got int64"),
        ({"logits": torch.zeros(1, 0, 8)}, ValueError, "the height of logits must be at least 1, got 0"),
        ({"logits": [[1.0]]}, TypeError, "logits must be a tensor, got list"),
        ({"source_region": torch.zeros(2, 4)}, ValueError, r"source_region must be of shape \[1, 4\], got \[2, 4\]"),
        ({"activation": "relu"}, ValueError, "activation must be one of .* got 'relu'"),
        ({"threshold": torch.nan}, ValueError, "threshold must be within .* got nan"),
    ],
)
@pytest.mark.parametrize("operator", [ops.resize_masks, ops.resize_run_lengths, ops.logits_to_rles])
def test_resize_rejects(operator, change, error, message):
    arguments = {"logits": torch.zeros(1, 9, 8)} | change
    with pytest.raises(error, match=message):
        operator(arguments.pop("logits"), (20, 30), **arguments)


@pytest.mark.cpu_only
def test_resize_rejects_sizes():
    logits = torch.zeros(3, 9, 8)
    with pytest.raises(ValueError, match="the height of size must be at least 1, got 0"):
        ops.resize_masks(logits, (0, 5))
    with pytest.raises(ValueError, match=r"sizes must be of shape \[3, 2\], got \[2, 2\]"):
        ops.resize_run_lengths(logits, [(4, 5), (4, 5)])
    with pytest.raises(ValueError, match=r"sizes\[0\] must be \(height, width\), got \[4, 5, 6\]"):
        ops.logits_to_rles(logits, (4, 5, 6))


@pytest.mark.cpu_only
def test_resize_masks_compiles_and_exports():
    def resize(logits, height, width):
        return ops.resize_masks(logits, (height, width)), ops.resize_run_lengths(logits, (height, width)).data

    compiled = torch.compile(resize, fullgraph=True, dynamic=True, backend="eager")
    for count, size in [(2, (20, 30)), (5, (33, 21))]:
        for found, expected in zip(compiled(draw(count, 9, 8), *size), resize(draw(count, 9, 8), *size), strict=True):
            assert torch.equal(found, expected)

    class Resize(torch.nn.Module):
        def forward(self, logits):
            return ops.resize_masks(logits, (40, 50))

    exported = torch.export.export(Resize(), (draw(2, 9, 8),), dynamic_shapes=({0: torch.export.Dim("masks", min=1)},))
    assert torch.equal(exported.module()(draw(4, 9, 8)), ops.resize_masks(draw(4, 9, 8), (40, 50)))
