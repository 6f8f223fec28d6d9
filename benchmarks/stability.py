"""How steady are masks from frame to frame, beside boxes filled in? `python -m benchmarks.stability SOURCE...`

The bundled model, in float32: on each video as it is, and on films of a photo of a cat and of each photo given, made by
seeded noise of several strengths; a folder's photos count as one scene. What it detects is taken as it is, right or
wrong. `--json` writes the results, of which `benchmarks.readme` and `benchmarks.plots` make the table and the plot.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import yolact
from benchmarks.kernels import write
from benchmarks.readme import stability_table
from yolact.bench.machine import machine
from yolact.demo import photo_of_a_cat
from yolact.evaluation.films import Noise, noisy_frames, read_film
from yolact.evaluation.stability import pool, temporal_stability
from yolact.pictures import find_sources, is_picture, read_picture
from yolact.predictor import Model

WEIGHTS = "yolact_lite0_dogcat"
LEVELS = {"weak": Noise(2, 0.005, 95), "medium": Noise(5, 0.01, 90), "strong": Noise(15, 0.03, 70)}
THRESHOLDS = (0.15, 0.5)  # what `predict` keeps unless told, and what is surer
SEED = 0


def scenes(sources: list[Path], frames: int) -> Iterator[tuple[str, str | None, list[Iterator[np.ndarray]]]]:
    """A scene's name, its level of noise and its films."""
    photos = {"chelsea": [photo_of_a_cat()]}
    for source in sources:
        found = [path for path in find_sources([source]) if isinstance(path, Path)]
        for video in found:
            if not is_picture(video):
                yield video.name, None, [read_film(video, Noise(), None, SEED)]
        if pictures := [read_picture(path) for path in found if is_picture(path)]:
            name = f"{source.parent.name}/{source.name}, {len(pictures)} photos" if source.is_dir() else source.name
            photos[name] = pictures
    for name, pictures in photos.items():
        for level, noise in LEVELS.items():
            yield name, level, [noisy_frames(picture, noise, frames, SEED) for picture in pictures]


def measure(model: Model, films: list[Iterator[np.ndarray]]) -> Iterator[dict[str, Any]]:
    """The numbers of a scene at each threshold; one run of the model serves all, as they cut off what it found."""
    detected = [
        [found.to_coco(0) for found in model.stream(film, score_threshold=THRESHOLDS[0], precision="fp32")]
        for film in films
    ]
    for threshold in THRESHOLDS:
        kept = (([one for one in frame if one["score"] > threshold] for frame in film) for film in detected)
        yield {"score_threshold": threshold, **pool(map(temporal_stability, kept)).summary()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", type=Path, metavar="SOURCE")
    parser.add_argument("--frames", type=int, default=10, help="of each photo")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    model, rows = yolact.load(WEIGHTS), []
    for scene, level, films in scenes(options.sources, options.frames):
        for numbers in measure(model, films):
            rows.append({"scene": scene, "noise": level, **numbers})
            print(rows[-1], flush=True)
    levels = {level: asdict(noise) for level, noise in LEVELS.items()}
    told = {"weights": WEIGHTS, "frames": options.frames, "seed": SEED, "levels": levels}
    results = {"machine": machine(), "options": told, "rows": rows}
    print(stability_table(results))
    write(results, options.json)


if __name__ == "__main__":
    main()
