"""What `detect` takes and refuses, and how it is called."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from detection import FIELDS, NAN, assert_identical, assert_same, draw

from benchmarks.scale import peak
from yolact import ops
from yolact.ops import reference


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_detect_widens_half_types(dtype):
    deltas, logits, priors = (tensor.to(dtype) for tensor in draw(random.Random(10), (2, 200, 20), specials=True))
    wide = ops.detect(deltas.float(), logits.float(), priors.float())
    assert wide.count.min() > 0
    assert_identical(ops.detect(deltas, logits, priors), wide)
    assert_identical(ops.detect(deltas, logits.float(), priors.float()), wide)
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype).view(1, -1, 1)
    both = torch.cat([torch.zeros_like(every), every], -1)
    priors = torch.rand(1 << 16, 4)
    options = {
        "score_threshold": 0.0,
        "max_detections": 300,
        "top_k": 300,
        "iou_threshold": 2.0,
        "across_classes": True,
    }
    zeros = torch.zeros(1, 1 << 16, 4)
    assert_identical(
        ops.detect(zeros, both, priors, **options),
        ops.detect(zeros, both.float(), priors, **options),
    )


def test_detect_takes_any_strides():
    deltas, logits, priors = draw(random.Random(11), (3, 90, 20))
    wide = [tensor.permute(*reversed(range(tensor.dim()))).contiguous() for tensor in (deltas, logits, priors)]
    views = [tensor.permute(*reversed(range(tensor.dim()))) for tensor in wide]
    assert not views[1].is_contiguous()
    assert_identical(ops.detect(*views), ops.detect(deltas, logits, priors))
    assert_identical(
        ops.detect(views[0].half(), views[1].half(), priors), ops.detect(deltas.half(), logits.half(), priors)
    )


def test_detect_on_empty():
    for batch, count in [(0, 4), (2, 0)]:
        detections = ops.detect(torch.zeros(batch, count, 4), torch.zeros(batch, count, 3), torch.zeros(count, 4))
        assert detections.boxes.shape == (batch, 100, 4)
        assert (detections.prior == -1).all()
        assert (detections.label == -1).all()
        assert (detections.boxes == 0).all()
        assert detections.count.tolist() == [0] * batch


def test_detect_is_deterministic(backend):
    inputs = draw(random.Random(12), (2, 400, 10) if backend == "simt" else (5, 3000, 30))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            results.append(ops.detect(*inputs))
    finally:
        torch.set_num_threads(threads)
    assert_identical(results[0], results[1])
    assert_identical(results[1], results[2])


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"box_deltas": torch.zeros(1, 4, 4).double()},
            TypeError,
            "box_deltas must be of dtype float32, float16, bfloat16",
        ),
        (
            {"box_deltas": torch.zeros(1, 5, 4)},
            ValueError,
            r"box_deltas must be of shape \[\*, 4, 4\], got \[1, 5, 4\]",
        ),
        (
            {"class_logits": torch.zeros(2, 4, 3)},
            ValueError,
            r"class_logits must be of shape \[1, 4, \*\], got \[2, 4, 3\]",
        ),
        ({"class_logits": torch.zeros(1, 4, 1)}, ValueError, "last size of class_logits must be at least 2, got 1"),
        ({"priors": torch.zeros(4)}, ValueError, r"priors must be of shape \[\*, 4\], got \[4\]"),
        ({"score_threshold": NAN}, ValueError, "score_threshold must be within .* got nan"),
        ({"iou_threshold": NAN}, ValueError, "iou_threshold must be within"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"max_detections": 0}, ValueError, "max_detections must be at least 1, got 0"),
        ({"method": "soft"}, ValueError, "method must be one of"),
        ({"variances": (0.1,)}, ValueError, r"variances must hold 2 numbers, got \[0.1\]"),
        ({"variances": 0.1}, TypeError, "variances must be a sequence, got 0.1"),
        ({"level_sizes": 4}, TypeError, "level_sizes must be a sequence, got 4"),
        ({"max_detections": 1 << 70}, ValueError, "max_detections must be at most 9223372036854775807, got 11805"),
        ({"pre_nms_top_k": 1 << 63}, ValueError, "pre_nms_top_k must be at most"),
        ({"max_log_size": -1.0}, ValueError, "max_log_size must be within .* got -1.0"),
        ({"union_eps": -1.0}, ValueError, "union_eps must be within"),
        ({"level_sizes": [3, 2]}, ValueError, r"level_sizes must add up to 4 priors, got \[3, 2\]"),
        ({"level_sizes": [5, -1]}, ValueError, "level_sizes must be at least 0, got -1"),
        ({"pre_nms_top_k": 0}, ValueError, "pre_nms_top_k must be at least 1, got 0"),
    ],
)
def test_detect_rejects(change, error, message):
    arguments = {
        "box_deltas": torch.zeros(1, 4, 4),
        "class_logits": torch.zeros(1, 4, 3),
        "priors": torch.zeros(4, 4),
    } | change
    with pytest.raises(error, match=message):
        ops.detect(**arguments)


# Every option of the operator itself, which exported programs call without the function around it.
OPERATOR_OPTIONS = {
    "score_threshold": 0.05,
    "second_threshold": False,
    "iou_threshold": 0.5,
    "top_k": 20,
    "max_detections": 10,
    "across_classes": False,
    "method": "fast",
    "variances": [0.1, 0.2],
    "max_log_size": None,
    "clip": False,
    "union_eps": 0.0,
    "level_sizes": None,
    "pre_nms_top_k": None,
}


@pytest.mark.parametrize("change", [{"level_sizes": [605, -5]}, {"pre_nms_top_k": -1000}])
def test_detect_operator_rejects(change):
    with pytest.raises(RuntimeError, match=f"{next(iter(change))} must be at least"):
        torch.ops.yolact.detect(*draw(random.Random(13), (1, 600, 5)), **OPERATOR_OPTIONS | change)


def test_detect_limits_as_many_levels_as_a_launch_can_be_told(backend):
    inputs = draw(random.Random(16), (1, 130, 5))
    options = {"pre_nms_top_k": 1, "score_threshold": 0.0}
    few, many = [2] * 63 + [4], [2] * 65
    assert_same(ops.detect(*inputs, level_sizes=few, **options), reference.detect(*inputs, level_sizes=few, **options))
    if backend == "cpu":
        ops.detect(*inputs, level_sizes=many, **options)
    else:
        with pytest.raises(RuntimeError, match="level_sizes must hold at most 64 levels, got 65"):
            ops.detect(*inputs, level_sizes=many, **options)


@pytest.mark.cpu_only
def test_detect_takes_numpy_numbers():
    inputs = draw(random.Random(12), (2, 30, 5))
    levels = {"variances": (0.5, 0.25), "level_sizes": [20, 10], "pre_nms_top_k": 4}
    expected = ops.detect(*inputs, **levels)
    found = ops.detect(*inputs, **{name: np.asarray(value)[()] for name, value in levels.items()})
    assert all(torch.equal(getattr(found, field), getattr(expected, field)) for field in FIELDS)


def test_detect_opcheck():
    torch.library.opcheck(torch.ops.yolact.detect, tuple(draw(random.Random(13), (2, 30, 5))), OPERATOR_OPTIONS)
    limited = OPERATOR_OPTIONS | {"level_sizes": [20, 10], "pre_nms_top_k": 4, "max_log_size": 4.0}
    torch.library.opcheck(torch.ops.yolact.detect, tuple(draw(random.Random(14), (1, 30, 5))), limited)


class Module(torch.nn.Module):
    def forward(self, deltas, logits, priors):
        return ops.detect(deltas, logits, priors, max_detections=30)


@pytest.mark.cpu_only
def test_detect_compiles_and_exports_with_dynamic_sizes():
    inputs = [draw(random.Random(15), shape) for shape in [(2, 40, 6), (3, 70, 6)]]
    compiled = torch.compile(Module(), fullgraph=True, dynamic=True, backend="aot_eager")
    batch, count = torch.export.Dim("batch"), torch.export.Dim("count")
    shapes = {"deltas": {0: batch, 1: count}, "logits": {0: batch, 1: count}, "priors": {0: count}}
    exported = torch.export.export(Module(), tuple(inputs[0]), dynamic_shapes=shapes).module()
    for arguments in inputs:
        expected = Module()(*arguments)
        assert_identical(compiled(*arguments), expected)
        assert_identical(exported(*arguments), expected)


@pytest.mark.cpu_only
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is told by Linux")
@pytest.mark.parametrize("score_threshold", [0.05, 0.0])
def test_detect_keeps_no_matrix_of_scores_however_low_the_threshold(score_threshold):
    priors, classes = 4000, 400
    logits = torch.randn(priors, 1 + classes, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1)
    tensors = torch.zeros(2, priors, 4), logits, torch.rand(priors, 4)

    def run():
        ops.detect(*tensors, score_threshold=score_threshold)

    run()
    assert peak(run) < 4 * priors * classes / 2  # of a picture's float32 scores alone
