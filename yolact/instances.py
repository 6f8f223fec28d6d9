"""What `predict` returns: the instances of one picture, with everything that can be made of them."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from yolact.draw import Crop, draw
from yolact.mask import toBbox
from yolact.ops import assemble_masks, prototypes_to_rles
from yolact.pictures import write_picture

_DENSE_BYTES = 2**26  # of masks held at once where they are needed one after the other


# The fields of `Instances` that hold a row an instance.
PER_ROW = ("boxes", "scores", "box_scores", "mask_scores", "labels", "coefficients", "relative_boxes")


@dataclass(frozen=True, eq=False)
class OnHost:
    """What the host has been told of instances already, so that nobody waits for a GPU again."""

    labels: Tensor  # [N] int64
    scores: Tensor  # [N] float32
    boxes: Tensor  # [N, 4] float32
    box_scores: Tensor | None = None  # [N] float32, and
    mask_scores: Tensor | None = None  # [N] float32, where masks are scored by themselves
    rles: list[dict[str, Any]] | None = None  # None: not made yet

    def __getitem__(self, rows: Tensor) -> OnHost:  # an index of torch's
        positions = torch.arange(len(self.labels), device="cpu")[rows].tolist()
        chosen = {name: tensor[rows] for name, tensor in vars(self).items() if isinstance(tensor, Tensor)}
        return OnHost(**chosen, rles=self.rles and [self.rles[position] for position in positions])


@dataclass(frozen=True, eq=False, repr=False)
class Instances:
    """The instances of one picture by falling score; `masks`, `rles` and `polygons` are made when first asked for.

    `scores` are those that `predict` was asked for: of masks where the model scores them by themselves (YOLACT++), or
    of boxes; both are there then.

    It owns what they are made from (the prototypes, section 3 of the paper, and N rows of coefficients), so no later
    prediction changes it. Tensors are on the model's device; run lengths, polygons and pictures on the host.

    `len(r)` counts; `r[2]`, `r[:5]`, `r[r.scores > 0.5]` and `r[[4, 1]]` select rows, always an `Instances` again.
    """

    boxes: Tensor  # [N, 4] float32 xyxy, pixels inside the picture
    scores: Tensor  # [N] float32
    labels: Tensor  # [N] int64, 0-based
    coefficients: Tensor  # [N, K] float32, after tanh
    relative_boxes: Tensor  # [N, 4] float32 xyxy, fractions of the picture, may lie outside: what masks are cropped to
    prototypes: Tensor  # [h, w, K] float32, after ReLU
    picture: np.ndarray  # [H, W, 3] uint8 RGB
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # the data set's own, one a class
    box_scores: Tensor = None  # type: ignore[assignment]  # [N] float32; `scores` unless given
    mask_scores: Tensor | None = None  # [N] float32: times the IoU predicted; None where the model does not
    on_host: OnHost | None = None  # None: to be copied when asked for

    def __post_init__(self) -> None:
        if self.box_scores is None:
            object.__setattr__(self, "box_scores", self.scores)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the picture, in pixels."""
        return self.picture.shape[0], self.picture.shape[1]

    @property
    def names(self) -> list[str]:
        """The class of each instance in words."""
        return [self.class_names[label] for label in self._told.labels.tolist()]

    @property
    def classes(self) -> dict[int, str]:
        """All classes that there are, found or not: names by the data set's own ids."""
        return dict(zip(self.category_ids, self.class_names, strict=True))

    @cached_property
    def masks(self) -> Tensor:
        """Bool [N, H, W] on the model's device: N·H·W bytes; `rles` needs no pixels."""
        return assemble_masks(self.prototypes[None], self.coefficients[None], self.relative_boxes[None], self.size)[0]

    @cached_property
    def rles(self) -> list[dict[str, Any]]:
        """The masks as COCO run lengths, {"size": [H, W], "counts": str}, straight from the prototypes."""
        if self._told.rles is not None:
            return self._told.rles
        return prototypes_to_rles(
            self.prototypes[None], self.coefficients[None], self.relative_boxes[None], [self.size]
        )[0]

    @cached_property
    def polygons(self) -> list[list[np.ndarray]]:
        """The masks' borders: for each instance a list of float32 [M, 2] rings of (x, y) pixel centres.

        Outer borders and the borders of holes alike, both on pixels of the mask: filled together by the even-odd rule
        with their borders included, as `cv2.fillPoly` does, they give back the mask exactly.
        """
        return [
            [
                ring[:, 0].astype(np.float32)
                for ring in cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))[0]
            ]
            for mask, x, y in self._crops(range(len(self)))
        ]

    def plot(self) -> np.ndarray:
        """The picture with the instances drawn over it: a new [H, W, 3] uint8 RGB array."""
        best_last = range(len(self))[::-1]
        texts = [f"{name} {score:.2f}" for name, score in zip(self.names, self._told.scores.tolist(), strict=True)]
        boxes, labels = self._told.boxes.numpy(), self._told.labels.tolist()
        return draw(self.picture, self._crops(best_last), boxes[::-1], labels[::-1], texts[::-1])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `plot()` to a file whose suffix names the format; it appears whole or not at all.

        Raises:
            UserError: The file cannot be written, or the format is unknown.
        """
        write_picture(path, self.plot())

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results, ready for json.dump: the data set's own category ids, xywh boxes in pixels, RLE with a str.

        Where masks are scored by themselves, both scores are there beside `score`, "box_score" and "mask_score".
        """
        told = self._told
        results = [
            {
                "image_id": operator.index(image_id),
                "category_id": self.category_ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
                "segmentation": rle,
            }
            for (x1, y1, x2, y2), label, score, rle in zip(
                told.boxes.tolist(), told.labels.tolist(), told.scores.tolist(), self.rles, strict=True
            )
        ]
        if told.box_scores is None or told.mask_scores is None:
            return results
        both = zip(results, told.box_scores.tolist(), told.mask_scores.tolist(), strict=True)
        return [{**result, "box_score": box_score, "mask_score": mask_score} for result, box_score, mask_score in both]

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, key: int | slice | Sequence[int] | Sequence[bool] | np.ndarray | Tensor) -> Instances:
        rows: Any = key
        if isinstance(key, slice):
            rows = list(range(len(self))[key])
        elif np.ndim(key) == 0:
            rows = [range(len(self))[operator.index(rows)]]  # IndexError past the end, which also ends an iteration
        else:
            rows = key if isinstance(key, Tensor) else torch.from_numpy(np.array(key))
            if rows.numel() == 0:  # what is empty has any dtype
                rows = rows.long()
        selected = {name: tensor[rows] for name, tensor in self.per_row().items()}
        there = rows.cpu() if isinstance(rows, Tensor) else torch.tensor(rows, dtype=torch.int64, device="cpu")
        return replace(self, **selected, on_host=self.on_host and self.on_host[there])

    def __repr__(self) -> str:
        scores = self._told.scores[:5].tolist()
        first = [f"{name} {score:.2f}" for name, score in zip(self.names[:5], scores, strict=True)]
        more = [f"{len(self) - 5} more"] if len(self) > 5 else []
        height, width = self.size
        return f"Instances({len(self)} in {width}x{height}{': ' if first else ''}{', '.join(first + more)})"

    def per_row(self) -> dict[str, Any]:
        """The tensors that hold a row an instance, by the names of their fields."""
        return {name: tensor for name in PER_ROW if (tensor := getattr(self, name)) is not None}

    @cached_property
    def _told(self) -> OnHost:
        if self.on_host is not None:
            return self.on_host
        scores = () if self.mask_scores is None else (self.box_scores.cpu(), self.mask_scores.cpu())
        return OnHost(self.labels.cpu(), self.scores.cpu(), self.boxes.cpu(), *scores)

    def _crops(self, rows: Sequence[int]) -> Iterator[Crop]:
        """These masks one at a time, each no larger than it is, uint8, made a few at a time from bits."""
        few = max(1, 8 * _DENSE_BYTES // self.picture[..., 0].size)
        bounds = toBbox(self.rles).astype(int).reshape(-1, 4).tolist()  # x, y, width, height
        for start in range(0, len(rows), few):
            some = rows[start : start + few]
            wanted = self[list(some)]
            packed = assemble_masks(
                wanted.prototypes[None], wanted.coefficients[None], wanted.relative_boxes[None], self.size, packed=True
            )
            for row, bits in zip(some, packed[0].cpu().numpy(), strict=True):
                x, y, width, height = bounds[row]
                left, right = x // 8, (x + width + 7) // 8
                crop = np.unpackbits(bits[y : y + height, left:right], axis=1, bitorder="little")
                yield Crop(crop[:, x - 8 * left : x - 8 * left + width], x, y)
