"""From a file's annotations to flat arrays: each record checked and cut to its picture, or a fault."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolact import mask
from yolact.data.faults import Fault, FaultKind
from yolact.data.fields import NotValid, brief, integer, reason
from yolact.data.records import Ragged, Truths

MIN_FIT = 0.5  # IoU of a box and the bounds of its segmentation, each with a pixel around it for rounding
DRAWN_BELOW = 4  # pixels: polygons of so little area are drawn, to see whether they cover a pixel at all


class _Refused(Exception):
    """A fault of the annotation at hand."""

    def __init__(self, kind: FaultKind, text: str) -> None:
        self.kind, self.text = kind, text


class _Columns:
    """The annotations that read, in the file's order; arrays of machine numbers, which the checks then see whole."""

    def __init__(self) -> None:
        self.positions = array("q")  # in the file
        self.owners = array("q")  # rows of the pictures
        self.labels = array("q")
        self.crowd = array("b")
        self.boxes = array("d")  # x, y, width, height
        self.part_counts = array("q")  # polygons of each
        self.part_lengths = array("q")  # points of each polygon
        self.coordinates = array("f")
        self.rles: list[bytes] = []  # compressed counts; empty for polygons

    def truths(self, limits: NDArray[np.int64]) -> Truths:
        """All of them, their boxes cut to `limits`: the sizes of their pictures, [N, 4] xyxy."""
        boxes = np.array(self.boxes).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        parts = Ragged.of(np.array(self.part_lengths), np.array(self.part_counts))
        point_counts = np.diff(np.concatenate([[0], np.cumsum(parts.values)])[parts.offsets])
        return Truths(
            boxes=np.clip(boxes, 0, limits).astype(np.float32),
            labels=np.array(self.labels),
            crowd=np.array(self.crowd).astype(bool),
            parts=parts,
            points=Ragged.of(np.array(self.coordinates).reshape(-1, 2), point_counts),
            rles=Ragged.of(np.frombuffer(b"".join(self.rles), np.uint8), [len(rle) for rle in self.rles]),
        )


@np.errstate(over="ignore", invalid="ignore")  # numbers may lie at the end of the world
def read_truths(
    records: list[Any],
    row_of: Mapping[int, int],  # picture id -> its row in `sizes`, or -1: the picture is left out
    label_of: Mapping[int, int],  # category id -> label
    sizes: NDArray[np.int64],  # [P, 2] height, width
    faults: list[Fault],  # those found are added
) -> tuple[Truths, NDArray[np.int64]]:
    """The annotations of a file in the order of their pictures, and how many each picture has, [P]."""
    columns = _Columns()
    seen: set[int] = set()

    def refuse(position: int, kind: FaultKind, text: str) -> None:
        id = records[position].get("id") if isinstance(records[position], dict) else None
        named = isinstance(id, int) and not isinstance(id, bool)
        name = f"annotation {brief(id)}" if named else f"annotations[{position}]"
        faults.append(Fault(kind, "annotation", id if named else None, f"{name}: {text}"))

    for position, record in enumerate(records):
        try:
            _read(record, position, row_of, label_of, sizes, seen, columns)
        except _Refused as refused:
            refuse(position, refused.kind, refused.text)

    owners = np.array(columns.owners)
    sizes_of_all = sizes[owners]
    limits = np.tile(sizes_of_all[:, ::-1], 2)  # [N, 4] width, height, width, height
    truths = columns.truths(limits)
    bounds = _bounds(truths, sizes_of_all)
    keep = np.ones(len(owners), bool)
    for kind, at_fault, text in _checks(columns, truths, bounds, limits):
        for row in np.flatnonzero(at_fault & keep):
            (x1, y1, x2, y2), position = bounds[row], columns.positions[row]
            named = {"box": brief(records[position]["bbox"]), "bounds": f"{x1:g}, {y1:g} to {x2:g}, {y2:g}"}
            refuse(position, kind, text.format(**named, size=f"{limits[row, 0]}x{limits[row, 1]}"))
        keep &= ~at_fault
    for row in np.flatnonzero(keep & (_polygon_areas(truths) < DRAWN_BELOW)).tolist():
        height, width = sizes_of_all[row].tolist()
        if not mask.area(truths.truth(row, height, width).rle(height, width)):
            refuse(columns.positions[row], FaultKind.EMPTY_SEGMENTATION, "its polygons cover no pixel")
            keep[row] = False
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(owners[rows], kind="stable")]
    return truths.take(rows), np.bincount(owners[rows], minlength=len(sizes))


def _read(
    record: Any,
    position: int,
    row_of: Mapping[int, int],
    label_of: Mapping[int, int],
    sizes: NDArray[np.int64],
    seen: set[int],  # ids of annotations
    columns: _Columns,
) -> None:
    """Check the form of one record and append it to the columns."""
    try:
        image_id, category_id = integer(record, "image_id"), integer(record, "category_id")
        id = integer(record, "id") if "id" in record else None
    except NotValid as error:
        raise _Refused(FaultKind.MALFORMED_ANNOTATION, str(error)) from None
    row, label, crowd = row_of.get(image_id), label_of.get(category_id), record.get("iscrowd", 0)
    if row is None:
        raise _Refused(FaultKind.UNKNOWN_PICTURE, f"image_id {image_id} is not among the pictures")
    if row < 0:
        return
    if label is None:
        raise _Refused(FaultKind.UNKNOWN_CATEGORY, f"category_id {category_id} is not among the categories")
    if id in seen:
        raise _Refused(FaultKind.ANNOTATION_ID_TWICE, "the id is used twice")
    if crowd not in (0, 1):
        raise _Refused(FaultKind.MALFORMED_ANNOTATION, f"iscrowd is {brief(crowd)}, wanted 0 or 1")
    box = record.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and _are_numbers(box)):
        raise _Refused(FaultKind.MALFORMED_BOX, f"bbox is {brief(box)}, wanted four numbers x, y, width, height")
    segmentation = record.get("segmentation")
    if isinstance(segmentation, dict):
        polygons, rle = [], _read_rle(segmentation, sizes[row].tolist())
    else:
        polygons, rle = _read_polygons(segmentation), b""

    if id is not None:
        seen.add(id)
    columns.positions.append(position)
    columns.owners.append(row)
    columns.labels.append(label)
    columns.crowd.append(int(crowd))
    columns.boxes.extend(box)
    columns.part_counts.append(len(polygons))
    for polygon in polygons:
        columns.part_lengths.append(len(polygon) // 2)
        columns.coordinates.extend(polygon)
    columns.rles.append(rle)


def _read_polygons(value: Any) -> list[list[float]]:
    """The polygons that have three points or more, each x1, y1, x2, y2, ..."""
    if not isinstance(value, list):
        raise _Refused(FaultKind.MALFORMED_SEGMENTATION, f"segmentation is {brief(value)}, wanted polygons or an RLE")
    for polygon in value:
        if not isinstance(polygon, list) or len(polygon) % 2 or not _are_numbers(polygon):
            text = f"a polygon is {brief(polygon)}, wanted a flat list of finite numbers x1, y1, x2, y2, ..."
            raise _Refused(FaultKind.MALFORMED_SEGMENTATION, text)
    return [polygon for polygon in value if len(polygon) >= 6]


def _read_rle(value: dict[str, Any], size: list[int]) -> bytes:
    """The counts of a run-length encoding, compressed."""
    if value.get("size") != size:
        text = f"its RLE has size {brief(value.get('size'))}, its picture {size}"
        raise _Refused(FaultKind.MALFORMED_SEGMENTATION, text)
    try:
        if isinstance(value.get("counts"), list) and _are_numbers(value["counts"]):
            value = mask.frPyObjects(value, *size)
        mask.area(value)  # reads it wholly
        counts = value["counts"]
        return counts if isinstance(counts, bytes) else counts.encode("ascii")
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise _Refused(FaultKind.MALFORMED_SEGMENTATION, f"its RLE does not read ({reason(error)})") from None


def _are_numbers(values: list[Any]) -> bool:
    """Whether all are finite numbers."""
    try:
        return math.isfinite(sum(values, 0.0))  # quicker than to look at each
    except (TypeError, OverflowError):  # an integer may lie beyond every float
        return False


def _checks(
    columns: _Columns,
    truths: Truths,
    bounds: NDArray[np.float64],  # [N, 4] xyxy, of the segmentations
    limits: NDArray[np.int64],  # [N, 4] width, height, width, height
) -> list[tuple[FaultKind, NDArray[np.bool_], str]]:
    """What makes an annotation useless though its form is right: kind, which ones [N], and the message."""
    corners, sides = np.split(np.array(columns.boxes).reshape(-1, 4), 2, axis=1)
    off = ((corners >= limits[:, :2]) | (corners + sides <= 0)).any(1)
    empty = (sides <= 0).any(1) | (_is_empty(truths.boxes) & ~off)
    far_off = ((bounds < -limits) | (bounds > 2 * limits)).any(1)
    misfit = np.asarray(_fit(truths.boxes, np.clip(bounds, 0, limits)) < MIN_FIT)
    return [
        (FaultKind.EMPTY_BOX, empty, "its box {box} has no area"),
        (FaultKind.BOX_OFF_PICTURE, off, "its box {box} lies off its picture of {size}"),
        (FaultKind.EMPTY_SEGMENTATION, _is_empty(bounds), "its segmentation has no area"),
        (FaultKind.SEGMENTATION_OFF_PICTURE, far_off, "its segmentation reaches from {bounds}, in a picture of {size}"),
        (FaultKind.BOX_MISFIT, misfit, "its box {box} does not fit its segmentation, which reaches from {bounds}"),
    ]


def _bounds(truths: Truths, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The box [N, 4] xyxy around each segmentation, zeros where it is empty."""
    bounds = np.zeros((len(truths), 4))
    starts = truths.points.offsets[:-1]
    drawn, encoded = (np.flatnonzero(np.diff(rows.offsets)) for rows in (truths.points, truths.rles))
    if len(drawn):
        bounds[drawn, :2] = np.minimum.reduceat(truths.points.values, starts[drawn])
        bounds[drawn, 2:] = np.maximum.reduceat(truths.points.values, starts[drawn])
    if len(encoded):
        boxes = mask.toBbox([truths.rle(row, *sizes[row].tolist()) for row in encoded.tolist()])
        bounds[encoded] = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return bounds


def _polygon_areas(truths: Truths) -> NDArray[np.float64]:
    """[N], about, in pixels, by the shoelace formula; infinite for an RLE."""
    x, y = truths.points.values.T
    ends = np.cumsum(truths.parts.values)
    starts = ends - truths.parts.values
    doubled = x * np.roll(y, -1) - np.roll(x, -1) * y  # an edge each
    doubled[ends - 1] = x[ends - 1] * y[starts] - x[starts] * y[ends - 1]
    parts = np.abs(np.add.reduceat(doubled, starts)) / 2 if len(starts) else doubled
    areas = np.full(len(truths), np.inf)
    drawn = np.flatnonzero(np.diff(truths.parts.offsets))
    if len(drawn):
        areas[drawn] = np.add.reduceat(parts, truths.parts.offsets[drawn])
    return areas


def _is_empty(boxes: NDArray[Any]) -> NDArray[np.bool_]:
    return np.array((boxes[:, 2:] <= boxes[:, :2]).any(1))


def _fit(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of boxes [N, 4] row by row, each grown by a pixel on all sides."""
    grown = np.array((-1, -1, 1, 1))
    a, b = a + grown, b + grown
    shared = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(1)
    return np.array(shared / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared))
