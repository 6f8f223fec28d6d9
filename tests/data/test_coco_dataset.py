"""Reading annotation files: what is kept, what is dropped, and the message for every fault."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolact.data.coco import read_coco
from yolact.errors import UserError

SQUARE = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]


def content() -> dict[str, Any]:
    """Two pictures of 20 x 10, the second empty; categories with a gap, out of order."""
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 20, "height": 10},
            {"id": 3, "file_name": "b.png", "width": 20, "height": 10},
        ],
        "categories": [{"id": 90, "name": "fig"}, {"id": 4, "name": "date"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [2, 2, 6, 6], "segmentation": SQUARE, "iscrowd": 0},
            {
                "id": 2,
                "image_id": 7,
                "category_id": 4,
                "bbox": [0, 0, 20, 10],
                "segmentation": {"size": [10, 20], "counts": [0, 200]},
                "iscrowd": 1,
            },
        ],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((10, 20, 3), (1, 2, 3), np.uint8))
    return tmp_path


def read(folder: Path, values: Any):
    path = folder / "truth.json"
    path.write_text(json.dumps(values))
    return read_coco(path, folder)


def test_reads_pictures_classes_and_truths(folder: Path) -> None:
    dataset = read(folder, content())
    assert (dataset.category_ids, dataset.class_names) == ((4, 90), ("date", "fig"))
    first, second = dataset.pictures
    assert (first.id, second.id) == (7, 3)
    assert [(t.label, t.crowd, t.box.tolist()) for t in first.truths] == [
        (1, False, [2, 2, 8, 8]),
        (0, True, [0, 0, 20, 10]),
    ]
    assert second.truths == (), "a picture without annotations stays, as background"
    assert first.read()[0, 0].tolist() == [3, 2, 1], "RGB"


def test_boxes_are_cut_and_what_has_no_area_is_dropped(folder: Path) -> None:
    values = content()
    template = values["annotations"][0]
    boxes = ([-5, -5, 10, 30], [4, 4, 0, 3], [25, 2, 5, 5], [2, 2, 6, 6])
    values["annotations"] = [{**template, "bbox": box} for box in boxes]
    values["annotations"][3]["segmentation"] = [[1, 1, 2, 2]]
    (truth,) = read(folder, values).pictures[0].truths
    assert truth.box.tolist() == [0, 0, 5, 10]


def change(path: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(content())
    *parents, last = (int(k) if k.isdigit() else k for k in path.split("."))
    place: Any = values
    for key in parents:
        place = place[key]
    place[last] = value
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "holds no list 'images'"),
        (change("categories", None), "holds no list 'categories'"),
        (change("categories", []), "names no category"),
        (change("categories.0.id", 4), "names a category id twice"),
        (change("images.0.id", 3), "names picture id 3 twice"),
        (change("images.0.width", 0), "picture 7: height and width are (10, 0)"),
        (change("images.0.height", "10"), "picture 7: height is '10', wanted int"),
        (change("images.1.file_name", None), "picture 3: file_name is None"),
        (change("annotations.0.image_id", 5), "annotation 1: image_id 5 is not among the pictures"),
        (change("annotations.0.category_id", 1), "annotation 1: category_id 1 is not among the categories"),
        (change("annotations.0.bbox", [1, 2, 3]), "annotation 1: bbox is [1, 2, 3]"),
        (change("annotations.0.bbox", [1, 2, 3, float("nan")]), "annotation 1: bbox is"),
        (change("annotations.0.bbox", [1, 2, 3, 10**400]), "annotation 1: bbox is"),
        (change("annotations.0.segmentation", None), "annotation 1: segmentation is NoneType"),
        (change("annotations.0.segmentation", [[1, 2, 3]]), "annotation 1: a polygon is no flat list"),
        (change("annotations.1.segmentation.size", [20, 10]), "annotation 2: its RLE has size [20, 10]"),
        (change("annotations.1.segmentation.size", None), "annotation 2: its RLE has size None"),
        (change("annotations.1.segmentation.counts", [0, 199]), "annotation 2: its RLE does not read"),
        (change("annotations.1.segmentation.counts", [-1, 201]), "annotation 2: its RLE does not read"),
        (change("annotations.1.segmentation.counts", "0Y6"), "annotation 2: its RLE does not read"),
        (change("annotations.1.segmentation.counts", None), "annotation 2: its RLE does not read"),
    ],
)
def test_a_fault_is_told_with_the_files_name(folder: Path, values: Any, message: str) -> None:
    with pytest.raises(UserError, match=r"truth\.json: ") as caught:
        read(folder, values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_annotations_are_left_unread_where_not_asked_for(folder: Path) -> None:
    values = content()
    del values["annotations"]
    (folder / "truth.json").write_text(json.dumps(values))
    assert len(read_coco(folder / "truth.json", folder, truths=False)) == 2
    with pytest.raises(UserError, match="holds no list 'annotations'"):
        read_coco(folder / "truth.json", folder)


def test_files_that_do_not_read(folder: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.json: cannot be read"):
        read_coco(folder / "missing.json", folder)
    (folder / "text.json").write_text("no json")
    with pytest.raises(UserError, match=r"text\.json: is not JSON"):
        read_coco(folder / "text.json", folder)
    (folder / "good.json").write_text(json.dumps(content()))
    with pytest.raises(UserError, match="nowhere does not exist"):
        read_coco(folder / "good.json", folder / "nowhere")
    (folder / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png: there is no such file, and .*good\.json names it"):
        read_coco(folder / "good.json", folder)


def test_pictures_that_do_not_fit(folder: Path) -> None:
    first, second = read(folder, content()).pictures
    cv2.imwrite(str(folder / "a.png"), np.zeros((20, 10, 3), np.uint8))
    with pytest.raises(UserError, match=r"a\.png: is 10x20, its annotations say 20x10"):
        first.read()
    (folder / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png"):
        second.read()
