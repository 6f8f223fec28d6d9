"""A data set looked through as a whole: every fault, and what it holds."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from yolact import mask
from yolact.data.coco import CocoDataset, read_coco
from yolact.data.faults import Fault, FaultKind
from yolact.data.fields import printable
from yolact.data.records import OtherSizeError, Picture
from yolact.errors import UserError

SMALL, MEDIUM = 32**2, 96**2  # pixels of a mask: COCO's limits between small, medium and large
CLASS_COLUMNS = ("id", "name", "instances", "crowds", "pictures")


@dataclass(frozen=True, eq=False)
class Report:
    """What a data set holds, and what is wrong with it."""

    dataset: CocoDataset  # without what the annotation file has wrong
    faults: tuple[Fault, ...]  # of that file, then of the pictures themselves
    areas: NDArray[np.int64]  # [N] pixels of the mask of each of the data set's objects

    def counts(self) -> dict[str, Any]:
        """The numbers, fit for JSON; crowds are counted apart from instances."""
        pictures = self.dataset.pictures
        labels, crowd = pictures.truths.labels, pictures.truths.crowd
        held = np.diff(pictures.offsets)  # [P] objects
        owners = np.repeat(np.arange(len(held)), held)
        sizes = np.bincount(np.digitize(self.areas[~crowd], (SMALL, MEDIUM)), minlength=3)
        shown_on = np.unique(np.stack([labels, owners]), axis=1)[0]  # a class once a picture
        columns = (labels[~crowd], labels[crowd], shown_on)
        counted = [np.bincount(column, minlength=len(self.dataset.class_names)).tolist() for column in columns]
        rows = zip(self.dataset.category_ids, self.dataset.class_names, *counted, strict=True)
        return {
            "pictures": len(held),
            "without_annotations": int((held == 0).sum()),
            "heights": _spread(pictures.sizes[:, 0]),
            "widths": _spread(pictures.sizes[:, 1]),
            "instances": int((~crowd).sum()),
            **dict(zip(("small", "medium", "large"), sizes.tolist(), strict=True)),
            "crowds": int(crowd.sum()),
            "classes": [dict(zip(CLASS_COLUMNS, row, strict=True)) for row in rows],
        }

    def to_json(self) -> dict[str, Any]:
        """The numbers and the faults."""
        faults = [{"kind": f.kind.value, "record": f.record, "id": f.id, "text": f.text} for f in self.faults]
        return {**self.counts(), "faults": faults}

    def __str__(self) -> str:
        counts = self.counts()
        low, middle, high = (f"{w}x{h}" for w, h in zip(counts["widths"], counts["heights"], strict=True))
        lines = [
            f"pictures   {counts['pictures']}, {counts['without_annotations']} of them without annotations",
            f"sides      {low} at least, {middle} in the middle, {high} at most",
            f"instances  {counts['instances']}: {counts['small']} small, {counts['medium']} medium, "
            f"{counts['large']} large; and {counts['crowds']} crowds",
            "",
            f"{'class':<24}{'id':>8}{'instances':>12}{'crowds':>8}{'pictures':>10}",
        ]
        for row in counts["classes"]:
            name = printable(row["name"])
            name = name if len(name) < 24 else f"{name[:20]}..."
            lines.append(f"{name:<24}{row['id']:>8}{row['instances']:>12}{row['crowds']:>8}{row['pictures']:>10}")
        return "\n".join(lines)


def check_dataset(annotations: str | Path, images: str | Path, threads: int | None = None) -> Report:
    """Read a data set wholly: its annotation file and every picture, with a progress bar on a terminal.

    Args:
        annotations: the JSON file, in COCO's format.
        images: the folder that its file names are relative to.
        threads: that decode pictures; None: one a processor.

    Raises:
        UserError: the file is not in COCO's format at all.
    """
    dataset = read_coco(annotations, images, on_fault="skip")
    rows = range(len(dataset))
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        found = pool.map(lambda row: _look(dataset.pictures[row]), rows)
        looks = list(tqdm(found, total=len(rows), unit="picture", disable=not sys.stderr.isatty()))
    faults = tuple(fault for fault, _ in looks if fault)
    areas = np.array([area for _, areas in looks for area in areas], np.int64)
    return Report(dataset, dataset.faults + faults, areas)


def _look(picture: Picture) -> tuple[Fault | None, list[int]]:
    """What is wrong with a picture, and the area of each of its objects."""
    fault = None
    try:
        picture.read()
    except UserError as error:
        kind = FaultKind.OTHER_SIZE if isinstance(error, OtherSizeError) else FaultKind.UNREADABLE_PICTURE
        fault = Fault(kind, "picture", picture.id, f"picture {picture.id}: {printable(str(error))}")
    return fault, [int(mask.area(truth.rle(picture.height, picture.width))) for truth in picture.truths]


def _spread(values: NDArray[np.int64]) -> list[int]:
    """The least, the middle one and the greatest; zeros of nothing."""
    return [int(v) for v in np.quantile(values, (0, 0.5, 1))] if len(values) else [0, 0, 0]
