"""Raw outputs to detections."""

from __future__ import annotations

import math
import random
from pathlib import Path

import brute_force
import numpy as np
import pytest
import torch

from benchmarks.scale import peak
from yolact import ops
from yolact.ops import reference

NAN, INF = float("nan"), float("inf")
FIELDS = ("boxes", "label", "score", "prior", "count")
OPTIONS = {
    "score_threshold": (0.05, 0.05, 0.3, 0.0, -1.0, 0.9, 1.0),
    "second_threshold": (False, False, True),
    "iou_threshold": (0.5, 0.5, 0.2),
    "top_k": (1, 5, 200),
    "max_detections": (1, 20, 100, None),
    "across_classes": (False, False, True),
    "method": ("fast", "greedy"),
    "variances": ((0.1, 0.2), (0.0, 1.0)),
    "max_log_size": (None, math.log(1000 / 16), 0.1),
    "clip": (False, True),
    "union_eps": (0.0, 1e-6),
    "pre_nms_top_k": (None, 1, 7),
}
SHAPES = [(1, 40, 3), (2, 100, 20), (1, 30, 80), (3, 7, 1), (1, 50, 15), (1, 50, 16), (1, 50, 33), (2, 0, 3), (0, 5, 3)]
# The kernel's exponentials are off by a unit in the last place at most, and so are their sum and the quotient.
SCORE = {"rtol": 4 * 2**-23, "atol": 1e-37}


def draw(rng: random.Random, shape: tuple[int, int, int], specials: bool = False) -> list[torch.Tensor]:
    """Few places and few rows of logits, drawn again and again: equal scores and equal boxes in plenty."""
    batch, count, classes = shape
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    some = max(1, count // rng.choice([1, 2, 8]))
    again = torch.randint(0, some, (batch, count), generator=generator)
    logits = 2 * torch.randn(some, 1 + classes, generator=generator)
    logits[:, 0] += rng.choice([-2.0, 2.0, 4.0])
    logits = logits[again]
    deltas = torch.randn(some, 4, generator=generator)[again[:, torch.randperm(count, generator=generator)]]
    priors = torch.rand(max(1, count // 10), 4, generator=generator)
    priors = priors[torch.randint(0, len(priors), (count,), generator=generator)]
    if specials and logits.numel():
        for tensor, values in ((logits, (NAN, INF, -INF)), (deltas, (NAN, INF, -INF, 300.0)), (priors, (0.0, NAN))):
            for value in values:
                places = torch.randint(0, tensor.numel(), (1 + tensor.numel() // 500,), generator=generator)
                tensor.view(-1)[places] = value
    return [deltas, logits, priors]


def draw_options(rng: random.Random, priors: int) -> dict:
    options = {name: rng.choice(values) for name, values in OPTIONS.items()}
    options["level_sizes"] = rng.choice([None, [priors // 2, 0, priors - priors // 2]])
    return options


def assert_same(actual, expected) -> None:
    torch.testing.assert_close(actual.score, expected.score, **SCORE)
    for field in ("count", "label", "prior", "boxes"):
        assert torch.equal(getattr(actual, field), getattr(expected, field)), field


def assert_identical(actual, expected) -> None:
    for field in FIELDS:
        assert torch.equal(getattr(actual, field), getattr(expected, field)), field


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("specials", [False, True])
def test_detect_matches_reference(shape, specials):
    rng = random.Random(f"{shape} {specials}")
    for _ in range(15):
        inputs, options = draw(rng, shape, specials), draw_options(rng, shape[1])
        assert_same(ops.detect(*inputs, **options), reference.detect(*inputs, **options))


@pytest.mark.parametrize("specials", [False, True])
def test_detect_matches_brute_force(specials):
    rng = random.Random(specials)
    for _ in range(40):
        shape = rng.choice([(1, 40, 3), (1, 12, 20), (1, 60, 1)])
        inputs, options = draw(rng, shape, specials), draw_options(rng, shape[1])
        inputs[0].nan_to_num_(nan=NAN, posinf=1.0, neginf=-1.0)  # the loops know no infinite box
        detections = ops.detect(*inputs, **options)
        expected = brute_force.detect(inputs[0][0].numpy(), inputs[1][0].numpy(), inputs[2].numpy(), **options)
        count = int(detections.count[0])
        assert count == len(expected), options
        assert detections.label[0, :count].tolist() == [row[0] for row in expected], options
        assert detections.prior[0, :count].tolist() == [row[1] for row in expected], options
        for row, (_, _, score, box) in enumerate(expected):
            torch.testing.assert_close(detections.score[0, row].item(), score, **SCORE)
            assert detections.boxes[0, row].tolist() == box.tolist()


@pytest.mark.parametrize("survivors", [1, 3, 10])
def test_detect_fills_up_with_less_likely_classes(survivors):
    """Few priors stay: their copies in other classes follow, below the threshold, up to max_detections."""
    deltas, logits, priors = draw(random.Random(survivors), (2, 400, 80))
    logits[..., 0] = 20.0
    places = torch.arange(survivors) * 7
    logits[:, places, 0] = 0.0
    detections = ops.detect(deltas, logits, priors)
    assert_same(detections, reference.detect(deltas, logits, priors))
    assert detections.count.tolist() == [min(100, 80 * survivors)] * 2 or survivors > 1
    assert (detections.score < 0.05).any()
    for prior in detections.prior.unique():
        assert prior == -1 or prior in places
    strict = ops.detect(deltas, logits, priors, second_threshold=True)
    assert (strict.score[strict.prior >= 0] > 0.05).all()
    first = strict.count[0]
    assert torch.equal(strict.prior[0, :first], detections.prior[0, :first])


def test_detect_across_classes_without_a_cap():
    inputs = draw(random.Random(2), (1, 900, 20))
    options = {"across_classes": True, "max_detections": None, "iou_threshold": 0.7}
    detections = ops.detect(*inputs, **options)
    assert_same(detections, reference.detect(*inputs, **options))
    assert detections.boxes.shape == (1, 200, 4)
    assert 100 < detections.count.item() < 200


@pytest.mark.parametrize("classes", [3, 80])
def test_detect_goes_as_deep_as_it_must(classes):
    """Every prior stays, every logit is the same, and all boxes are among five."""
    priors = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))[torch.arange(1000) % 5]
    deltas, logits = torch.zeros(1, 1000, 4), torch.zeros(1, 1000, 1 + classes)
    for options in ({"score_threshold": 0.0}, {"score_threshold": -1.0, "max_detections": None, "top_k": 11}):
        assert_same(ops.detect(deltas, logits, priors, **options), reference.detect(deltas, logits, priors, **options))


@pytest.mark.parametrize("threshold", [1e-30, 1e-6, 0.05, 0.5, 0.999, 1 - 2**-24])
def test_detect_rejects_before_the_softmax_only_what_it_would_reject(threshold, backend):
    """Scores that crowd around the threshold: what stays is exactly what the exact softmax puts above it."""
    count = 401 if backend == "simt" else 4001  # every overlap of every class, on fibers
    edge = math.log(threshold / (1 - threshold))
    logits = torch.full((1, count, 18), -INF)
    logits[0, :, 0] = torch.linspace(-50, 50, count)
    logits[0, :, 5] = logits[0, :, 0] + edge + torch.linspace(-1, 1, count) ** 5 * 1e-3
    priors = torch.rand(count, 4)
    options = {"iou_threshold": 1.0, "top_k": count, "max_detections": count, "second_threshold": True}
    screened = ops.detect(torch.zeros(1, count, 4), logits, priors, score_threshold=threshold, **options)
    everything = ops.detect(torch.zeros(1, count, 4), logits, priors, score_threshold=-1.0, **options)
    above = int((everything.score > threshold).sum())
    assert count / 4 < above < 3 * count / 4 or threshold > 0.99
    assert screened.count.item() == above
    assert torch.equal(screened.score[:, :above], everything.score[:, :above])


def test_detect_scores_are_the_softmax(backend):
    count = 100 if backend == "simt" else 500
    logits = torch.randn(1, count, 81, generator=torch.Generator().manual_seed(1)) * 8
    priors = torch.rand(count, 4)
    detections = ops.detect(
        torch.zeros(1, count, 4),
        logits,
        priors,
        score_threshold=-1.0,
        iou_threshold=1.0,
        max_detections=None,
        top_k=count,
    )
    exponentials = (logits - logits.amax(-1, keepdim=True)).double().exp()[0]  # the difference rounds as in torch
    softmax = exponentials / exponentials.sum(-1, keepdim=True)
    expected = softmax[:, 1:][detections.prior[0], detections.label[0]].float()
    assert detections.count.item() == count * 80
    torch.testing.assert_close(detections.score[0], expected, **SCORE)


def test_detect_drops_priors_with_nan():
    deltas, logits, priors = torch.zeros(1, 4, 4), torch.zeros(1, 4, 3), torch.rand(4, 4)
    logits[0, 0, 2] = NAN
    logits[0, 1, 0] = INF
    deltas[0, 2, 3] = NAN
    for threshold in (-1.0, 0.05):
        detections = ops.detect(deltas, logits, priors, score_threshold=threshold)
        assert detections.prior[0].unique().tolist() == [-1, 3]


def test_detect_limits_each_level():
    inputs = draw(random.Random(9), (1, 300, 5))
    levels = [200, 75, 25]
    options = {"iou_threshold": 1.0, "max_detections": None, "score_threshold": 0.0}
    detections = ops.detect(*inputs, level_sizes=levels, pre_nms_top_k=20, **options)
    prior = detections.prior[0].unique()[1:]
    assert [int(((prior >= low) & (prior < high)).sum()) for low, high in ((0, 200), (200, 275), (275, 300))] == [
        20
    ] * 3


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


@pytest.mark.parametrize("function", [ops.detect, reference.detect])
def test_detect_orders_equal_scores_by_label(function):
    """One prior a class, sure of it as the others are of theirs: every score is one number, in whatever lane it is."""
    classes = 80
    logits = torch.full((1, classes, 1 + classes), -4.0)
    logits[0, :, 0] = 0.0
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(0))
    logits[0, torch.arange(classes), 1 + order] = 3.0
    found = function(torch.zeros(1, classes, 4), logits, torch.rand(classes, 4), second_threshold=True)
    assert found.label[0, :classes].tolist() == list(range(classes))
    assert torch.equal(order[found.prior[0, :classes]], torch.arange(classes))


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
