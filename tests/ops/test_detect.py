"""Raw outputs to detections."""

from __future__ import annotations

import math
import random

import brute_force
import pytest
import torch
from detection import INF, NAN, SCORE, SHAPES, assert_same, draw, draw_options

from yolact import ops
from yolact.ops import reference


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
