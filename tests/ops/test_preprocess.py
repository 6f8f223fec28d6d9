"""uint8 pictures to the network's input."""

from __future__ import annotations

import pytest
import torch

from yolact import ops
from yolact.ops import reference

MEAN, STD = (123.68, 116.78, 103.94), (58.40, 57.12, 57.38)
# Torch may fuse scale * (i + 0.5) - 0.5: one unit in the last place of a coordinate near 700 is 6e-5 of a pixel,
# which a step of 255 between two pixels turns into 255 / 57 as much.
TOLERANCE = {"atol": 3e-4, "rtol": 0}


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(1, 480, 640, 3), (3, 31, 17, 3), (2, 1, 1, 3), (1, 700, 3, 3)])
@pytest.mark.parametrize("size", [550, 33, (20, 41), 1])
def test_preprocess_matches_reference(shape, size):
    torch.testing.assert_close(
        ops.preprocess(pictures(*shape), size, MEAN, STD),
        reference.preprocess(pictures(*shape), size, MEAN, STD),
        **TOLERANCE,
    )


def test_preprocess_rounds_to_uint8():
    resized = ops.preprocess(pictures(1, 37, 53, 3), 64, (0.0,) * 3, (1.0,) * 3, round_to_uint8=True)
    expected = reference.preprocess(pictures(1, 37, 53, 3), 64, (0.0,) * 3, (1.0,) * 3, round_to_uint8=True)
    assert torch.equal(resized, resized.round())
    # A blend within rounding error of a half may fall to either side.
    assert (resized != expected).float().mean() < 1e-3
    assert (resized - expected).abs().max() <= 1


def test_preprocess_takes_any_strides():
    wide = pictures(2, 40, 60, 3)
    view = wide.flip(0).transpose(1, 2)[:, ::2, 1::3]
    assert torch.equal(ops.preprocess(view, 32, MEAN, STD), ops.preprocess(view.contiguous(), 32, MEAN, STD))


def test_preprocess_on_empty():
    assert ops.preprocess(pictures(0, 4, 4, 3), 8, MEAN, STD).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pictures": torch.zeros(1, 4, 4, 3)}, TypeError, "pictures must be of dtype uint8, got float32"),
        ({"pictures": pictures(4, 4, 3)}, ValueError, r"pictures must be of shape .* got \[4, 4, 3\]"),
        ({"pictures": pictures(1, 0, 4, 3)}, ValueError, "height of pictures must be at least 1, got 0"),
        ({"size": 0}, ValueError, "the height of size must be at least 1, got 0"),
        ({"mean": (1.0, 2.0)}, ValueError, r"mean must hold 3 numbers, got \[1.0, 2.0\]"),
        ({"size": 8.0}, TypeError, "the height of size must be a whole number, got 8.0"),
        ({"size": (5, 5, 5)}, ValueError, r"size must be \(height, width\), got \[5, 5, 5\]"),
        ({"mean": 0}, TypeError, "mean must be a sequence, got 0"),
        ({"pictures": pictures(1, 1, 1, 3).expand(1, 1, 1 << 33, 3)}, ValueError, "pictures must have fewer than"),
        ({"mean": (float("nan"), 0, 0)}, ValueError, "mean must be within"),
        ({"std": (1.0, 0.0, 1.0)}, ValueError, "std must not hold a zero"),
    ],
)
def test_preprocess_rejects(change, error, message):
    arguments = {"pictures": pictures(1, 4, 4, 3), "size": 8, "mean": MEAN, "std": STD} | change
    with pytest.raises(error, match=message):
        ops.preprocess(**arguments)


def test_preprocess_opcheck():
    for shape in [(1, 5, 7, 3), (2, 3, 3, 3)]:
        torch.library.opcheck(
            torch.ops.yolact.preprocess, (pictures(*shape), [8, 9], list(MEAN), list(STD)), {"round_to_uint8": False}
        )


def test_preprocess_compiles_with_dynamic_sizes():
    compiled = torch.compile(
        lambda p, s: ops.preprocess(p, s, MEAN, STD), fullgraph=True, dynamic=True, backend="eager"
    )
    for shape, size in [((1, 9, 11, 3), 16), ((3, 20, 8, 3), 24)]:
        assert torch.equal(compiled(pictures(*shape), size), ops.preprocess(pictures(*shape), size, MEAN, STD))
