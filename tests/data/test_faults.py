"""Broken annotation files: every fault is stopped at, or left out, as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from two_pictures import change, content, read, write_pictures

from yolact.data.faults import FaultKind, summary
from yolact.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "holds no list 'images'"),
        (change("categories", None), "holds no list 'categories'"),
        (change("annotations", {}), "holds no list 'annotations'"),
        (change("categories", []), "names no category"),
        (change("categories.0.id", 4), "names category id 4 twice"),
        (change("categories.0.id", "90"), "categories[0]: id is '90', wanted int"),
        (change("categories.1.name", 5), "categories[1]: name is 5, wanted str"),
        (change("categories.1.name", "\ud800"), "categories[1]: name is '\\ud800', which is no Unicode text"),
        (change("categories.1", "fig"), "categories[1]: id is None"),
    ],
)
@pytest.mark.parametrize("on_fault", ["stop", "skip"])
def test_a_file_that_is_none_of_cocos_is_refused(folder: Path, values: Any, message: str, on_fault: str) -> None:
    with pytest.raises(UserError, match=r"truth\.json: [^\n]+$") as caught:
        read(folder, values, on_fault=on_fault)
    assert message in str(caught.value)


FIRST = content()["annotations"][0]
POINTS = [2.0, 2.0, 8.0, 2.0, 8.0, 8.0]
FAULTS = [
    # the file; the kind of fault; record and id; the message; pictures, truths left
    (change("images.0.id", "7"), "malformed picture", "picture", None, "images[0]: id is '7', wanted int", 1, 0),
    (change("images.0.id", 2**63), "malformed picture", "picture", None, "wanted an integer of 64 bits", 1, 0),
    (change("images.1", None), "malformed picture", "picture", None, "images[1]: id is None", 1, 2),
    (change("images.0.height", "10"), "malformed picture", "picture", 7, "height is '10', wanted int", 1, 0),
    (change("images.0.height", float("nan")), "malformed picture", "picture", 7, "height is nan", 1, 0),
    (change("images.1.file_name", 5), "malformed picture", "picture", 3, "file_name is 5, wanted str", 1, 2),
    (change("images.0.width", 0), "impossible picture size", "picture", 7, "are (10, 0)", 1, 0),
    (change("images.0.width", 10**9), "impossible picture size", "picture", 7, "wanted 1 to 32766", 1, 0),
    (change("images.0.id", 3), "picture id used twice", "picture", 3, "for a.png and for b.png", 0, 0),
    (change("images.+", content()["images"][0]), "picture id used twice", "picture", 7, "for a.png and", 2, 2),
    (change("images.1.file_name", "a.png"), "file name used twice", "picture", 3, "as picture 7 has", 1, 2),
    (change("images.1.file_name", "./a.png"), "file name used twice", "picture", 3, "as picture 7 has", 1, 2),
    (change("images.1.file_name", "x" * 5000), "missing file", "picture", 3, "there is no file", 1, 2),
    (change("images.1.file_name", "c.png"), "missing file", "picture", 3, "there is no file", 1, 2),
    (change("images.1.file_name", ""), "missing file", "picture", 3, "there is no file", 1, 2),
    (change("images.1.file_name", "\0\ud800"), "missing file", "picture", 3, "there is no file", 1, 2),
    (
        change("annotations.0", [1]),
        "malformed annotation",
        "annotation",
        None,
        "annotations[0]: image_id is None",
        2,
        1,
    ),
    (change("annotations.0.id", "x"), "malformed annotation", "annotation", None, "id is 'x', wanted int", 2, 1),
    (change("annotations.0.image_id", None), "malformed annotation", "annotation", 1, "image_id is None", 2, 1),
    (change("annotations.0.category_id", 4.0), "malformed annotation", "annotation", 1, "category_id is 4.0", 2, 1),
    (change("annotations.0.iscrowd", "no"), "malformed annotation", "annotation", 1, "iscrowd is 'no'", 2, 1),
    (change("annotations.1.id", 1), "annotation id used twice", "annotation", 1, "the id is used twice", 2, 1),
    (change("annotations.0.image_id", 5), "unknown picture", "annotation", 1, "image_id 5 is not among", 2, 1),
    (change("annotations.0.category_id", 1), "unknown category", "annotation", 1, "category_id 1 is not among", 2, 1),
    (change("annotations.0.bbox", None), "malformed box", "annotation", 1, "bbox is None, wanted four", 2, 1),
    (change("annotations.0.bbox", [1, 2, 3]), "malformed box", "annotation", 1, "bbox is [1, 2, 3]", 2, 1),
    (change("annotations.0.bbox", [1, 2, 3, "4"]), "malformed box", "annotation", 1, "bbox is [1, 2, 3, '4']", 2, 1),
    (change("annotations.0.bbox", [1, 2, 3, float("nan")]), "malformed box", "annotation", 1, "bbox is", 2, 1),
    (change("annotations.0.bbox", [1, 2, 3, 10**400]), "malformed box", "annotation", 1, "bbox is", 2, 1),
    (change("annotations.0.bbox", [10**400, -(10**400), 1, 1]), "malformed box", "annotation", 1, "bbox is", 2, 1),
    (change("annotations.0.bbox", [25, 2, 5, 5]), "box off its picture", "annotation", 1, "picture of 20x10", 2, 1),
    (
        change("annotations.0.bbox", [12, 0, 6, 6]),
        "box that does not fit its segmentation",
        "annotation",
        1,
        "2, 2",
        2,
        1,
    ),
    (change("annotations.0.segmentation", None), "malformed segmentation", "annotation", 1, "is None, wanted", 2, 1),
    (change("annotations.0.segmentation", POINTS), "malformed segmentation", "annotation", 1, "a polygon is 2.0", 2, 1),
    (change("annotations.0.segmentation", [[POINTS]]), "malformed segmentation", "annotation", 1, "flat list", 2, 1),
    (change("annotations.0.segmentation", [POINTS[1:]]), "malformed segmentation", "annotation", 1, "flat list", 2, 1),
    (
        change("annotations.0.segmentation", [[*POINTS, 1, float("nan")]]),
        "malformed segmentation",
        "annotation",
        1,
        "finite numbers",
        2,
        1,
    ),
    (
        change("annotations.0.segmentation", [[*POINTS, 10**400, -(10**400)]]),
        "malformed segmentation",
        "annotation",
        1,
        "finite numbers",
        2,
        1,
    ),
    (
        change("annotations.0.segmentation", {"size": [10, 20], "counts": [2**63, -(2**63), 200]}),
        "malformed segmentation",
        "annotation",
        1,
        "its RLE does not read",
        2,
        1,
    ),
    (
        change("annotations.0.segmentation", [[*POINTS, 1e300, 4]]),
        "segmentation far off its picture",
        "annotation",
        1,
        "in a picture of 20x10",
        2,
        1,
    ),
    (
        change("annotations.1.segmentation.size", [20, 10]),
        "malformed segmentation",
        "annotation",
        2,
        "its RLE has size [20, 10], its picture [10, 20]",
        2,
        1,
    ),
    *(
        (change(f"annotations.1.segmentation.{key}", value), "malformed segmentation", "annotation", 2, "its RLE", 2, 1)
        for key, value in (
            ("size", None),
            ("counts", [0, 199]),
            ("counts", [-1, 201]),
            ("counts", [0, "200"]),
            ("counts", "0Y6"),
            ("counts", "é"),
            ("counts", None),
        )
    ),
    (change("annotations.0.bbox", [4, 4, 0, 3]), "box without area", "annotation", 1, "[4, 4, 0, 3] has no area", 2, 1),
    (change("annotations.0.bbox", [4, 4, 1e-9, 3]), "box without area", "annotation", 1, "has no area", 2, 1),
    (change("annotations.0.bbox", [4, 4, -2, 3]), "box without area", "annotation", 1, "has no area", 2, 1),
    (change("annotations.0.segmentation", []), "segmentation without area", "annotation", 1, "has no area", 2, 1),
    (
        change("annotations.0.segmentation", [[2, 2, 8, 8]]),
        "segmentation without area",
        "annotation",
        1,
        "no area",
        2,
        1,
    ),
    (
        change("annotations.0.segmentation", [[2, 2, 5, 5, 8, 8]]),
        "segmentation without area",
        "annotation",
        1,
        "its polygons cover no pixel",
        2,
        1,
    ),
    (
        change("annotations.1.segmentation.counts", [200]),
        "segmentation without area",
        "annotation",
        2,
        "its segmentation has no area",
        2,
        1,
    ),
]


@pytest.mark.parametrize(
    ("values", "kind", "record", "id", "message", "pictures", "truths"),
    FAULTS,
    ids=[f"{i}-{fault[1].replace(' ', '-')}" for i, fault in enumerate(FAULTS)],
)
def test_a_fault_stops_or_is_left_out(
    folder: Path, values: Any, kind: str, record: str, id: int | None, message: str, pictures: int, truths: int
) -> None:
    dataset = read(folder, values, on_fault="skip")
    fault, *others = dataset.faults
    assert {other.kind for other in others} <= {FaultKind.UNKNOWN_PICTURE}, "what follows from an id lost"
    assert (fault.kind.value, fault.record, fault.id) == (kind, record, id)
    assert message in fault.text
    assert "\n" not in fault.text
    assert len(dataset) == pictures
    assert sum(len(picture.truths) for picture in dataset.pictures) == truths
    if fault.kind in (FaultKind.EMPTY_BOX, FaultKind.EMPTY_SEGMENTATION):  # of which COCO's own files have some
        assert read(folder, values).faults == dataset.faults
    else:
        with pytest.raises(UserError, match=r"truth\.json: [^\n]+$") as caught:
            read(folder, values)
        assert fault.text in str(caught.value)


def test_every_kind_of_fault_is_tried() -> None:
    """But those two that only decoding a picture shows."""
    decoded = {FaultKind.UNREADABLE_PICTURE, FaultKind.OTHER_SIZE}
    assert {fault[1] for fault in FAULTS} == {kind.value for kind in FaultKind if kind not in decoded}


@pytest.mark.filterwarnings("error")
def test_numbers_at_the_end_of_the_world_are_faults_like_any(folder: Path) -> None:
    values = content()
    boxes = ([1e308, -1e308, 1e308, 1], [-1e308, 0, 1e308, 10], [0, 0, 1e308, 10])
    values["annotations"] = [{**FIRST, "id": i, "bbox": box} for i, box in enumerate(boxes)]
    values["annotations"].append({**FIRST, "id": 3, "segmentation": [[*POINTS, 1e300, -1e300]]})
    kinds = [(fault.id, fault.kind.value) for fault in read(folder, values, on_fault="skip").faults]
    assert kinds == [
        (0, "box off its picture"),
        (1, "box off its picture"),
        (3, "segmentation far off its picture"),
        (2, "box that does not fit its segmentation"),
    ]


def test_many_faults_at_once_are_all_told(folder: Path) -> None:
    values = content()
    boxes = ([1, 2, 3], [2, 2, 6, 6], [2, 2, 0, 6], [50, 2, 6, 6], "box", [2, 2, 6, 6])
    values["annotations"] = [{**FIRST, "id": 10 + i, "bbox": box} for i, box in enumerate(boxes)]
    dataset = read(folder, values, on_fault="skip")
    assert sorted(fault.id for fault in dataset.faults if fault.id) == [10, 12, 13, 14]
    assert len(dataset.pictures[0].truths) == 2
    assert summary(dataset.faults) == "4 faults (2 × malformed box, 1 × box without area, 1 × box off its picture)"
    with pytest.raises(UserError, match=r"annotation 10: .*one of 3 faults; `yolact data check` tells them all"):
        read(folder, values)


def test_little_polygons_are_found_beside_huge_ones(folder: Path) -> None:
    """Sums over all of them would lose what is small, or all after one that is infinite."""
    values = content()
    values["images"] = [{"id": 7, "file_name": "a.png", "width": 30000, "height": 30000}]
    huge = {**FIRST, "bbox": [0, 0, 30000, 30000], "segmentation": [[0, 0, 30000, 0, 30000, 30000, 0, 30000]]}
    sliver = {**FIRST, "bbox": [2, 2, 6, 6], "segmentation": [[2, 2, 5, 5, 8, 8]]}
    far = {**FIRST, "segmentation": [[*POINTS, 1e300, 4]]}
    values["annotations"] = [{**a, "id": i} for i, a in enumerate([huge, far, *[huge] * 50, sliver])]
    faults = read(folder, values, on_fault="skip").faults
    assert [(fault.id, fault.kind) for fault in faults] == [
        (1, FaultKind.SEGMENTATION_OFF_PICTURE),
        (52, FaultKind.EMPTY_SEGMENTATION),
    ]


def test_few_misfits_are_left_out_and_many_stop(folder: Path) -> None:
    values = content()
    good = values["annotations"][0]
    misfit = {**good, "bbox": [15, 5, 3, 3]}
    values["annotations"] = [{**(misfit if i == 0 else good), "id": i} for i in range(200)]
    dataset = read(folder, values)
    assert [fault.kind for fault in dataset.faults] == [FaultKind.BOX_MISFIT]
    assert len(dataset.pictures[0].truths) == 199
    for i in range(3):
        values["annotations"][i]["bbox"] = misfit["bbox"]
    with pytest.raises(UserError, match=r"annotation 0: its box \[15, 5, 3, 3\] does not fit .* \(one of 3 faults"):
        read(folder, values)
