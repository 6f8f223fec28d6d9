"""What `yolact predict` does: pictures from disk in, annotated pictures and COCO results out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from yolact.errors import UserError
from yolact.files import replacing
from yolact.pictures import WRITABLE_SUFFIXES, image_id, make_folder, read_picture
from yolact.predictor import Model


def run(
    model: Model,
    pictures: list[Path],
    output: Path | None,  # folder of the annotated pictures
    results_file: Path | None,
    *,
    batch_size: int,
    **options: Any,  # of `Model.predict`
) -> tuple[int, int]:
    """Predict on picture files; one that cannot be read is told on stderr, and the rest are done.

    Returns:
        How many pictures failed, and how many instances the others hold.

    Raises:
        UserError: A folder cannot be written to, or the output would overwrite a picture of the input.
    """
    targets = _targets(pictures, output) if output else {}
    _keep_apart(pictures, [*targets.values(), *([results_file] if results_file else [])])
    folders = [folder for folder in (output, results_file and results_file.parent) if folder]
    results: list[dict[str, Any]] = []
    done = instances = 0
    with tqdm(total=len(pictures), unit="picture", disable=not sys.stderr.isatty()) as progress:
        for start in range(0, len(pictures), batch_size):
            positions = range(start, min(start + batch_size, len(pictures)))
            batch = _read(pictures, positions, progress)
            for folder in folders if batch else ():  # not before there is something to write, yet before the work
                make_folder(folder)
            predicted = model.predict(batch.values(), batch_size=batch_size, **options)
            for position, found in zip(batch, predicted, strict=True):
                path = pictures[position]
                if results_file:
                    coco = found.to_coco(image_id(path, position + 1))
                    results += [{**result, "file_name": path.name} for result in coco]
                if output:
                    found.save(targets[path])
                instances += len(found)
            done += len(batch)
            progress.update(len(positions))
    if results_file and done:
        write_results(results_file, results)
    return len(pictures) - done, instances


def _read(pictures: list[Path], positions: range, progress: tqdm) -> dict[int, np.ndarray]:
    """Those of the pictures that can be read, by position."""
    batch = {}
    for position in positions:
        try:
            batch[position] = read_picture(pictures[position])
        except UserError as error:
            progress.write(f"yolact: {' '.join(str(error).split())}", file=sys.stderr)
    return batch


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """Write a COCO results list, a line a result."""
    lines = ",\n".join(json.dumps(result) for result in results)
    with replacing(path) as file:
        file.write(f"[\n{lines}\n]\n".encode() if results else b"[]\n")


def _targets(pictures: list[Path], output: Path) -> dict[Path, Path]:
    """Where each annotated picture goes: under its own name, numbered where folders share one."""
    targets: dict[Path, Path] = {}
    taken: set[str] = set()
    for path in pictures:
        suffix = path.suffix if path.suffix.lower() in WRITABLE_SUFFIXES else ".png"
        names: Iterator[str] = (f"{path.stem}{'' if n == 1 else f'-{n}'}{suffix}" for n in range(1, len(pictures) + 1))
        name = next(name for name in names if name.lower() not in taken)
        taken.add(name.lower())
        targets[path] = output / name
    return targets


def _keep_apart(pictures: list[Path], written: list[Path]) -> None:
    """No file that is written may be a picture of the input, nor two of them one file."""
    taken = {os.path.realpath(path) for path in pictures}
    for path in written:
        if os.path.realpath(path) in taken:
            raise UserError(
                f"{path}: is a picture, of the input or annotated, and would be overwritten; choose another"
            )
        taken.add(os.path.realpath(path))
