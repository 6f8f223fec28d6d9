"""Cases of `detect`, and what equal results are."""

from __future__ import annotations

import math
import random

import torch

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
