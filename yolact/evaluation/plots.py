"""An evaluation as pictures: precision over recall, the confusion matrix, and how steady masks are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolact.data.fields import printable
from yolact.errors import UserError
from yolact.evaluation.coco import Scores
from yolact.evaluation.confusion import IOU_THRESHOLD, SCORE_THRESHOLD, confusion_matrix
from yolact.evaluation.stability import PERCENTILE, Stability, pool
from yolact.evaluation.truth import GroundTruth, Record
from yolact.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECALL = np.linspace(0, 1, 101)  # where COCO reads precision
SHOWN = 3  # of the best and of the worst classes
LEGIBLE = 12  # classes whose counts can be read in a matrix
NAMED = 200  # classes whose names can
STEADY = {"mask": ("masks", "#0072b2"), "box": ("boxes filled in", "#d55e00")}  # a label and a colour each
STEADY_AXIS = "IoU with the frame before"


def require_matplotlib() -> type[Figure]:
    """matplotlib's figure, which draws to a file without a display.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("plots need matplotlib: pip install 'yolact[eval]'") from None
    return Figure


def draw(truth: GroundTruth, results: Sequence[Record], scores: Mapping[str, Scores], folder: Path) -> list[Path]:
    """All the plots of an evaluation.

    Args:
        truth, results: as `read_truth` and `read_results` give them.
        scores: as `score` counted them.
        folder: where they go.

    Returns:
        The files written.
    """
    files = [folder / f"precision_recall_{kind}.png" for kind in scores]
    for kind, file in zip(scores.values(), files, strict=True):
        plot_precision_recall(kind, file)
    confusion = folder / "confusion.png"
    plot_confusion(confusion_matrix(truth, results), tuple(truth.categories.values()), confusion)
    return [*files, confusion]


def plot_precision_recall(scores: Scores, path: Path) -> None:
    """Draw the mean curve of all classes at IoU .5, .75 and .5:.95, and the curves of the best and the worst classes.

    Args:
        scores: of boxes or of masks.
        path: the PNG to write.
    """
    figure = require_matplotlib()(figsize=(12, 5))
    means, classes = figure.subplots(1, 2, sharex=True, sharey=True)
    counted = np.flatnonzero(scores.truths)
    each = scores.per_class()[:, 0]
    for name, curves in {"IoU .5": slice(0, 1), "IoU .75": slice(5, 6), "IoU .5:.95": slice(0, 10)}.items():
        curve = scores.precision[curves][:, :, counted].mean((0, 2)) if len(counted) else np.zeros_like(RECALL)
        means.plot(RECALL, curve, label=f"AP {curve.mean():.3f}, {name}")
    order = counted[np.argsort(-each[counted], kind="stable")]
    for label in order if len(order) <= 2 * SHOWN else np.r_[order[:SHOWN], order[-SHOWN:]]:
        curve = scores.precision[:, :, label].mean(0)
        classes.plot(RECALL, curve, label=f"AP {each[label]:.3f}, {_plain(scores.class_names[label])}")
    means.set(title="Mean of the classes", xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    classes.set(title="Best and worst classes, IoU .5:.95", xlabel="recall")
    for axes in (means, classes):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    _save(figure, path)


def plot_confusion(matrix: NDArray[np.int64], class_names: tuple[str, ...], path: Path) -> None:
    """Draw a confusion matrix, each row's share as colour and the counts where there is room for them.

    Args:
        matrix: [C+1, C+1], as `confusion_matrix` gives it.
        class_names: C of them.
        path: the PNG to write.
    """
    names = [*map(_plain, class_names), "background"]
    side = max(5.0, 0.22 * min(len(names), NAMED) + 3)
    figure = require_matplotlib()(figsize=(side + 1, side))
    axes: Any = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure.colorbar(axes.imshow(share, cmap="Blues", vmin=0, vmax=1), label="share of the row", fraction=0.04)
    title = f"Scores above {SCORE_THRESHOLD}, IoU of at least {IOU_THRESHOLD}"
    axes.set(title=title, xlabel="detected as", ylabel="annotated as")
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(names) <= LEGIBLE + 1:
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color)
    _save(figure, path)


def plot_stability(measured: Mapping[str, Stability], path: Path) -> None:
    """Draw the mean and the 5th percentile of the IoUs of each film, and how all IoUs are distributed.

    Args:
        measured: films by name.
        path: the PNG to write.
    """
    figure = require_matplotlib()(figsize=(12, max(3.0, 1.2 + 0.25 * len(measured))))
    films, shares = figure.subplots(1, 2)
    draw_steadiness(films, {_plain(name): film.summary() for name, film in measured.items()})
    films.set_title("Each film")
    together = pool(measured.values())
    for values, (label, colour) in zip((together.mask_iou, together.box_iou), STEADY.values(), strict=True):
        shares.plot(np.sort(values), np.linspace(0, 1, len(values) + 1)[1:], color=colour, label=label)
    shares.set(title="All pairs", xlabel=STEADY_AXIS, ylabel="share of pairs at or below")
    for axes in (films, shares):
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def draw_steadiness(axes: Axes, films: Mapping[str, Mapping[str, Any]]) -> None:
    """A line a film: the mean and the 5th percentile of masks, and of boxes filled in.

    Args:
        axes: matplotlib's, to draw into.
        films: `Stability.summary` by name; without a pair the line stays empty.
    """
    for (kind, (label, colour)), offset in zip(STEADY.items(), (-0.15, 0.15), strict=True):
        keys = f"{kind}_mean", f"{kind}_p{PERCENTILE}"
        means, lows = (np.array([film[key] for film in films.values()], np.float64) for key in keys)  # None is nan
        rows = np.arange(len(films)) + offset
        axes.hlines(rows, lows, means, color=colour, alpha=0.5)
        axes.plot(means, rows, "o", color=colour, label=f"{label}: mean")
        axes.plot(lows, rows, "|", color=colour, label=f"{label}: {PERCENTILE}th percentile")
    axes.set_yticks(range(len(films)), films)
    axes.set(xlabel=STEADY_AXIS, ylim=(len(films) - 0.5, -0.5))


def _plain(name: str) -> str:
    """A class name that matplotlib shows as it is, in which two dollar signs would be a formula."""
    return printable(name).replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # letters that the font lacks are drawn as boxes
        figure.savefig(file, format="png", dpi=100, bbox_inches="tight")
