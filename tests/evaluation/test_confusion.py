"""The confusion matrix of a case that can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolact import mask
from yolact.evaluation.confusion import confusion_matrix
from yolact.evaluation.truth import GroundTruth, read_results, read_truth

A, B = 3, 8  # category ids; labels 0 and 1, background 2


def shape(image_id: int, category_id: int, x: int, width: int = 4, **fields: Any) -> dict[str, Any]:
    """`width` x 10 pixels from (x, 0) of a picture of 10 x 40."""
    pixels = np.zeros((10, 40, 1), np.uint8, order="F")
    pixels[:, x : x + width] = 1
    rle = mask.encode(pixels)[0]
    segmentation = {"size": [10, 40], "counts": rle["counts"].decode()}
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x, 0, width, 10],
        "segmentation": segmentation,
        **fields,
    }


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    annotations = [
        shape(1, A, 0),
        shape(1, A, 10),
        shape(1, B, 20),
        shape(1, A, 28, 12, iscrowd=1),
        shape(2, B, 0),
        shape(2, B, 10),
    ]
    images = [{"id": id, "height": 10, "width": 40} for id in (1, 2, 3)]
    content = {
        "images": images,
        "categories": [{"id": A, "name": "a"}, {"id": B, "name": "b"}],
        "annotations": annotations,
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return read_truth(path)


RESULTS = [
    shape(1, A, 0, score=0.6),  # the first object, were it not taken by the next line's higher score: background
    shape(1, B, 0, score=0.9),  # takes it: a seen as b
    shape(1, A, 10, score=0.5),  # right
    shape(1, A, 21, score=0.4),  # IoU 3/5 with the b there: b seen as a
    shape(1, A, 30, score=0.8),  # in the crowd of its class: not counted
    shape(1, B, 34, score=0.8),  # in a crowd of another class: background seen as b
    shape(2, B, 2, score=0.9),  # IoU 2/6: background seen as b, and the object is missed
    shape(2, B, 10, score=0.9),  # right
    shape(2, B, 10, 5, score=0.8),  # what it overlaps is taken: background seen as b
    shape(2, A, 30, score=0.2),  # below the threshold
    shape(3, A, 0, score=0.9),  # in an empty picture
]
MATRIX = [[1, 1, 0], [1, 1, 1], [2, 3, 0]]


@pytest.mark.parametrize("key", ["bbox", "segmentation"])
def test_counts_by_hand(truth: GroundTruth, key: str) -> None:
    other = {"bbox": "segmentation", "segmentation": "bbox"}[key]
    results = [{name: value for name, value in result.items() if name != other} for result in RESULTS]
    assert confusion_matrix(truth, read_results(results, truth)).tolist() == MATRIX


def test_masks_count_where_there_are_both(truth: GroundTruth) -> None:
    elsewhere = [{**result, "bbox": [35, 0, 1, 1]} for result in RESULTS]
    assert confusion_matrix(truth, read_results(elsewhere, truth)).tolist() == MATRIX


def test_thresholds(truth: GroundTruth) -> None:
    results = read_results(RESULTS, truth)
    assert confusion_matrix(truth, results, score_threshold=1).tolist() == [[0, 0, 2], [0, 0, 3], [0, 0, 0]]
    loose = confusion_matrix(truth, results, iou_threshold=2 / 6)
    assert loose.tolist() == [[1, 1, 0], [1, 2, 0], [2, 2, 0]], "what overlaps by a third is found, too"


def test_what_is_taken_leaves_the_next_best(truth: GroundTruth) -> None:
    both = [shape(2, B, 0, 14, score=0.5), shape(2, B, 0, 15, score=0.4)]  # each meets the objects at 0 and at 10
    matrix = confusion_matrix(truth.only(["b"]), read_results(both, truth), iou_threshold=0.2)
    assert matrix.tolist() == [[2, 1], [0, 0]], "the one in the first picture is missed"


def test_of_some_classes(truth: GroundTruth) -> None:
    matrix = confusion_matrix(truth.only(["a"]), read_results(RESULTS, truth))
    assert matrix.tolist() == [[2, 0], [2, 0]], "what was found as b is not looked at"
