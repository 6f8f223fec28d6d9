"""Matching against a loop that follows the rule to the letter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from yolact.options import TrainOptions
from yolact.train.matching import BACKGROUND, NEUTRAL, encode, match

OPTIONS = TrainOptions()


def iou(a: list[float], b: list[float]) -> tuple[float, float]:
    """IoU of two boxes, and the share of `b` that lies in `a`."""
    w = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return w * h / (area_a + area_b - w * h), w * h / area_b


def match_slowly(priors: Tensor, boxes: Tensor, crowd: Tensor) -> list[int]:
    corners = torch.cat([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], 1).tolist()
    table = {(t, p): iou(b, c)[0] for t, b in enumerate(boxes.tolist()) for p, c in enumerate(corners)}
    answers = []
    for p in range(len(corners)):
        best, truth = max(((table[t, p], -t) for t in range(len(boxes))), default=(0.0, 0))
        answers.append(-truth if best >= 0.5 else NEUTRAL if best >= 0.4 else BACKGROUND)
    truths_left, priors_left = set(range(len(boxes))), set(range(len(corners)))
    for t, p in sorted(table, key=lambda pair: (-table[pair], pair)):
        if t in truths_left and p in priors_left:
            answers[p] = t
            truths_left.remove(t)
            priors_left.remove(p)
    return [
        NEUTRAL if a < 0 and any(iou(b, c)[1] > 0.7 for b in crowd.tolist()) else a
        for a, c in zip(answers, corners, strict=True)
    ]


def random_boxes(count: int, generator: torch.Generator) -> Tensor:
    centres, sizes = torch.rand(2, count, 2, generator=generator, dtype=torch.float64)
    sizes = 0.05 + 0.5 * sizes
    return torch.cat([centres - sizes / 2, centres + sizes / 2], 1)


@pytest.mark.parametrize("seed", range(20))
def test_match_follows_the_rule(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truths, crowds = seed % 6, seed % 3
    corners = random_boxes(60, generator)
    priors = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    boxes, crowd = random_boxes(truths, generator), random_boxes(crowds, generator)
    assert match(priors, boxes, crowd, OPTIONS).tolist() == match_slowly(priors, boxes, crowd)


def test_every_truth_gets_a_prior_whatever_the_overlap() -> None:
    priors = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]])
    far = torch.tensor([[0.0, 0.0, 0.01, 0.01], [0.45, 0.45, 0.55, 0.55]])
    matched = match(priors, far, far[:0], OPTIONS)
    assert sorted(matched.tolist()) == [0, 1]
    assert matched[0] == 1, "the best pair of all is taken first"


def test_more_truths_than_priors() -> None:
    priors = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    boxes = torch.tensor([[0.0, 0.0, 0.1, 0.1], [0.4, 0.4, 0.6, 0.6]])
    assert match(priors, boxes, boxes[:0], OPTIONS).tolist() == [1]


def test_encode_is_the_inverse_of_decoding() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, corners = random_boxes(50, generator), random_boxes(50, generator)
    priors = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    deltas = encode(boxes, priors, (0.1, 0.2))
    centres = priors[:, :2] + deltas[:, :2] * 0.1 * priors[:, 2:]
    sizes = priors[:, 2:] * torch.exp(0.2 * deltas[:, 2:])
    torch.testing.assert_close(torch.cat([centres - sizes / 2, centres + sizes / 2], 1), boxes)
