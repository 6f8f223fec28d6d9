"""A report of results that are in a file already, with the truth beside them where there is one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from yolact.data import fields
from yolact.data.coco import CocoDataset, read_coco, read_json
from yolact.data.records import Picture
from yolact.errors import UserError
from yolact.evaluation.truth import GroundTruth, read_results
from yolact.pictures import read_picture
from yolact.report.page import Record, Report


@dataclass
class Outcome:
    """What a report has become."""

    pictures: int = 0
    instances: int = 0
    failed: int = 0  # pictures that could not be read
    left_out: int = 0  # results of videos, or of pictures that the annotations or the folder lack


@dataclass(frozen=True)
class Entry:
    """A picture that is to come."""

    name: str
    id: int
    read: Callable[[], tuple[np.ndarray, list[Record] | None]]  # its pixels and its truths
    results: list[Record] = field(default_factory=list)


def report_results(
    results: Path,
    images: Path,
    report: Report,
    *,
    annotations: Path | None = None,
    score_threshold: float = 0.0,
    limit: int | None = None,
) -> Outcome:
    """Write a report of a COCO results list; a picture that cannot be read is told on stderr, and the rest are done.

    Args:
        results: the JSON file, or .jsonl with a result a line.
        images: the folder of the pictures.
        report: where it goes.
        annotations: COCO's instances: those of its pictures that are there are in the report, with what there is to
            find. Without it the pictures are those that have results, which name their files.
        score_threshold: what scores above it is in the report.
        limit: of pictures, the first ones.

    Raises:
        UserError: a file cannot be read or written, a result is at fault, or there is no picture to show.
    """
    if not images.is_dir():
        raise UserError(f"{images}: no such folder")
    records = _read_records(results)
    stills = [record for record in records if "frame" not in record]
    try:
        if annotations is None:
            classes, entries = _named(stills, images)
        else:
            classes, entries = _annotated(stills, read_coco(annotations, images, on_fault="skip"))
    except fields.NotValid as error:
        raise UserError(f"{results}: {error}") from None
    if not entries:
        raise UserError(f"{results}: there is no picture to show")
    outcome = Outcome(left_out=len(records) - sum(len(entry.results) for entry in entries))
    with report.writing() as page, tqdm(entries[:limit], unit=" pictures", disable=not sys.stderr.isatty()) as progress:
        for entry in progress:
            try:
                pixels, truths = entry.read()
            except UserError as error:
                outcome.failed += 1
                progress.write(f"yolact: {fields.printable(' '.join(str(error).split()))}", file=sys.stderr)
                continue
            found = [
                record for record in _checked(entry, pixels, classes, results) if record["score"] > score_threshold
            ]
            page.add(entry.name, pixels, sorted(found, key=lambda record: -record["score"]), classes, truths)
            outcome.pictures += 1
            outcome.instances += len(found)
        if not outcome.pictures:
            raise UserError(f"{images}: no picture of the results could be read")
    return outcome


def _read_records(path: Path) -> list[Record]:
    """The results of a file: a list, or a line each."""
    if path.suffix.lower() != ".jsonl":
        records = read_json(path)
    else:
        try:
            records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: holds a line that is not JSON ({error})") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UserError(f"{path}: holds no list of results")
    return records


def _named(records: list[Record], images: Path) -> tuple[dict[int, str], list[Entry]]:
    """The classes, and the pictures in the order in which results name them."""
    classes: dict[int, str] = {}
    entries: dict[str, Entry] = {}
    for position, record in enumerate(records, 1):
        try:
            id, category = fields.integer(record, "image_id"), fields.integer(record, "category_id")
            name = fields.field(record, "file_name", str)
            named = {"category_name": f"category {category}", **record}
            classes.setdefault(category, fields.field(named, "category_name", str))
        except fields.NotValid as error:
            raise fields.NotValid(f"result {position}: {error}; or give the annotations") from None
        entry = entries.setdefault(name, Entry(name, id, partial(_read_unknown, images / name)))
        if entry.id != id:
            ids = f"{entry.id} and {id}"
            raise fields.NotValid(f"result {position}: pictures {ids} are both called {fields.printable(name)}")
        entry.results.append(record)
    return dict(sorted(classes.items())), list(entries.values())


def _annotated(records: list[Record], dataset: CocoDataset) -> tuple[dict[int, str], list[Entry]]:
    """The classes and the pictures of a data set."""

    def entry(row: int, id: int) -> Entry:
        name = dataset.pictures.names[row].tobytes().decode("utf-8", "surrogatepass")
        return Entry(name, id, lambda: _read_annotated(dataset.pictures[row], dataset.category_ids))

    entries = {id: entry(row, id) for row, id in enumerate(dataset.pictures.ids.tolist())}
    for position, record in enumerate(records, 1):
        try:
            id = fields.integer(record, "image_id")
        except fields.NotValid as error:
            raise fields.NotValid(f"result {position}: {error}") from None
        if id in entries:
            entries[id].results.append(record)
    return dict(zip(dataset.category_ids, dataset.class_names, strict=True)), list(entries.values())


def _read_unknown(path: Path) -> tuple[np.ndarray, None]:
    return read_picture(path), None


def _read_annotated(picture: Picture, category_ids: tuple[int, ...]) -> tuple[np.ndarray, list[Record]]:
    pixels = picture.read()
    truths = []
    for truth in picture.truths:
        x1, y1, x2, y2 = truth.box.tolist()
        rle = truth.rle(picture.height, picture.width)
        record = {"category_id": category_ids[truth.label], "bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": rle}
        truths.append(record)
    return pixels, truths


def _checked(entry: Entry, pixels: np.ndarray, classes: Mapping[int, str], path: Path) -> list[Record]:
    """The results of a picture, now that its size is known."""
    truth = GroundTruth(path, {entry.id: (pixels.shape[0], pixels.shape[1])}, dict(classes), [])
    try:
        return read_results(entry.results, truth)
    except UserError as error:
        raise UserError(f"{path}: {fields.printable(entry.name)}: {error}") from None
