"""Draws the plots of docs/ from the newest files of results: `python -m benchmarks.plots`"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.readme import ROOT, newest
from yolact.evaluation.plots import draw_steadiness

matplotlib.use("Agg")
# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = ("#999999", "#56b4e9", "#0072b2", "#e69f00", "#d55e00", "#009e73")
NOT_NETWORK = ("decode", "preprocess", "detect", "masks to RLE", "to JSON")


def latency(results: dict[str, Any], path: Path) -> None:
    """Stacked bars: each network's contenders at batch one with the most threads, the stages of their way."""
    most = max(scene["threads"] for scene in results["scenes"])
    scenes = [scene for scene in results["scenes"] if scene["batch"] == 1 and scene["threads"] == most]
    figure, axes = plt.subplots(1, len(scenes), figsize=(3.2 * len(scenes), 3.4), layout="constrained", squeeze=False)
    for axis, scene in zip(axes[0], scenes, strict=True):
        rows = scene["rows"]
        names = [row["contender"].replace(" ", "\n") for row in rows]
        bottom = [0.0] * len(rows)
        for colour, stage in zip(COLOURS, rows[0]["stages"], strict=True):
            heights = [row["stages"][stage] for row in rows]
            axis.bar(names, heights, bottom=bottom, color=colour, label=stage, width=0.7)
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        axis.set_title(f"{scene['config']}, instances: {rows[0]['instances']:.0f}", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel(f"ms a picture, batch 1, {most} thread{'s' * (most > 1)}", fontsize=8)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", fontsize=8, frameon=False)
    save(figure, path)


def growth(results: dict[str, Any], path: Path) -> None:
    """Everything but the network, against the number of instances and against the pixels of the picture."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
    scenes = results["scenes"]
    by_count = [scene for scene in scenes if scene["varied"] == "instances"]
    by_size = [scene for scene in scenes if scene["varied"] == "size"]
    curves(left, by_count, [scene["rows"][0]["instances"] for scene in by_count])
    curves(right, by_size, [scene["width"] * scene["height"] / 1e6 for scene in by_size])
    left.set_xlabel(f"instances, picture of {by_count[0]['width']} x {by_count[0]['height']}", fontsize=8)
    right.set_xlabel(f"megapixels, {by_size[0]['rows'][0]['instances']:.0f} instances", fontsize=8)
    threads = results["options"]["threads"]
    left.set_ylabel(f"ms a picture without the network, {threads} thread{'s' * (threads > 1)}", fontsize=8)
    left.legend(fontsize=8, frameon=False)
    save(figure, path)


def curves(axis: Axes, scenes: list[dict[str, Any]], places: list[float]) -> None:
    """A solid line a contender for all its stages but the network, and a dashed one for detection and masks alone."""
    for contender, colour, marker in (("yolact", COLOURS[2], "o"), ("eager torch", COLOURS[4], "s")):
        points = [
            (place, row["stages"])
            for place, scene in zip(places, scenes, strict=True)
            for row in scene["rows"]
            if row["contender"] == contender
        ]
        for stages, style, told in (
            (NOT_NETWORK, "-", "all but the network"),
            (("detect", "masks to RLE"), "--", "detect, masks to RLE"),
        ):
            values = [sum(taken[stage] for stage in stages) for _, taken in points]
            label = f"{contender}: {told}"
            axis.plot([place for place, _ in points], values, style, color=colour, marker=marker, ms=4, label=label)
    axis.set(xscale="log", yscale="log")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
    axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def stability(results: dict[str, Any], path: Path) -> None:
    """A panel a threshold of the score: the mean and the 5th percentile of each scene, of masks and of boxes."""
    thresholds = sorted({row["score_threshold"] for row in results["rows"]})
    figure, axes = plt.subplots(
        1, len(thresholds), figsize=(10, 5), layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    for axis, threshold in zip(axes[0], thresholds, strict=True):
        rows = [row for row in results["rows"] if row["score_threshold"] == threshold]
        draw_steadiness(axis, {", ".join(filter(None, (row["scene"], row["noise"]))): row for row in rows})
        axis.set_title(f"scores above {threshold:g}", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="the folder")
    options = parser.parse_args()
    for kind, name, draw in (
        ("end-to-end", "latency.png", latency),
        ("growth", "growth.png", growth),
        ("stability", "stability.png", stability),
    ):
        if results := newest(kind):
            draw(results, options.output / name)


if __name__ == "__main__":
    main()
