"""Priors against other ways of saying where they are."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from yolact.config import CONFIGS, Config, get_config
from yolact.models.anchors import make_priors


def original_priors(config: Config) -> np.ndarray:
    """Section 1 of the original's rules, a prior at a time: [P, 4] cx cy w h."""
    priors = []
    for side, scale in zip(config.feature_sizes, config.anchors.scales, strict=True):
        for j in range(side):
            for i in range(side):
                for step in range(3 if "plus" in config.name else 1):
                    for ratio in (1, 1 / 2, 2):
                        s = scale * 2 ** (step / 3) / config.size
                        w, h = s * sqrt(ratio), s / sqrt(ratio)
                        priors.append(((i + 0.5) / side, (j + 0.5) / side, w, w if config.anchors.square else h))
    return np.array(priors, dtype=np.float32)


def mmdetection_priors(config: Config) -> np.ndarray:
    """Anchors in pixels, of height / width 0.5, 1, 2, shifted by strides that need not be whole: [P, 4] cx cy w h."""
    levels = []
    for side, base in zip((69, 35, 18, 9, 5), (8, 16, 32, 64, 128), strict=True):
        stride = 550 / side
        ratios = np.sqrt([0.5, 1.0, 2.0])
        widths, heights = 3 * base / ratios, 3 * base * ratios
        shifts = np.arange(side) * stride + stride / 2
        cy, cx = np.meshgrid(shifts, shifts, indexing="ij")
        centres = np.stack((cx, cy), -1).reshape(-1, 1, 2).repeat(3, axis=1)
        sizes = np.stack((widths, heights), -1)[None].repeat(side * side, axis=0)
        levels.append(np.concatenate((centres, sizes), -1).reshape(-1, 4) / 550)
    return np.concatenate(levels)


@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.startswith("mmdet")])
def test_priors_follow_the_originals_rule(name: str) -> None:
    config = get_config(name)
    np.testing.assert_array_equal(make_priors(config).numpy(), original_priors(config))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("mmdet")])
def test_priors_follow_mmdetections_rule(name: str) -> None:
    config = get_config(name)
    # Another order of operations: half a unit in the last place of a number near 1.
    np.testing.assert_allclose(make_priors(config).numpy(), mmdetection_priors(config), rtol=0, atol=6e-8)


def test_pascal_priors_are_truly_of_ratio() -> None:
    first = make_priors(get_config("yolact_resnet50_pascal"))[:3, 2:] * 550
    np.testing.assert_allclose(first, [[32, 32], [32 / sqrt(2), 32 * sqrt(2)], [32 * sqrt(2), 32 / sqrt(2)]], rtol=1e-6)
