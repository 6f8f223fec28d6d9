"""What a model detects on the pictures of a data set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from yolact.config import get_config
from yolact.errors import UserError
from yolact.evaluation import detect_dataset, evaluate
from yolact.evaluation.detection import detect_pictures
from yolact.options import DetectOptions
from yolact.predictor import Model

SIZES = {41: (20, 30), 7: (50, 40), 12: (30, 30), 9: (20, 20)}  # (height, width) by id
SQUARE = {"bbox": [2, 2, 10, 10], "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]], "area": 100, "iscrowd": 0}


@pytest.fixture
def model() -> Model:
    """A network that answers at random, for classes with the ids 3 and 8."""
    torch.manual_seed(0)
    config = replace(get_config("yolact_lite0"), size=64, detect=DetectOptions(score_threshold=0.01))
    return Model(config.with_classes(("a", "b"), (3, 8))).eval()


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """The annotations of four pictures, which lie beside them."""
    for id, (height, width) in SIZES.items():
        cv2.imwrite(str(tmp_path / f"{id}.png"), np.random.default_rng(id).integers(0, 256, (height, width, 3)))
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": h, "width": w} for i, (h, w) in SIZES.items()],
        "categories": [{"id": 8, "name": "b"}, {"id": 3, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 41, "category_id": 3, **SQUARE}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


def test_detections_carry_the_data_sets_ids(model: Model, truth: Path) -> None:
    pictures = list(detect_dataset(model, truth, truth.parent, batch_size=3))
    assert [{result["image_id"] for result in results} for results in pictures] == [{id} for id in SIZES]
    results = [result for picture in pictures for result in picture]
    assert {result["category_id"] for result in results} <= {3, 8}
    assert all(result["segmentation"]["size"] == list(SIZES[result["image_id"]]) for result in results)
    scores = evaluate(json.loads(json.dumps(results)), truth)
    assert all(0 <= scores[kind]["AP"] <= 1 for kind in ("bbox", "segm"))


def test_pictures_without_truths_are_detected_on(model: Model, truth: Path) -> None:
    content = json.loads(truth.read_text())
    del content["annotations"]
    truth.write_text(json.dumps(content))
    assert len(list(detect_dataset(model, truth, truth.parent))) == len(SIZES)


def test_a_model_of_other_categories_is_refused(model: Model, truth: Path) -> None:
    content = json.loads(truth.read_text())
    content["categories"] = [{"id": 3, "name": "a"}]
    truth.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"truth\.json: the model detects category ids \[8\] that are not in it"):
        next(detect_dataset(model, truth, truth.parent))
    assert len(list(detect_dataset(model, truth, truth.parent, class_agnostic=True))) == len(SIZES)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (2, 3)])
def test_pictures_are_read_ahead_but_not_all(batch_size: int, workers: int) -> None:
    class Counted:
        reads = 0

        def __init__(self, id: int) -> None:
            self.id = id

        def read(self) -> int:
            Counted.reads += 1
            return self.id

    class Echo:
        @staticmethod
        def predict(pixels: list[int], **_: Any) -> list[Any]:
            assert len(pixels) <= batch_size
            return [SimpleNamespace(to_coco=lambda id, found=found: [(id, found)]) for found in pixels]

    pictures = [Counted(id) for id in range(100)]
    found = detect_pictures(Echo(), pictures, batch_size, workers)  # type: ignore[arg-type]
    for id in range(50):
        picture, results = next(found)
        assert (picture.id, results) == (id, [(id, id)])
        assert Counted.reads <= id + 1 + 2 * batch_size + workers
    found.close()
    assert Counted.reads < 100
