"""Reading annotation files: what is kept of pictures, classes, objects and pixels."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import shared_path
from PIL import Image
from two_pictures import SQUARE, change, content, read, write_pictures

from yolact import mask
from yolact.data.coco import read_coco
from yolact.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path)


def test_reads_pictures_classes_and_truths(folder: Path) -> None:
    dataset = read(folder, content())
    assert (dataset.category_ids, dataset.class_names) == ((4, 90), ("date", "fig"))
    assert dataset.faults == ()
    first, second = dataset.pictures
    assert (first.id, second.id) == (7, 3)
    assert [(t.label, t.crowd, t.box.tolist()) for t in first.truths] == [
        (1, False, [2, 2, 8, 8]),
        (0, True, [0, 0, 20, 10]),
    ]
    assert second.truths == (), "a picture without annotations stays, as background"
    assert first.read()[0, 0].tolist() == [3, 2, 1], "RGB"
    assert [picture.id for picture in dataset.pictures[::-1]] == [3, 7]
    with pytest.raises(IndexError):
        dataset.pictures[2]


def test_classes_are_chosen_or_made_one(folder: Path) -> None:
    values = content()
    values["annotations"].append(
        {"id": 3, "image_id": 3, "category_id": 90, "bbox": [0, 0, 4, 10], "segmentation": [[0, 0, 4, 0, 4, 10, 0, 10]]}
    )
    dataset = read(folder, values)
    for chosen in (["fig"], ["90"]):
        figs = dataset.only(chosen)
        assert (figs.category_ids, figs.class_names) == ((90,), ("fig",))
        assert [[(t.label, t.box.tolist()) for t in picture.truths] for picture in figs.pictures] == [
            [(0, [2, 2, 8, 8])],
            [(0, [0, 0, 4, 10])],
        ]
    dates = dataset.only(["date"])
    assert [len(picture.truths) for picture in dates.pictures] == [1, 0], "a picture without any stays, as background"
    assert dates.pictures[0].truths[0].rle(10, 20) == dataset.pictures[0].truths[1].rle(10, 20)
    objects = dataset.class_agnostic()
    assert (objects.category_ids, objects.class_names) == ((1,), ("object",))
    assert [[t.label for t in picture.truths] for picture in objects.pictures] == [[0, 0], [0]]
    with pytest.raises(UserError, match=r"truth\.json: has no class 'plum'; its classes are date, fig"):
        dataset.only(["fig", "plum"])
    values["categories"][1]["name"] = "fig"
    assert read(folder, values).only(["fig"]).category_ids == (4, 90), "a name of two classes is both of them"


def test_segmentations_of_every_form_keep_their_pixels(folder: Path) -> None:
    """Annotations out of the pictures' order: polygons of several parts, and RLEs compressed and not, crowds or not."""
    values = content()
    rectangle = np.zeros((10, 20), np.uint8)
    rectangle[3:7, 5:15] = 1
    compressed = mask.encode(rectangle)
    segmentations = [
        [[1, 1, 4, 1, 4, 4, 1, 4], [10, 5, 18, 5, 18, 9, 10, 9], [3, 3, 4, 4]],
        {"size": [10, 20], "counts": compressed["counts"].decode()},
        {"size": [10, 20], "counts": [53, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 53]},
        SQUARE,
    ]
    boxes = [[1, 1, 17, 8], [5, 3, 10, 4], [5, 3, 10, 4], [2, 2, 6, 6]]
    values["annotations"] = [
        {"id": i, "image_id": (7, 3)[i % 2], "category_id": 4, "bbox": box, "segmentation": value, "iscrowd": i > 2}
        for i, (value, box) in enumerate(zip(segmentations, boxes, strict=True))
    ]
    first, second = read(folder, values).pictures
    drawn = [mask.decode(truth.rle(10, 20)) for truth in (*first.truths, *second.truths)]
    assert [truth.crowd for truth in (*first.truths, *second.truths)] == [False, False, False, True]
    parts = np.zeros((10, 20), np.uint8)
    parts[1:4, 1:4] = parts[5:9, 10:18] = 1
    square = np.zeros((10, 20), np.uint8)
    square[2:8, 2:8] = 1
    for got, expected in zip(drawn, (parts, rectangle, rectangle, square), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_boxes_are_cut_to_their_picture(folder: Path) -> None:
    values = change("annotations.0.bbox", [-1, -3, 9, 30])
    values["annotations"][0]["segmentation"] = [[-1, -3, 8, -3, 8, 12, -1, 12]]
    assert read(folder, values).pictures[0].truths[0].box.tolist() == [0, 0, 8, 10]


def test_real_data_sets_have_no_fault() -> None:
    for name, file, images in (
        ("coco-val-daily", "instances_val2017_daily.json", "images"),
        ("dogcat", "train.json", "train"),
        ("fruits-nuts", "train.json", "train"),
    ):
        base = shared_path(f"data/{name}")
        dataset = read_coco(base / file, base / images)
        assert dataset.faults == ()
        wanted = json.loads((base / file).read_text())
        assert len(dataset) == len(wanted["images"])
        assert sum(len(picture.truths) for picture in dataset.pictures) == len(wanted["annotations"])


def test_annotations_are_left_unread_where_not_asked_for(folder: Path) -> None:
    values = content()
    del values["annotations"]
    assert len(read(folder, values, truths=False)) == 2
    with pytest.raises(UserError, match="holds no list 'annotations'"):
        read(folder, values)


def test_files_that_do_not_read(folder: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.json: cannot be read"):
        read_coco(folder / "missing.json", folder)
    for text in ("no json", "", '{"images": [', "[" * 100_000):
        (folder / "text.json").write_text(text)
        with pytest.raises(UserError, match=r"text\.json: is not JSON"):
            read_coco(folder / "text.json", folder)
    (folder / "text.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match=r"text\.json: is not JSON"):
        read_coco(folder / "text.json", folder)
    (folder / "good.json").write_text(json.dumps(content()), encoding="utf-8-sig")
    assert len(read_coco(folder / "good.json", folder)) == 2, "a byte order mark, as some editors write it"
    with pytest.raises(UserError, match="there is no picture folder"):
        read_coco(folder / "good.json", folder / "nowhere")
    with pytest.raises(ValueError, match="on_fault must be 'stop' or 'skip', got 'ignore'"):
        read_coco(folder / "good.json", folder, on_fault="ignore")


def test_pictures_that_do_not_fit(folder: Path) -> None:
    first, second = read(folder, content()).pictures
    cv2.imwrite(str(folder / "a.png"), np.zeros((12, 20, 3), np.uint8))
    with pytest.raises(UserError, match=r"a\.png: is 20x12, its annotations say 20x10"):
        first.read()
    (folder / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png"):
        second.read()


@pytest.mark.parametrize(("width", "height"), [(20, 10), (10, 20)])
def test_a_picture_is_turned_as_its_annotations_have_it(folder: Path, width: int, height: int) -> None:
    stored = np.zeros((10, 20, 3), np.uint8)
    stored[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter, so upright it is 10x20
    Image.fromarray(stored).save(folder / "a.png", exif=exif)
    values = content()
    values["images"][0].update(width=width, height=height)
    values["annotations"] = []
    pixels = read(folder, values).pictures[0].read()
    expected = stored if width == 20 else np.rot90(stored, -1)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "RGBA", "I;16", "1"])
def test_pictures_of_every_kind_read_as_rgb(folder: Path, mode: str) -> None:
    grey = Image.fromarray(np.full((10, 20), 255, np.uint8))
    picture = Image.fromarray(np.full((10, 20), 65535, np.uint16)) if mode == "I;16" else grey.convert(mode)
    picture.save(folder / "a.tif")
    pixels = read(folder, change("images.0.file_name", "a.tif")).pictures[0].read()
    assert (pixels.shape, pixels.dtype) == ((10, 20, 3), np.uint8)
    assert (pixels == 255).all()


def test_annotations_take_the_memory_of_their_numbers(folder: Path) -> None:
    """No Python object for any of them is kept: four bytes a coordinate, and less than 80 for all else."""
    values = content()
    turn = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    circle = np.stack([10 + 4 * np.cos(turn), 5 + 4 * np.sin(turn)], axis=1).round(2).ravel().tolist()
    values["annotations"] = [
        {"id": i, "image_id": (7, 3)[i % 2], "category_id": 4, "bbox": [6, 1, 8, 8], "segmentation": [circle]}
        for i in range(4000)
    ]
    (folder / "truth.json").write_text(json.dumps(values))
    del values
    tracemalloc.start()
    dataset = read_coco(folder / "truth.json", folder)
    gc.collect()
    bytes_each = tracemalloc.get_traced_memory()[0] / 4000
    tracemalloc.stop()
    assert sum(len(picture.truths) for picture in dataset.pictures) == 4000
    assert bytes_each < 4 * 60 + 80
