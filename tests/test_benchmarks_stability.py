"""The stability that docs/video.md tells is what was measured, and the way it is measured runs."""

from __future__ import annotations

import pytest
from conftest import ROOT, skip_or_fail

from benchmarks import readme, stability
from yolact.loading import BUNDLED, load
from yolact.pictures import write_picture

RESULTS = readme.newest("stability")
PAGE = (ROOT / "docs/video.md").read_text()


def test_the_page_tells_the_newest_results():
    assert readme.insert(PAGE, readme.stability_table(RESULTS)) == PAGE
    assert "In every scene masks are less steady than boxes filled in" in PAGE
    assert all(row["mask_mean"] < row["box_mean"] for row in RESULTS["rows"])


def test_a_scene_without_a_pair_is_told():
    row = {**RESULTS["rows"][0], "matched": 0, "mask_mean": None, "mask_p5": None, "box_mean": None, "box_p5": None}
    assert readme.stability_table({**RESULTS, "rows": [row]}).endswith("| – | – |")


def test_the_plot_is_drawn_and_small(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks import plots

    plots.stability(RESULTS, tmp_path / "stability.png")
    assert 5_000 < (tmp_path / "stability.png").stat().st_size < 100_000


def test_every_scene_is_measured_at_every_threshold(tmp_path, monkeypatch):
    if not (BUNDLED / f"{stability.WEIGHTS}.pth").exists():
        skip_or_fail("weights", "the bundled model is not here")
    try:
        cat = stability.photo_of_a_cat()
    except ValueError:
        skip_or_fail("demo", "scikit-image is not installed")
    (tmp_path / "cats").mkdir()
    for name in ("one.png", "two.png"):
        write_picture(tmp_path / "cats" / name, cat)
    monkeypatch.setattr(stability, "LEVELS", {"medium": stability.LEVELS["medium"]})
    model, found = load(stability.WEIGHTS), {}
    for scene, level, films in stability.scenes([tmp_path / "cats"], frames=3):
        low, high = stability.measure(model, films)
        assert (low["score_threshold"], high["score_threshold"]) == stability.THRESHOLDS
        assert low["detections"] >= high["detections"] > 0
        found[scene, level] = low
    one, both = found["chelsea", "medium"], found[f"{tmp_path.name}/cats, 2 photos", "medium"]
    assert (one["frames"], both["frames"]) == (3, 6)
    assert both["matched"] == 2 * one["matched"] > 0, "the same photo twice, with the same seed"
    assert both["mask_mean"] == pytest.approx(one["mask_mean"])
