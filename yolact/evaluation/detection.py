"""What a model finds on the pictures of a data set, while threads read the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolact.data.coco import CocoDataset, read_coco
from yolact.data.records import Picture
from yolact.errors import UserError

if TYPE_CHECKING:
    from yolact.predictor import Model

SCORE_THRESHOLD = 0.05  # what the published numbers were counted at


def detect_dataset(
    model: Model,
    annotations: str | Path,
    images: str | Path,
    batch_size: int = 1,
    *,
    workers: int = 2,
    class_agnostic: bool = False,
    precision: str = "fp32",
) -> Iterator[list[dict[str, Any]]]:
    """Detect on every picture of a data set, for `evaluate`: at most 100 a picture, boxes scoring above 0.05.

    Args:
        model: its category ids are the data set's.
        annotations: the JSON file that names the pictures; the truths in it are not looked at.
        images: the folder that its file names are relative to.
        batch_size: pictures that go through the network together.
        workers: threads that read pictures.
        class_agnostic: the results will be scored so, whatever categories the model has.
        precision: see `Model.predict`; what is published is counted in float32.

    Yields:
        COCO results, a list for each picture, in the file's order.

    Raises:
        UserError: the file or a picture does not read, or the model was trained for other categories.
    """
    dataset = read_pictures(model, annotations, images, class_agnostic)
    for _, results in detect_pictures(model, dataset.pictures, batch_size, workers, precision):
        yield results


def read_pictures(
    model: Model, annotations: str | Path, images: str | Path, class_agnostic: bool = False
) -> CocoDataset:
    """The pictures of a data set that a model can be evaluated on; `detect_dataset` tells what it raises."""
    dataset = read_coco(annotations, images, truths=False)
    unknown = sorted(set(model.config.category_ids) - set(dataset.category_ids))
    if unknown and not class_agnostic:
        raise UserError(f"{annotations}: the model detects category ids {unknown} that are not in it")
    return dataset


def detect_pictures(
    model: Model, pictures: Sequence[Picture], batch_size: int, workers: int, precision: str = "fp32"
) -> Generator[tuple[Picture, list[dict[str, Any]]], None, None]:
    """COCO results of each picture, in order."""
    read = _read_ahead(pictures, workers, ahead=batch_size + workers)
    while batch := list(islice(read, batch_size)):
        detected = model.predict(
            [pixels for _, pixels in batch],
            score_threshold=SCORE_THRESHOLD,
            score="box",  # of masks there is another one beside it, and none is left out for that
            batch_size=batch_size,
            precision=precision,
        )
        for (picture, _), instances in zip(batch, detected, strict=True):
            yield picture, instances.to_coco(picture.id)


def _read_ahead(
    pictures: Iterable[Picture], workers: int, ahead: int
) -> Iterator[tuple[Picture, NDArray[np.uint8]]]:  # [H, W, 3]
    """Pictures in order, each with its pixels; so many of the next ones are being read."""
    waiting: deque[tuple[Picture, Future[NDArray[np.uint8]]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for picture in pictures:
            waiting.append((picture, pool.submit(picture.read)))
            if len(waiting) > ahead:
                first, pixels = waiting.popleft()
                yield first, pixels.result()
        for first, pixels in waiting:
            yield first, pixels.result()
    finally:
        pool.shutdown(cancel_futures=True)
