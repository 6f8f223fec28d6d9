"""Truths and results with every kind of fault: each told in a line that names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from yolact.errors import UserError
from yolact.evaluation.truth import read_results, read_truth

POLYGON = [[2, 2, 12, 2, 12, 12, 2, 12]]
RLE = {"size": [20, 20], "counts": "Z1d00000000000000000`7"}
ANNOTATION = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [2, 2, 10, 10], "segmentation": POLYGON}
TRUTH = {
    "images": [{"id": 1, "height": 20, "width": 20}],
    "categories": [{"id": 3, "name": "a"}],
    "annotations": [{**ANNOTATION, "area": 100, "iscrowd": 0}],
}
FOUND = {"image_id": 1, "category_id": 3, "score": 0.9, "bbox": [2, 2, 10, 10]}


def written(folder: Path, content: Any) -> Path:
    path = folder / "truth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"annotations": []}, "the results are no list of detections but a dict"),
        (["a"], "holds 'a' where an object belongs"),
        ([FOUND, None], "result 2 of 2: holds None where an object belongs"),
        ([{**FOUND, "image_id": 9}], "image_id 9 is not among the truth's pictures"),
        ([{**FOUND, "image_id": "1"}], "image_id is '1', wanted a whole number"),
        ([{**FOUND, "image_id": True}], "image_id is True"),
        ([{"bbox": [0, 0, 1, 1], "score": 1}], "image_id is None"),
        ([FOUND, {**FOUND, "score": "0.9"}], "result 2 of 2: score is '0.9', wanted a finite number"),
        ([{**FOUND, "score": float("nan")}], "score is nan"),
        ([{**FOUND, "score": 10**400}], "score is 1000"),
        ([{**FOUND, "score": True}], "score is True"),
        ([{**FOUND, "category_id": 4}], "category_id 4 is not among the truth's categories"),
        ([{**FOUND, "category_id": [3]}], r"category_id is \[3\]"),
        ([{**FOUND, "category_id": 3.0}], r"category_id is 3\.0"),
        ([{**FOUND, "bbox": [2, 2, 10]}], r"bbox is \[2, 2, 10\], wanted four numbers"),
        ([{**FOUND, "bbox": [2, 2, -1, 10]}], "bbox is "),
        ([{**FOUND, "bbox": [2, 2, "1", 10]}], "bbox is "),
        ([{**FOUND, "bbox": [2, 2, float("inf"), 10]}], "bbox is "),
        ([{**FOUND, "bbox": None}], "bbox is None"),
        ([FOUND, {key: FOUND[key] for key in ("image_id", "category_id", "score")}], "result 2 of 2: bbox is None"),
        ([{key: FOUND[key] for key in ("image_id", "category_id", "score")}], "neither a bbox nor a segmentation"),
        ([{**FOUND, "segmentation": {"size": [20, 20], "counts": [400]}}], "is no RLE with a string"),
        ([{**FOUND, "segmentation": POLYGON}], "is no RLE with a string"),
        ([{**FOUND, "segmentation": {"counts": RLE["counts"]}}], "does not read"),
        ([{**FOUND, "segmentation": {**RLE, "counts": "Z1"}}], "does not read"),
        ([{**FOUND, "segmentation": {**RLE, "counts": "é"}}], "does not read"),
        ([{**FOUND, "segmentation": {**RLE, "size": [20, 10]}}], r"RLE has size \[20, 10\], its picture \[20, 20\]"),
        ([{**FOUND, "segmentation": {**RLE, "size": 20}}], "does not read"),
    ],
)
def test_faults_of_results_are_told(tmp_path: Path, results: Any, message: str) -> None:
    truth = read_truth(written(tmp_path, TRUTH))
    with pytest.raises(UserError, match=message):
        read_results(results, truth)
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match=rf"results\.json: .*{message}"):
        read_results(tmp_path / "results.json", truth)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[", "is not JSON"),
        ([], "holds no list 'images'"),
        ({key: TRUTH[key] for key in ("images", "categories")}, "holds no list 'annotations', so there is no truth"),
        ({**TRUTH, "annotations": {}}, "holds no list 'annotations'"),
        ({**TRUTH, "categories": [{"id": 3, "name": "\ud800"}]}, "name is .*, which is no Unicode text"),
        ({**TRUTH, "images": [{"id": 2**63, "height": 1, "width": 1}]}, "id is 9223372036854775808, wanted a whole"),
        ({**TRUTH, "images": []}, "its list 'images' is empty"),
        ({**TRUTH, "categories": []}, "its list 'categories' is empty"),
        ({**TRUTH, "categories": TRUTH["categories"] * 2}, "names a category id twice"),
        ({**TRUTH, "images": [*TRUTH["images"], *TRUTH["images"]]}, "names picture id 1 twice"),
        ({**TRUTH, "images": [{"id": 1, "height": 0, "width": 20}]}, r"picture 1: height and width are \(0, 20\)"),
        ({**TRUTH, "images": [{"id": 1, "width": 20}]}, "height is None, wanted a whole number"),
    ],
)
def test_faults_of_a_truth_are_told(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"truth\.json: {message}"):
        read_truth(written(tmp_path, content))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_id": 2}, "image_id 2 is not among"),
        ({"category_id": 2}, "category_id 2 is not among"),
        ({"bbox": [1, 2, 3]}, r"bbox is \[1, 2, 3\]"),
        ({"iscrowd": "no"}, "iscrowd is 'no', wanted 0 or 1"),
        ({"area": "big"}, "area is 'big'"),
        ({"segmentation": [[1, 2, 3]]}, "its segmentation does not read"),
        ({"segmentation": [["a"] * 6]}, "its segmentation does not read"),
        ({"segmentation": "abc"}, "its segmentation does not read"),
        ({"segmentation": {"size": [20, 10], "counts": [200]}}, r"its segmentation does not read \(its RLE has size"),
        ({"segmentation": {"size": [20, 20], "counts": [7]}}, "its segmentation does not read"),
        ({"segmentation": None}, "has neither an area nor a segmentation"),
    ],
)
def test_faults_of_an_annotation_are_told(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    content = {**TRUTH, "annotations": [*TRUTH["annotations"], {**ANNOTATION, **fields}]}
    with pytest.raises(UserError, match=rf"truth\.json: annotation 7: {message}"):
        read_truth(written(tmp_path, content))


def test_what_may_be_missing(tmp_path: Path) -> None:
    uncompressed = {"size": [20, 20], "counts": [0, 5, 395]}
    annotations = [ANNOTATION, {**ANNOTATION, "segmentation": []}, {**ANNOTATION, "segmentation": uncompressed}]
    truth = read_truth(written(tmp_path, {**TRUTH, "annotations": annotations}))
    assert [annotation["id"] for annotation in truth.annotations] == [1, 2, 3]
    assert [annotation["area"] for annotation in truth.annotations] == [100, 0, 5], "of the masks"
    assert not any(annotation["iscrowd"] for annotation in truth.annotations)
