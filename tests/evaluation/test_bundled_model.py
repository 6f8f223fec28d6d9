"""The bundled model answers as its card says."""

from __future__ import annotations

import re
from itertools import chain

import pytest
from conftest import ROOT, shared_path

from yolact.evaluation import detect_dataset, evaluate
from yolact.loading import load

WEIGHTS = ROOT / "yolact" / "weights"


def card() -> dict[str, list[float]]:
    """AP, AP50 and AP75 by kind, from the card's first table."""
    rows = re.findall(
        r"^\| (boxes|masks) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|",
        (WEIGHTS / "yolact_lite0_dogcat.md").read_text(),
        re.MULTILINE,
    )
    return {kind: [float(number) for number in numbers] for kind, *numbers in rows[:2]}


def test_scores_as_its_card_says() -> None:
    annotations, images = shared_path("data/dogcat/val.json"), shared_path("data/dogcat/val")
    results = list(chain.from_iterable(detect_dataset(load("yolact_lite0_dogcat"), annotations, images)))
    scores = evaluate(results, annotations)
    for kind, row in (("bbox", "boxes"), ("segm", "masks")):
        found = [scores[kind][metric] for metric in ("AP", "AP50", "AP75")]
        # Another processor's rounding moves a score, and with it a place in the order, by a little.
        assert found == pytest.approx(card()[row], abs=0.01)


def test_is_small() -> None:
    assert (WEIGHTS / "yolact_lite0_dogcat.pth").stat().st_size <= 12_000_000
