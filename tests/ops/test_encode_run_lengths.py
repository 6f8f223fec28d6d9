"""Dense masks to COCO run lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from masks import adversarial_masks, random_mask

from yolact import ops
from yolact.ops import reference

FIELDS = ("data", "length", "needed", "size")


def assert_same(actual: ops.RunLengths, expected: ops.RunLengths) -> None:
    for field in FIELDS:
        assert torch.equal(getattr(actual, field), getattr(expected, field)), field


def coco_string(mask: np.ndarray) -> str:
    coco = pytest.importorskip("pycocotools.mask")
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def laid_out(masks: torch.Tensor, layout: str) -> torch.Tensor:
    """The same masks [N, H, W] with other strides."""
    if layout == "row-major":
        return masks.contiguous()
    if layout == "column-major":
        return masks.mT.contiguous().mT
    if layout == "padded rows":
        return torch.nn.functional.pad(masks, (3, 2, 1, 1))[:, 1:-1, 3:-2]
    if layout == "padded columns":
        return torch.nn.functional.pad(masks.mT, (1, 2)).contiguous()[:, :, 1:-2].mT
    if layout == "masks innermost":
        return masks.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert layout == "spread"
    return masks.repeat_interleave(2, 1).repeat_interleave(3, 2)[:, ::2, ::3]


LAYOUTS = ("row-major", "column-major", "padded rows", "padded columns", "masks innermost", "spread")


def test_encode_run_lengths_matches_pycocotools_on_adversarial_masks(backend):
    for i, mask in enumerate(adversarial_masks()):
        for layout in [LAYOUTS[i % len(LAYOUTS)]] if backend == "simt" else LAYOUTS:  # for its time
            encoded = ops.encode_run_lengths(laid_out(torch.from_numpy(mask)[None], layout), capacity=40_000)
            assert encoded.to_coco() == [{"size": list(mask.shape), "counts": coco_string(mask)}], (mask.shape, layout)


@pytest.mark.parametrize("seed", range(10))
def test_encode_run_lengths_matches_pycocotools_on_random_masks(seed, backend):
    rng = np.random.default_rng(seed)
    for _ in range(50 if backend == "simt" else 1000):  # for its time
        mask = random_mask(rng)
        values = mask * rng.choice([1, 2, 255]).astype(np.uint8)
        tensor = torch.from_numpy(values if rng.random() < 0.5 else mask)
        encoded = ops.encode_run_lengths(laid_out(tensor[None], rng.choice(LAYOUTS)), capacity=30_000)
        assert encoded.to_coco()[0]["counts"] == coco_string(mask)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
@pytest.mark.parametrize("capacity", [None, 64, 1])
def test_encode_run_lengths_matches_reference(dtype, capacity):
    for shape in [(3, 20, 30), (1, 1, 70), (2, 65, 1), (4, 64, 64)]:
        masks = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.7).to(dtype)
        assert_same(
            ops.encode_run_lengths(masks, capacity=capacity), reference.encode_run_lengths(masks, capacity=capacity)
        )


@pytest.mark.parametrize("shape", [(0, 5, 5), (2, 0, 5), (2, 5, 0), (0, 0, 0)])
def test_encode_run_lengths_on_empty(shape):
    masks = torch.zeros(shape, dtype=torch.bool)
    encoded = ops.encode_run_lengths(masks)
    assert_same(encoded, reference.encode_run_lengths(masks))
    assert encoded.to_coco() == [{"size": list(shape[1:]), "counts": "0"}] * shape[0]


def test_encode_run_lengths_tells_what_overflows():
    masks = torch.zeros(3, 40, 40, dtype=torch.bool)
    masks[1, ::2] = True  # every pixel differs from the one above: H * W + 1 counts
    encoded = ops.encode_run_lengths(masks, capacity=100)
    assert encoded.needed.tolist() == [3, 1601, 3]
    assert encoded.length.tolist() == [3, 0, 3]
    with pytest.raises(ValueError, match="row 1 overflowed: it needs 1601 bytes, the capacity is 100"):
        encoded.to_coco()
    exact = ops.encode_run_lengths(masks, capacity=1601)
    assert exact.to_coco()[1]["counts"] == coco_string(masks[1].numpy())


def test_masks_to_rles_encodes_again_what_overflowed():
    noise = torch.rand(4, 200, 300, generator=torch.Generator().manual_seed(0)) > 0.5
    masks = torch.stack([noise[0], torch.zeros_like(noise[0]), noise[1], torch.ones_like(noise[0])])
    expected = [{"size": [200, 300], "counts": coco_string(mask.numpy())} for mask in masks]
    assert ops.masks_to_rles(masks) == expected
    assert ops.masks_to_rles(masks[1::2]) == expected[1::2]
    assert ops.masks_to_rles(masks[:0]) == []


def test_encode_run_lengths_beyond_32_bits(backend):
    """The counts of a picture of 2**31 pixels and more, on a view that takes no memory."""
    if backend == "simt":
        pytest.skip("a thread of simt for each 128 pixels would take minutes")
    masks = torch.ones(1, 1, 1, dtype=torch.bool).expand(1, 1 << 16, (1 << 15) + 1)
    expected = reference.run_lengths.string_of([0, (1 << 31) + (1 << 16)]).decode()
    assert ops.encode_run_lengths(masks).to_coco()[0]["counts"] == expected
    with pytest.raises(ValueError, match=r"masks must have fewer than 2\*\*32 pixels"):
        ops.encode_run_lengths(masks[:, :, :1].expand(1, 1 << 16, 1 << 16))


def test_encode_run_lengths_is_deterministic():
    masks = torch.rand(17, 90, 110, generator=torch.Generator().manual_seed(0)) > 0.9
    expected = ops.encode_run_lengths(masks)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert_same(ops.encode_run_lengths(masks), expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"masks": torch.zeros(1, 4, 4)}, TypeError, "masks must be of dtype bool, uint8, got float32"),
        ({"masks": torch.zeros(4, 4, dtype=torch.bool)}, ValueError, r"masks must be of shape .* got \[4, 4\]"),
        ({"masks": np.zeros((1, 4, 4), bool)}, TypeError, "masks must be a tensor, got ndarray"),
        ({"capacity": 0}, ValueError, "capacity must be at least 1, got 0"),
        ({"capacity": 1.5}, TypeError, "capacity must be a whole number, got 1.5"),
        ({"masks": torch.ones(1, 4, 4, dtype=torch.uint8).to_sparse()}, TypeError, "masks must be a dense tensor"),
    ],
)
def test_encode_run_lengths_rejects(change, error, message):
    arguments = {"masks": torch.zeros(1, 4, 4, dtype=torch.bool)} | change
    with pytest.raises(error, match=message):
        ops.encode_run_lengths(arguments.pop("masks"), **arguments)


def test_encode_run_lengths_opcheck():
    for masks in (torch.ones(2, 5, 7, dtype=torch.bool), torch.zeros(1, 3, 3, dtype=torch.uint8)):
        torch.library.opcheck(torch.ops.yolact.encode_run_lengths, (masks,), {"capacity": 16})


def test_encode_run_lengths_compiles_with_dynamic_sizes():
    compiled = torch.compile(
        lambda masks: ops.encode_run_lengths(masks, capacity=2000), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for shape in [(1, 9, 11), (3, 20, 8)]:
        masks = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.5
        assert_same(compiled(masks), ops.encode_run_lengths(masks, capacity=2000))


def test_encode_run_lengths_exports():
    class Encode(torch.nn.Module):
        def forward(self, masks: torch.Tensor) -> ops.RunLengths:
            return ops.encode_run_lengths(masks)

    sizes = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(Encode(), (torch.ones(2, 5, 7, dtype=torch.bool),), dynamic_shapes=({**sizes},))
    masks = torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(0)) > 0.5
    assert_same(program.module()(masks), ops.encode_run_lengths(masks))
