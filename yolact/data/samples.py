"""The endless stream of training samples: a pure function of the seed and the position in it."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray

from yolact.data.augment import Augmentation, copy_paste, mosaic, sample_view
from yolact.data.coco import CocoDataset
from yolact.data.faults import OnFault
from yolact.data.records import Picture
from yolact.data.render import Sample
from yolact.errors import UserError

CACHE_BYTES = 1 << 28  # data sets that decode to less are kept decoded
READ_ATTEMPTS = 20  # pictures that fail one after the other: then it is no matter of single files


class SampleStream(torch.utils.data.Dataset[Sample]):
    """Sample `position` of training: epoch after epoch of the data set, each in its own order, augmented.

    Nothing is remembered from one sample to the next, so training resumes at a position alone, and any number of
    workers draws the same samples.

    Args:
        dataset: the pictures.
        size: height and width of a sample, the network's input.
        augmentation: how strongly to augment.
        fill: the colour of what lies outside a picture, RGB, 0..255.
        seed: of the order and of every random choice.
        min_truth_size: truths of less width or height are left out, in pixels of the sample.
        on_fault: a picture that does not read is an error ("stop"), or another one, drawn as all else is, stands in
            its place ("skip") and the sample's `unreadable` tells.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        size: int,
        augmentation: Augmentation,
        fill: tuple[float, float, float],
        seed: int,
        min_truth_size: float = 0.0,
        on_fault: OnFault = "stop",
    ) -> None:
        self.pictures = dataset.pictures
        self.size = size
        self.augmentation = augmentation
        self.fill = fill
        self.seed = seed
        self.min_truth_size = min_truth_size
        self.on_fault = on_fault
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._caches = all(n <= CACHE_BYTES for n in accumulate(3 * p.height * p.width for p in dataset.pictures))
        self._pixels: dict[int, NDArray[np.uint8]] = {}

    def __getitem__(self, position: int) -> Sample:
        options = self.augmentation
        rng = np.random.default_rng((self.seed, 1, position))
        picture = self.pictures[self._index(position)]
        if rng.random() < options.mosaic:
            sample = self._mosaic(picture, rng)
        else:
            sample = self._view(picture, (self.size, self.size), rng)
        if rng.random() < options.copy_paste:
            other = self._view(self._any(rng), (self.size, self.size), rng)
            sample = copy_paste(sample, other, options.min_visible, rng)
        return sample.select(np.min(sample.boxes[:, 2:] - sample.boxes[:, :2], axis=1) >= self.min_truth_size)

    def picture(self, position: int) -> Picture:
        """The picture that a sample shows, the first one of a mosaic."""
        return self.pictures[self._index(position)]

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, len(self.pictures))
        if self._order[0] != epoch:
            rng = np.random.default_rng((self.seed, 0, epoch))
            self._order = (epoch, rng.permutation(len(self.pictures)))
        return int(self._order[1][place])

    def _any(self, rng: np.random.Generator) -> Picture:
        return self.pictures[int(rng.integers(len(self.pictures)))]

    def _mosaic(self, first: Picture, rng: np.random.Generator) -> Sample:
        pictures = [first, self._any(rng), self._any(rng), self._any(rng)]
        y, x = (int(v) for v in rng.uniform(0.3, 0.7, 2) * self.size)
        sizes = ((y, x), (y, self.size - x), (self.size - y, x), (self.size - y, self.size - x))
        views = [self._view(p, size, rng) for p, size in zip(pictures, sizes, strict=True)]
        return mosaic(views, (y, x), (self.size, self.size))

    def _view(self, picture: Picture, size: tuple[int, int], rng: np.random.Generator) -> Sample:
        unreadable: list[str] = []
        while True:
            try:
                pixels = self._read(picture)
                break
            except UserError as error:
                unreadable.append(str(error))
                if self.on_fault == "stop" or len(unreadable) == READ_ATTEMPTS:
                    raise
                picture = self._any(rng)
        sample = sample_view(picture, pixels, size, self.augmentation, self.fill, rng)
        return replace(sample, unreadable=tuple(unreadable))

    def _read(self, picture: Picture) -> NDArray[np.uint8]:
        pixels = self._pixels.get(picture.id)
        if pixels is None:
            pixels = picture.read()
            if self._caches:
                self._pixels[picture.id] = pixels
        return pixels
