"""A million small random problems on a GPU beside the reading of `batched`; fewer of them on the CPU and on simt."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext

import batched
import pytest
import torch
from backends import running_on
from calls import results_of
from conftest import skip_or_fail
from torch import Generator, Tensor

from yolact import ops

CHUNK = 100_000  # problems a call


Chunks = list[tuple[int, Generator, random.Random]]


@pytest.fixture(params=["cpu", "simt", "cuda"])
def chunks(request: pytest.FixtureRequest) -> Iterator[Chunks]:
    """So many problems a call, and what they and their options are drawn from: ten times, for a million on a GPU."""
    device = request.getfixturevalue("gpu") if request.param == "cuda" else torch.device("cpu")
    problems = {"cpu": 200, "simt": 50, "cuda": CHUNK}[request.param]
    with running_on("simt", skip_or_fail) if request.param == "simt" else nullcontext():
        yield [(problems, Generator(device).manual_seed(seed), random.Random(seed)) for seed in range(10)]


def uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def boxes_of(generator: Generator, problems: int, count: int) -> Tensor:  # [problems, count, 4]
    corner, side = uniform(generator, problems, count, 2, 2).unbind(2)
    return torch.cat([corner, corner + side * uniform(generator, problems, 1, 1)], -1)


def test_fast_nms_on_a_million_problems(chunks):
    for problems, generator, draw in chunks:
        classes, count = draw.randint(1, 3), draw.randint(1, 9)
        boxes, scores = boxes_of(generator, problems, count), uniform(generator, problems, classes, count)
        coarse = uniform(generator, problems, 2) < 0.5  # problems of equal boxes, exact overlaps and equal scores
        boxes = torch.where(coarse[:, :1, None], (boxes * 4).round(), boxes)
        scores = torch.where(coarse[:, 1:, None], (scores * 4).round() / 4, scores)
        boxes.masked_fill_(uniform(generator, *boxes.shape) < 0.01, torch.nan)
        scores.masked_fill_(uniform(generator, *scores.shape) < 0.02, torch.nan)
        options = {
            "iou_threshold": draw.choice([0.5, 0.3, 0.0]),
            "top_k": draw.choice([1, 4, 200]),
            "max_detections": draw.choice([1, 5, 30]),
            "score_threshold": draw.choice([None, 0.25]),
            "across_classes": draw.random() < 0.4,
            "method": draw.choice(["fast", "greedy"]),
            "union_eps": draw.choice([0.0, 1e-6]),
            "plus_one": draw.random() < 0.3,
            "suppress_equal": draw.random() < 0.5,
        }
        found, expected = results_of(ops.fast_nms(boxes, scores, **options)), batched.fast_nms(boxes, scores, **options)
        for here, there in zip(found, expected, strict=True):
            assert torch.equal(here, there), options


def test_detect_on_a_million_problems(chunks):
    for problems, generator, draw in chunks:
        classes, count = draw.randint(1, 4), draw.randint(1, 9)
        priors = boxes_of(generator, 1, count)[0] + 0.05
        deltas, logits = 2 * normal(generator, problems, count, 4), 2 * normal(generator, problems, count, 1 + classes)
        logits.masked_fill_(uniform(generator, *logits.shape) < 0.01, torch.nan)
        options = {
            "score_threshold": draw.choice([0.05, 0.3, 0.6]),
            "second_threshold": draw.random() < 0.5,
            "iou_threshold": draw.choice([0.5, 0.2]),
            "top_k": draw.choice([2, 200]),
            "max_detections": draw.choice([3, 20]),
            "across_classes": draw.random() < 0.4,
            "method": draw.choice(["fast", "greedy"]),
            "max_log_size": draw.choice([None, 0.3]),
            "clip": draw.random() < 0.3,
        }
        *expected, clear = batched.detect(deltas, logits, priors, **options)
        assert clear.float().mean() > 0.99
        boxes, label, score, prior, kept = (
            tensor[clear] for tensor in results_of(ops.detect(deltas, logits, priors, **options))
        )
        wanted_boxes, wanted_label, wanted_score, wanted_prior, wanted_kept = (tensor[clear] for tensor in expected)
        assert torch.equal(kept, wanted_kept), options
        assert torch.equal(label, wanted_label), options
        assert torch.equal(prior, wanted_prior), options
        torch.testing.assert_close(score, wanted_score, rtol=5e-7, atol=0)  # 4 units in the last place
        torch.testing.assert_close(boxes, wanted_boxes, rtol=1e-6, atol=1e-6)


def test_masks_and_strings_on_a_million_problems(chunks):
    for problems, generator, draw in chunks:
        height, width, channels, detections = (draw.randint(1, most) for most in (6, 7, 6, 3))
        size = (draw.randint(1, 14), draw.randint(1, 20))
        prototypes = normal(generator, problems, height, width, channels)
        coefficients = normal(generator, problems, detections, channels)
        boxes = uniform(generator, problems, detections, 4) * 1.4 - 0.2
        options = {
            "activation": draw.choice(["sigmoid", "none"]),
            "crop": draw.choice(["before", "after", "none"]),
            "padding": draw.choice([0.0, 1.0]),
        }
        threshold = draw.choice([0.3, 0.5])
        values, may = batched.mask_values(prototypes, coefficients, boxes, size, **options)
        masks = ops.assemble_masks(prototypes, coefficients, boxes, size, threshold=threshold, **options)
        unclear = (values - threshold).abs() < 1e-5
        assert unclear.float().mean() < 1e-3
        assert torch.equal(masks & ~unclear, (values > threshold) & may & ~unclear), options
        packed = ops.assemble_masks(prototypes, coefficients, boxes, size, threshold=threshold, packed=True, **options)
        bits = packed[..., None] >> torch.arange(8, dtype=torch.uint8, device=packed.device) & 1
        assert torch.equal(bits.flatten(-2)[..., : size[1]].bool(), masks)

        flat, capacity = masks.flatten(0, 1), draw.choice([3, 20, 400])
        encoded = ops.encode_run_lengths(flat, capacity=capacity)
        sizes = torch.tensor(size, device=prototypes.device).expand(problems, 2)
        direct = ops.assemble_run_lengths(
            prototypes, coefficients, boxes, sizes, threshold=threshold, capacity=capacity, **options
        )
        for here, there in zip(results_of(direct), results_of(encoded), strict=True):
            assert torch.equal(here, there), options


def test_run_lengths_of_a_million_masks(chunks):
    for problems, generator, draw in chunks:
        height, width = draw.randint(1, 9), draw.randint(1, 12)
        density = uniform(generator, problems, 1, 1) ** 2
        masks = uniform(generator, problems, height, width) < density
        capacity = draw.choice([4, 40, 700])
        encoded = ops.encode_run_lengths(masks, capacity=capacity)
        expected = batched.strings(masks, capacity)
        for here, there in zip((encoded.data, encoded.length, encoded.needed), expected, strict=True):
            assert torch.equal(here, there)
        assert torch.equal(encoded.size, encoded.size.new_tensor([height, width]).expand(problems, 2))
        whole = ops.encode_run_lengths(masks, capacity=700)
        assert torch.equal(ops.decode_run_lengths(whole, (height, width)), masks)


def test_strings_of_long_runs(chunks):
    """Counts of several characters; fewer masks, as each has thousands of pixels."""
    for problems, generator, _ in chunks:
        masks = uniform(generator, max(20, problems // 1000), 90, 130) < 0.001
        encoded = ops.encode_run_lengths(masks, capacity=300)
        for here, there in zip(
            (encoded.data, encoded.length, encoded.needed), batched.strings(masks, 300), strict=True
        ):
            assert torch.equal(here, there)
