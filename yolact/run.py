"""What `yolact predict` does: pictures from disk in, annotated pictures and COCO results out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from yolact.errors import UserError
from yolact.pictures import WRITABLE_SUFFIXES, image_id, make_folder, read_picture, write_file
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
    for folder in filter(None, (output, results_file and results_file.parent)):
        make_folder(folder)
    results: list[dict[str, Any]] = []
    failed = instances = 0
    with tqdm(total=len(pictures), unit="picture", disable=not sys.stderr.isatty()) as progress:
        for start in range(0, len(pictures), batch_size):
            batch: dict[int, np.ndarray] = {}  # by position
            for position, path in enumerate(pictures[start : start + batch_size], start):
                try:
                    batch[position] = read_picture(path)
                except UserError as error:
                    failed += 1
                    progress.write(f"yolact: {error}", file=sys.stderr)
            predicted = model.predict(batch.values(), batch_size=batch_size, **options)
            for position, found in zip(batch, predicted, strict=True):
                path = pictures[position]
                instances += len(found)
                if results_file:
                    found_here = found.to_coco(image_id(path, position + 1))
                    results += [{**result, "file_name": path.name} for result in found_here]
                if output:
                    found.save(targets[path])
            progress.update(min(batch_size, len(pictures) - start))
    if results_file and failed < len(pictures):
        write_results(results_file, results)
    return failed, instances


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """Write a COCO results list, a line a result."""
    lines = ",\n".join(json.dumps(result) for result in results)
    write_file(path, f"[\n{lines}\n]\n".encode() if results else b"[]\n")


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
    inputs = {path.resolve() for path in pictures}
    for target in targets.values():
        if target.resolve() in inputs:
            raise UserError(
                f"{target}: is a picture of the input and would be overwritten; choose another output folder"
            )
    return targets
