"""Pictures and what is annotated on them, kept in a few flat arrays.

A data set of a million objects is a dozen NumPy arrays here, not millions of Python objects: small, quick to hand to
worker processes, and shared with forked ones for good, since nobody counts references inside an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from yolact import mask
from yolact.errors import UserError
from yolact.pictures import read_picture

Segmentation = list[NDArray[np.float32]] | dict[str, Any]  # polygons [n, 2] in pixels, or a compressed RLE


@dataclass(frozen=True, eq=False)
class Truth:
    """One annotated object of a picture."""

    box: NDArray[np.float32]  # [4] xyxy, pixels, inside the picture
    label: int  # 0-based
    segmentation: Segmentation
    crowd: bool

    def rle(self, height: int, width: int) -> dict[str, Any]:
        """Its pixels on its picture, of that size, as a compressed RLE."""
        if isinstance(self.segmentation, dict):
            return self.segmentation
        return mask.merge(mask.frPyObjects([polygon.ravel() for polygon in self.segmentation], height, width))


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a data set and what is annotated on it."""

    id: int
    path: Path
    height: int
    width: int
    truths: tuple[Truth, ...]  # none: a picture of background

    def read(self) -> NDArray[np.uint8]:
        """Decode the picture.

        It is turned as its EXIF orientation says, unless only as it is stored it has the annotated size: some tools
        show people one, some the other.

        Returns:
            [height, width, 3] uint8, RGB.

        Raises:
            UserError: the file is missing, cannot be decoded, or is not of the annotated size.
        """
        pixels = read_picture(self.path)
        if pixels.shape[:2] == (self.width, self.height):
            pixels = read_picture(self.path, upright=False)
        if pixels.shape[:2] != (self.height, self.width):
            found = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise OtherSizeError(f"{self.path}: is {found}, its annotations say {self.width}x{self.height}")
        return pixels


class OtherSizeError(UserError):
    """A picture that reads, but is not of the annotated size."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths, one behind the other."""

    values: NDArray[Any]  # [sum of lengths, ...]
    offsets: NDArray[np.int64]  # [rows + 1]: row i is values[offsets[i] : offsets[i + 1]]

    @classmethod
    def of(cls, values: NDArray[Any], lengths: Sequence[int] | NDArray[np.int64]) -> Ragged:
        """Rows of these lengths."""
        return cls(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """Some of the rows, in another order."""
        lengths = np.diff(self.offsets)[rows]
        taken = Ragged.of(self.values, lengths)
        shifts = np.repeat(self.offsets[rows] - taken.offsets[:-1], lengths)
        return Ragged(self.values[shifts + np.arange(len(shifts))], taken.offsets)


@dataclass(frozen=True, eq=False)
class Truths:
    """Annotated objects in flat arrays: a segmentation is polygons, or where it has no parts an RLE."""

    boxes: NDArray[np.float32]  # [N, 4] xyxy, pixels, inside their pictures
    labels: NDArray[np.int64]  # [N] 0-based
    crowd: NDArray[np.bool_]  # [N]
    parts: Ragged  # N rows: how many points each polygon has
    points: Ragged  # N rows: the points [n, 2] of all polygons, float32
    rles: Ragged  # N rows: compressed counts, uint8

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Truths:
        """Some of them, in another order."""
        return Truths(
            self.boxes[rows],
            self.labels[rows],
            self.crowd[rows],
            self.parts.take(rows),
            self.points.take(rows),
            self.rles.take(rows),
        )

    def truth(self, row: int, height: int, width: int) -> Truth:
        """One of them, on a picture of that size."""
        parts = self.parts[row]
        segmentation: Segmentation = np.split(self.points[row], np.cumsum(parts)[:-1])
        if not len(parts):
            segmentation = self.rle(row, height, width)
        return Truth(self.boxes[row], int(self.labels[row]), segmentation, bool(self.crowd[row]))

    def rle(self, row: int, height: int, width: int) -> dict[str, Any]:
        """The compressed RLE of one that is no polygon."""
        return {"size": [height, width], "counts": self.rles[row].tobytes()}


@dataclass(frozen=True, eq=False)
class Pictures(Sequence[Picture]):
    """The pictures of a data set, a sequence of `Picture`; each is made when it is asked for."""

    folder: Path
    ids: NDArray[np.int64]  # [P]
    sizes: NDArray[np.int64]  # [P, 2] height, width
    names: Ragged  # P rows: file names in UTF-8, relative to the folder
    truths: Truths  # picture by picture
    offsets: NDArray[np.int64]  # [P + 1]: the truths of picture i are offsets[i] to offsets[i + 1]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> list[Picture]: ...
    def __getitem__(self, index: int | slice) -> Picture | list[Picture]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # negative ones too; IndexError past the end
        height, width = (int(side) for side in self.sizes[index])
        rows = range(self.offsets[index], self.offsets[index + 1])
        return Picture(
            int(self.ids[index]),
            self.folder / self.names[index].tobytes().decode("utf-8", "surrogatepass"),
            height,
            width,
            tuple(self.truths.truth(row, height, width) for row in rows),
        )

    def relabelled(self, labels: NDArray[np.int64], keep: NDArray[np.bool_]) -> Pictures:
        """The same pictures with new labels [N] of their objects, of which some [N] are kept."""
        truths = replace(self.truths, labels=labels).take(np.flatnonzero(keep))
        return replace(self, truths=truths, offsets=np.concatenate([[0], np.cumsum(keep)])[self.offsets])
