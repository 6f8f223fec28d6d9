"""The plots of an evaluation: drawn whole, of what was counted."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolact.errors import UserError
from yolact.evaluation import plots
from yolact.evaluation.coco import METRICS, Scores
from yolact.evaluation.plots import plot_confusion, plot_precision_recall
from yolact.pictures import read_picture


def scores(classes: int) -> Scores:
    """Class i is found up to recall i / classes; class 0 has no truth."""
    precision = np.full((10, 101, classes), -1.0)
    for label in range(1, classes):
        precision[:, :, label] = np.linspace(0, 1, 101) <= label / classes
    names = tuple(f"class {label}" for label in range(classes))
    return Scores(dict.fromkeys(METRICS, 0.0), precision, names, np.arange(classes))


def is_drawn(path: Path) -> bool:
    """A picture with more than a few colours, white at its border."""
    pixels = read_picture(path)
    return len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20 and (pixels[0] == 255).all()


@pytest.mark.parametrize("classes", [1, 9])
def test_precision_recall_is_drawn(classes: int, tmp_path: Path) -> None:
    plot_precision_recall(scores(classes), tmp_path / "curves.png")
    assert is_drawn(tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_the_curves_are_of_the_classes_that_have_truths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    labels = []
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, label: labels.append((label, round(float(np.mean(y)), 3))))
    plot_precision_recall(scores(9), tmp_path / "curves.png")
    mean = round(sum(np.floor(100 * label / 9) + 1 for label in range(1, 9)) / 8 / 101, 3)
    assert [value for _, value in labels[:3]] == [mean] * 3
    assert [label.split(", ")[1] for label, _ in labels[3:]] == [f"class {label}" for label in (8, 7, 6, 3, 2, 1)]


@pytest.mark.parametrize("classes", [2, 30])
def test_confusion_is_drawn(classes: int, tmp_path: Path) -> None:
    names = tuple(f"class {label}" for label in range(classes))
    plot_confusion(np.eye(classes + 1, dtype=np.int64), names, tmp_path / "confusion.png")
    assert is_drawn(tmp_path / "confusion.png")


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    """No formula, no letter that cannot be printed, no complaint about one that the font lacks, and `_` is shown."""
    names = (r"$\frac{$", "a\n\x1b[31mb", "犬", "_")
    plot_confusion(np.eye(5, dtype=np.int64), names, tmp_path / "confusion.png")
    plot_precision_recall(replace(scores(4), class_names=names), tmp_path / "curves.png")
    assert is_drawn(tmp_path / "confusion.png")
    assert is_drawn(tmp_path / "curves.png")


def test_every_curve_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.legend import Legend

    shown = []
    original = Legend.__init__
    monkeypatch.setattr(Legend, "__init__", lambda *a, **k: shown.extend(a[3]) or original(*a, **k))
    plot_precision_recall(replace(scores(2), class_names=("a", "_b")), tmp_path / "curves.png")
    assert [label.split(", ")[1] for label in shown] == ["IoU .5", "IoU .75", "IoU .5:.95", "_b"]


def test_a_picture_of_many_classes_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "NAMED", 20)
    plot_confusion(np.eye(101, dtype=np.int64), ("a",) * 100, tmp_path / "confusion.png")
    assert max(read_picture(tmp_path / "confusion.png").shape) < 1000


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"plots need matplotlib: pip install 'yolact\[eval\]'"):
        plot_confusion(np.eye(3, dtype=np.int64), ("a", "b"), tmp_path / "confusion.png")
    assert not list(tmp_path.iterdir())
