"""Data sets in COCO's format: read once, checked wholly, their masks left as polygons and run lengths until needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolact.data._annotations import read_truths
from yolact.data.faults import Fault, FaultKind, OnFault
from yolact.data.fields import NotValid, field, integer, printable, string
from yolact.data.records import Pictures, Ragged
from yolact.errors import UserError

OBJECT, OBJECT_ID = "object", 1  # the one class of class-agnostic training and evaluation
MISFITS = 0.01  # of a file's boxes that may not fit: so few are slips, more mean that they are no x, y, width, height
MAX_SIDE = 32_766  # OpenCV warps no larger picture


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """The pictures and classes of one annotation file."""

    path: Path
    pictures: Pictures  # in the file's order
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # the data set's own ids, rising, gaps allowed; label i is category_ids[i]
    faults: tuple[Fault, ...] = ()  # of what was left out

    def __len__(self) -> int:
        return len(self.pictures)

    def only(self, classes: Sequence[str]) -> CocoDataset:
        """The same pictures with the objects of some classes alone, each class given by its name or its id.

        Raises:
            UserError: there is no such class.
        """
        ids = choose_classes(self.path, dict(zip(self.category_ids, self.class_names, strict=True)), classes)
        kept = np.array([label for label, id in enumerate(self.category_ids) if id in ids])
        return replace(
            self,
            pictures=self.pictures.relabelled(np.searchsorted(kept, self._labels), np.isin(self._labels, kept)),
            class_names=tuple(self.class_names[label] for label in kept),
            category_ids=tuple(self.category_ids[label] for label in kept),
        )

    def class_agnostic(self) -> CocoDataset:
        """The same pictures and objects, all of one class."""
        labels = np.zeros_like(self._labels)
        pictures = self.pictures.relabelled(labels, np.ones(len(labels), bool))
        return replace(self, pictures=pictures, class_names=(OBJECT,), category_ids=(OBJECT_ID,))

    @property
    def _labels(self) -> NDArray[np.int64]:
        return self.pictures.truths.labels


def read_coco(
    annotations: str | Path, images: str | Path, *, truths: bool = True, on_fault: OnFault = "stop"
) -> CocoDataset:
    """Read an annotation file in COCO's format (instances).

    Boxes are cut to their picture. An annotation without area is left out, as COCO's own files hold some, and
    so are a few whose box does not fit; many are a fault.

    Args:
        annotations: the JSON file, with `images`, `annotations` and `categories`.
        images: the folder that its file names are relative to; every picture must be there.
        truths: False to leave the annotations unread, which the file may then lack.
        on_fault: "stop" at a fault of an annotation or a picture, or "skip" it: leave out an annotation at fault, and a
            picture at fault with all its annotations. What was left out is in the data set's `faults`.

    Raises:
        UserError: naming the file and the first fault; or it is no file in COCO's format, on which "skip" is no help.
    """
    if on_fault not in ("stop", "skip"):
        raise ValueError(f"on_fault must be 'stop' or 'skip', got {on_fault!r}")
    path = Path(annotations)
    content = read_json(path)
    try:
        dataset = _parse(path, content, Path(images), truths)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    misfits = sum(fault.kind is FaultKind.BOX_MISFIT for fault in dataset.faults)
    many = misfits > MISFITS * (misfits + len(dataset.pictures.truths))
    stopping = [f for f in dataset.faults if f.kind.stops or (f.kind is FaultKind.BOX_MISFIT and many)]
    if stopping and on_fault == "stop":
        others = f" (one of {len(stopping)} faults; `yolact data check` tells them all)" if len(stopping) > 1 else ""
        raise UserError(f"{path}: {stopping[0].text}{others}")
    return dataset


def choose_classes(path: Path, names: Mapping[int, str], classes: Sequence[str]) -> set[int]:
    """The category ids of classes given by name or by id; a name that several have stands for all of them.

    Args:
        path: the file that has them, for messages.
        names: those there are, by id.

    Raises:
        UserError: there is no such class.
    """
    known = {str(id): {id} for id in names}
    known |= {name: {id for id in names if names[id] == name} for name in names.values()}
    if unknown := [name for name in classes if name not in known]:
        raise UserError(f"{path}: has no class {unknown[0]!r}; its classes are {', '.join(names.values())}")
    return set().union(*(known[name] for name in classes))


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error})") from None


def _parse(path: Path, content: Any, folder: Path, with_truths: bool) -> CocoDataset:
    for key in ("images", "categories", *(["annotations"] if with_truths else [])):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"holds no list {key!r}, so it is no COCO annotation file")
    if not folder.is_dir():
        raise UserError(f"there is no picture folder {folder}")
    names = _read_categories(content["categories"])
    faults: list[Fault] = []
    images = _read_images(content["images"], folder, faults)
    ids = np.array(list(images), np.int64)
    sizes = np.array([(image["height"], image["width"]) for image in images.values()], np.int64).reshape(-1, 2)
    encoded = [image["file_name"].encode("utf-8", "surrogatepass") for image in images.values()]
    file_names = Ragged.of(np.frombuffer(b"".join(encoded), np.uint8), [len(name) for name in encoded])
    left_out = {fault.id: -1 for fault in faults if fault.id is not None}
    row_of = left_out | {id: row for row, id in enumerate(images)}
    label_of = {id: label for label, id in enumerate(names)}
    records = content["annotations"] if with_truths else []
    truths, counts = read_truths(records, row_of, label_of, sizes, faults)
    pictures = Pictures(folder, ids, sizes, file_names, truths, np.concatenate([[0], np.cumsum(counts)]))
    return CocoDataset(path, pictures, tuple(names.values()), tuple(names), tuple(faults))


def _read_categories(records: list[Any]) -> dict[int, str]:
    """Names by id, ids rising. A fault here is one of the whole file: without classes there are no labels."""
    names: dict[int, str] = {}
    for position, record in enumerate(records):
        try:
            id = integer(record, "id")
            name = string(record, "name")
        except NotValid as error:
            raise UserError(f"categories[{position}]: {error}") from None
        if id in names:
            raise UserError(f"names category id {id} twice")
        names[id] = name
    if not names:
        raise UserError("names no category")
    return dict(sorted(names.items()))


def _read_images(records: list[Any], folder: Path, faults: list[Fault]) -> dict[int, dict[str, Any]]:
    """The pictures that can be used, by id, in the file's order."""
    images: dict[int, dict[str, Any]] = {}
    seen: dict[int, dict[str, Any]] = {}  # those that cannot be used as well
    ambiguous: set[int] = set()
    owners: dict[str, int] = {}  # ids of pictures by their files
    for position, record in enumerate(records):
        id = None
        name = f"images[{position}]"
        try:
            id = integer(record, "id")
            name = f"picture {id}"
            size = integer(record, "height"), integer(record, "width")
            file_name = field(record, "file_name", str)
        except NotValid as error:
            faults.append(Fault(FaultKind.MALFORMED_PICTURE, "picture", id, f"{name}: {error}"))
            continue
        first = seen.setdefault(id, record)
        if first is not record:
            files = printable(first["file_name"]), printable(file_name)
            text = f"{name}: the id is used twice, for {files[0]} and for {files[1]}"
            if first != record:  # then nobody knows whose annotations are whose
                ambiguous.add(id)
            faults.append(Fault(FaultKind.PICTURE_ID_TWICE, "picture", id, text))
        elif not 0 < min(size) <= max(size) <= MAX_SIDE:
            text = f"{name}: height and width are {size}, wanted 1 to {MAX_SIDE}"
            faults.append(Fault(FaultKind.PICTURE_SIZE, "picture", id, text))
        elif (file := os.path.normpath(folder / file_name)) in owners:
            text = f"{name}: has the file {printable(file_name)}, as picture {owners[file]} has"
            faults.append(Fault(FaultKind.FILE_NAME_TWICE, "picture", id, text))
        elif not os.path.isfile(file):
            text = f"{name}: there is no file {printable(file)}"
            faults.append(Fault(FaultKind.MISSING_FILE, "picture", id, text))
        else:
            images[id] = record
            owners[file] = id
    return {id: image for id, image in images.items() if id not in ambiguous}
