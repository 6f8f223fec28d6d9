"""The evaluator against COCO's own numbers, and on what a model detects."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import shared_path
from pycocotools import mask

from yolact.config import DetectOptions, get_config
from yolact.errors import UserError
from yolact.evaluation import detect_dataset, evaluate
from yolact.evaluation.coco import METRICS
from yolact.predictor import Model

TRUTH = {
    "images": [{"id": 1, "file_name": "1.png", "height": 20, "width": 20}],
    "categories": [{"id": 3, "name": "a"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 3,
            "bbox": [2, 2, 10, 10],
            "area": 100,
            "iscrowd": 0,
            "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]],
        }
    ],
}
FOUND = {"image_id": 1, "category_id": 3, "score": 0.9, "bbox": [2, 2, 10, 10]}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(TRUTH))
    return path


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_reproduces_cocos_own_numbers(kind: str) -> None:
    folder = shared_path("data/coco_eval_oracle")
    scores = evaluate(folder / f"instances_val2014_fake{kind}100_results.json", folder / "instances_val2014_100.json")
    published = re.search(
        rf"type={kind}\n(.*?)(?:---|\Z)", (folder / "val2014_fake_eval_res.txt").read_text(), re.DOTALL
    )
    assert published is not None
    numbers = [float(value) for value in re.findall(r"= (-?\d\.\d+)", published[1])]
    assert len(numbers) == len(METRICS)
    assert [round(scores[kind][metric], 3) for metric in METRICS] == numbers


def test_only_what_the_results_hold_is_scored(truth: Path) -> None:
    assert list(evaluate([FOUND], truth)) == ["bbox"]
    square = mask.frPyObjects(TRUTH["annotations"][0]["segmentation"], 20, 20)[0]
    both = evaluate([{**FOUND, "segmentation": {**square, "counts": square["counts"].decode()}}], truth)
    assert [both[kind]["AP"] for kind in ("bbox", "segm")] == pytest.approx([1, 1])
    assert both["segm"]["APl"] == -1, "no large object in the truth"


def test_no_detections_score_nothing(truth: Path) -> None:
    scores = evaluate([], truth)
    assert [scores[kind]["AP"] for kind in ("bbox", "segm")] == [0, 0]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("missing.json", r"missing\.json: cannot be read"),
        ([{**FOUND, "image_id": 9}], r"truth\.json: has no pictures \[9\]"),
        ([{**FOUND, "segmentation": {"size": [20, 20], "counts": [400]}}], "a segmentation does not read"),
        ([FOUND, {**FOUND, "score": "0.9"}], r"result 2 of 2: score is '0\.9', wanted a finite number"),
        ([{**FOUND, "score": float("nan")}], "score is nan"),
        ([{**FOUND, "category_id": 4}], "category_id 4 is not among"),
        ([{**FOUND, "category_id": [3]}], r"category_id \[3\] is not among"),
        ([{**FOUND, "segmentation": {"size": [20, 10], "counts": "0"}}], r"RLE has size \[20, 10\], its picture"),
        ([{key: FOUND[key] for key in ("image_id", "category_id", "score")}], "neither all a bbox nor"),
        ([{"score": 1}], r"truth\.json: does not fit the results"),
        ({"a": 1}, "the results are no list"),
    ],
)
def test_faults_are_told(truth: Path, results: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(results, truth)  # type: ignore[arg-type]


def test_truth_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("[]")
    with pytest.raises(UserError, match=r"other\.json"):
        evaluate([FOUND], path)


@pytest.fixture
def model() -> Model:
    """A network that answers at random, for classes with the ids 3 and 8."""
    torch.manual_seed(0)
    config = replace(get_config("yolact_lite0"), size=64, detect=DetectOptions(score_threshold=0.01))
    return Model(config.with_classes(("a", "b"), (3, 8))).eval()


def test_a_models_detections_carry_the_data_sets_ids(model: Model, tmp_path: Path) -> None:
    sizes = {41: (20, 30), 7: (50, 40), 12: (30, 30)}
    for id, (height, width) in sizes.items():
        cv2.imwrite(str(tmp_path / f"{id}.png"), np.random.default_rng(id).integers(0, 256, (height, width, 3)))
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": h, "width": w} for i, (h, w) in sizes.items()],
        "categories": [{"id": 8, "name": "b"}, {"id": 3, "name": "a"}],
        "annotations": [{**TRUTH["annotations"][0], "image_id": 41}],  # type: ignore[index]
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    pictures = list(detect_dataset(model, path, tmp_path, batch_size=2))
    assert [{result["image_id"] for result in results} for results in pictures] == [{41}, {7}, {12}]
    results = [result for picture in pictures for result in picture]
    assert {result["category_id"] for result in results} <= {3, 8}
    assert all(result["segmentation"]["size"] == list(sizes[result["image_id"]]) for result in results)
    scores = evaluate(json.loads(json.dumps(results)), path)
    assert all(0 <= scores[kind]["AP"] <= 1 for kind in ("bbox", "segm"))


def test_pictures_without_truths_are_detected_on(model: Model, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((20, 20, 3), np.uint8))
    categories = [{"id": 8, "name": "b"}, {"id": 3, "name": "a"}]
    (tmp_path / "test.json").write_text(json.dumps({"images": TRUTH["images"], "categories": categories}))
    assert len(list(detect_dataset(model, tmp_path / "test.json", tmp_path))) == 1


def test_a_model_of_other_categories_is_refused(model: Model, truth: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(UserError, match=r"truth\.json: the model detects category ids \[8\] that are not in it"):
        next(detect_dataset(model, truth, tmp_path))
