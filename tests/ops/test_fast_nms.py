"""Fast NMS and traditional NMS."""

from __future__ import annotations

import random

import brute_force
import numpy as np
import pytest
import torch

from yolact import ops
from yolact.ops import reference

NAN, INF = float("nan"), float("inf")
FIELDS = ("index", "label", "score", "count")
OPTIONS = {
    "iou_threshold": (0.5, 0.5, 0.25, 0.0, 1.0, -1.0),
    "top_k": (1, 3, 20, 200),
    "max_detections": (1, 7, 100, None),
    "score_threshold": (None, None, 0.05, 0.5),
    "across_classes": (False, False, True),
    "method": ("fast", "greedy"),
    "union_eps": (0.0, 0.0, 1e-6, 1.0),
    "plus_one": (False, True),
    "suppress_equal": (False, True),
}
SHAPES = [(1, 1, 5), (2, 3, 20), (1, 5, 60), (1, 10, 200), (2, 2, 0), (0, 3, 4), (1, 40, 30)]


def draw_options(rng: random.Random) -> dict:
    return {name: rng.choice(values) for name, values in OPTIONS.items()}


def draw(rng: random.Random, shape: tuple[int, int, int], specials: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes and scores with many ties, equal boxes, zero areas; with `specials` also NaN, infinite and reversed."""
    batch, classes, count = shape
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    boxes = torch.rand(batch, count, 4, generator=generator)
    boxes[..., 2:] = boxes[..., :2] + boxes[..., 2:] * rng.choice([0.05, 0.3, 1.0])
    scores = torch.rand(batch, classes, count, generator=generator)
    if rng.random() < 0.5:  # on a coarse grid: overlaps of exactly a half, boxes without area
        boxes = (boxes * 8).round()
    if rng.random() < 0.3 and count:
        boxes = boxes[:, torch.randint(0, max(1, count // 4), (count,), generator=generator)]
    if rng.random() < 0.5:
        scores = (scores * rng.choice([1, 4, 20])).round() / 4
    if specials and count:
        for tensor, values in ((boxes, (NAN, INF, -INF, 1e30)), (scores, (NAN, INF, -INF, -0.0))):
            for value in rng.sample(values, 2):
                tensor.view(-1)[
                    torch.randint(0, max(1, tensor.numel()), (tensor.numel() // 20,), generator=generator)
                ] = value
        if rng.random() < 0.2:
            boxes = boxes[..., [2, 3, 0, 1]]
    return boxes, scores


def assert_same(actual, expected) -> None:
    for field in FIELDS:
        assert torch.equal(getattr(actual, field), getattr(expected, field)), field


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_fast_nms_matches_reference(shape, seed):
    rng = random.Random(f"{shape} {seed}")
    for _ in range(10):
        boxes, scores = draw(rng, shape, specials=rng.random() < 0.5)
        options = draw_options(rng)
        assert_same(ops.fast_nms(boxes, scores, **options), reference.fast_nms(boxes, scores, **options))


@pytest.mark.parametrize("seed", range(6))
def test_fast_nms_matches_brute_force(seed):
    rng = random.Random(seed)
    for _ in range(10):
        boxes, scores = draw(rng, rng.choice([(1, 1, 5), (1, 3, 20), (1, 2, 40)]), specials=False)
        options = draw_options(rng)
        selection = ops.fast_nms(boxes, scores, **options)
        expected = brute_force.fast_nms(boxes[0].numpy(), scores[0].numpy(), **options)
        count = int(selection.count[0])
        label, index, score = (getattr(selection, name)[0, :count].tolist() for name in ("label", "index", "score"))
        assert list(zip(label, index, score, strict=True)) == expected, options


@pytest.mark.parametrize("across_classes", [False, True])
@pytest.mark.parametrize("max_detections", [100, None])
def test_fast_nms_goes_as_deep_as_it_must(across_classes, max_detections):
    """Thousands of candidates that fall to a few, and ties beyond counting: every round of the search is needed."""
    boxes, scores = draw(random.Random(5), (1, 10, 4000), specials=False)
    boxes = boxes[:, torch.arange(4000) % 7] + 2.0 * (torch.arange(4000) % 7)[:, None]
    for levels in (1, 50, 100000):
        quantised = (scores * levels).round() / levels
        options = {"across_classes": across_classes, "max_detections": max_detections}
        assert_same(ops.fast_nms(boxes, quantised, **options), reference.fast_nms(boxes, quantised, **options))


def test_fast_nms_lets_a_fallen_box_fell_others_and_greedy_does_not():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 16], [0, 0, 10, 26]]])
    scores = torch.tensor([[[0.9, 0.8, 0.7]]])
    assert ops.fast_nms(boxes, scores).index[0, :2].tolist() == [0, -1]
    assert ops.fast_nms(boxes, scores, method="greedy").index[0, :3].tolist() == [0, 2, -1]


def test_fast_nms_at_the_threshold():
    boxes = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 1, 0.5]]])
    scores = torch.tensor([[[0.9, 0.8]]])
    assert ops.fast_nms(boxes, scores).count.item() == 2
    assert ops.fast_nms(boxes, scores, suppress_equal=True).count.item() == 1
    assert ops.fast_nms(boxes, scores, score_threshold=0.8).count.item() == 1


def test_fast_nms_drops_the_lower_of_two_boxes_without_area():
    boxes = torch.zeros(1, 2, 4)
    scores = torch.tensor([[[0.5, 0.9]]])
    assert ops.fast_nms(boxes, scores).index[0, :2].tolist() == [1, -1]
    assert ops.fast_nms(boxes, scores, union_eps=1e-6).index[0, :2].tolist() == [1, 0]


def test_fast_nms_ignores_nan():
    boxes = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 1, 1], [0, NAN, 1, 1]]])
    scores = torch.tensor([[[NAN, 0.5, 0.9], [0.7, NAN, 0.9]]])
    selection = ops.fast_nms(boxes, scores, max_detections=3)
    assert selection.index.tolist() == [[0, 1, -1]]
    assert selection.label.tolist() == [[1, 0, -1]]
    torch.testing.assert_close(selection.score, torch.tensor([[0.7, 0.5, 0.0]]), atol=0, rtol=0)


def test_fast_nms_keeps_itself():
    """What is kept is kept again, whole."""
    boxes, scores = draw(random.Random(3), (1, 1, 300), specials=False)
    first = ops.fast_nms(boxes, scores)
    index = first.index[0, : first.count.item()]
    again = ops.fast_nms(boxes[:, index], scores[..., index])
    assert again.index[0, : len(index)].tolist() == list(range(len(index)))


def test_fast_nms_takes_any_strides():
    boxes, scores = draw(random.Random(4), (3, 5, 40), specials=False)
    wide_boxes, wide_scores = boxes.permute(2, 0, 1).contiguous(), scores.permute(2, 1, 0).contiguous()
    for options in ({}, {"across_classes": True}):
        assert_same(
            ops.fast_nms(wide_boxes.permute(1, 2, 0), wide_scores.permute(2, 1, 0), **options),
            ops.fast_nms(boxes, scores, **options),
        )


def test_fast_nms_on_empty():
    for shape in [(0, 3, 4), (2, 3, 0)]:
        selection = ops.fast_nms(torch.zeros(shape[0], shape[2], 4), torch.zeros(shape), max_detections=6)
        assert selection.index.shape == (shape[0], 6)
        assert (selection.index == -1).all()
        assert (selection.score == 0).all()
        assert selection.count.tolist() == [0] * shape[0]


def test_fast_nms_is_deterministic():
    boxes, scores = draw(random.Random(6), (9, 5, 400), specials=True)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            results.append(ops.fast_nms(boxes, scores))
    finally:
        torch.set_num_threads(threads)
    assert_same(results[0], results[1])
    assert_same(results[1], results[2])


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"boxes": torch.zeros(1, 4, 4).double()}, TypeError, "boxes must be of dtype float32, got float64"),
        ({"boxes": torch.zeros(4, 4)}, ValueError, r"boxes must be of shape .* got \[4, 4\]"),
        ({"scores": torch.zeros(1, 2, 5)}, ValueError, r"scores must be of shape \[1, \*, 4\], got \[1, 2, 5\]"),
        ({"scores": torch.zeros(1, 0, 4)}, ValueError, "classes of scores must be at least 1, got 0"),
        ({"scores": np.zeros((1, 2, 4))}, TypeError, "scores must be a tensor, got ndarray"),
        ({"iou_threshold": NAN}, ValueError, "iou_threshold must be within .* got nan"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"top_k": 1 << 63}, ValueError, "top_k must be at most 9223372036854775807, got 9223372036854775808"),
        ({"max_detections": 0}, ValueError, "max_detections must be at least 1, got 0"),
        ({"max_detections": 2.0}, TypeError, "max_detections must be a whole number, got 2.0"),
        ({"score_threshold": NAN}, ValueError, "score_threshold must be within"),
        ({"method": "soft"}, ValueError, "method must be one of 'fast', 'greedy', got 'soft'"),
        ({"union_eps": -1.0}, ValueError, "union_eps must be within .* got -1.0"),
    ],
)
def test_fast_nms_rejects(change, error, message):
    arguments = {"boxes": torch.zeros(1, 4, 4), "scores": torch.zeros(1, 2, 4)} | change
    with pytest.raises(error, match=message):
        ops.fast_nms(**arguments)


@pytest.mark.cpu_only
def test_fast_nms_takes_numpy_numbers():
    boxes, scores = draw(random.Random(9), (2, 3, 20), specials=False)
    options = {"iou_threshold": np.float32(0.5), "top_k": np.int64(7), "max_detections": np.uint8(9)}
    assert_same(
        ops.fast_nms(boxes, scores, **options),
        ops.fast_nms(boxes, scores, iou_threshold=0.5, top_k=7, max_detections=9),
    )


def test_fast_nms_opcheck():
    for across_classes in (False, True):
        boxes, scores = draw(random.Random(7), (2, 3, 20), specials=True)
        options = {
            "iou_threshold": 0.5,
            "top_k": 20,
            "max_detections": 10,
            "score_threshold": 0.1,
            "across_classes": across_classes,
            "method": "fast",
            "union_eps": 0.0,
            "plus_one": False,
            "suppress_equal": False,
        }
        torch.library.opcheck(torch.ops.yolact.fast_nms, (boxes, scores), options)


class Module(torch.nn.Module):
    def forward(self, boxes, scores):
        return ops.fast_nms(boxes, scores, max_detections=None, top_k=10)


@pytest.mark.cpu_only
def test_fast_nms_compiles_and_exports_with_dynamic_sizes():
    inputs = [draw(random.Random(8), shape, specials=False) for shape in [(2, 3, 20), (3, 4, 33)]]
    compiled = torch.compile(Module(), fullgraph=True, dynamic=True, backend="aot_eager")
    sizes = torch.export.Dim("batch"), torch.export.Dim("classes"), torch.export.Dim("count")
    shapes = {"boxes": dict(enumerate(sizes[::2])), "scores": dict(enumerate(sizes))}
    exported = torch.export.export(Module(), inputs[0], dynamic_shapes=shapes).module()
    for boxes, scores in inputs:
        expected = Module()(boxes, scores)
        assert_same(compiled(boxes, scores), expected)
        assert_same(exported(boxes, scores), expected)
