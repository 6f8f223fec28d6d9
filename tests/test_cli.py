"""The command line: what it writes, and one line and status 2 for everything that a caller can get wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import everything, fault
from conftest import ROOT, skip_or_fail

import yolact
from yolact import mask
from yolact.cli import main
from yolact.cli._options import BUNDLED_MODEL
from yolact.loading import BUNDLED
from yolact.pictures import read_picture


def test_demo_writes_and_tells_the_times(
    folder: Path, weights: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolact.cli._options.BUNDLED_MODEL", weights)
    assert main(["demo", "pictures/2.png", "--output", "shown"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for step in ("read", "preprocess", "network", "detect", "masks to RLE", "draw", "write", "all"):
        assert f"\n{step}" in out
    assert out.endswith("shown/2.png\nshown/2.json\n")
    assert read_picture("shown/2.png").shape == (40, 60, 3)
    assert len(json.loads(Path("shown/2.json").read_text())) == 100


def test_demo_finds_the_cat(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("skimage") is None:
        skip_or_fail("demo", "scikit-image is not installed")
    if not (BUNDLED / f"{BUNDLED_MODEL}.pth").exists():
        skip_or_fail("weights", "the bundled model is not here")
    assert main(["demo"]) == 0
    assert capsys.readouterr().out.startswith("Instances(")
    assert sorted(os.listdir("output")) == ["chelsea.json", "chelsea.png"]
    config = yolact.load(BUNDLED_MODEL).config
    best = json.loads(Path("output/chelsea.json").read_text())[0]
    assert config.class_names[config.category_ids.index(best["category_id"])] == "cat"
    assert mask.area(best["segmentation"]) > 0.3 * 300 * 451, "the cat fills most of the photo"


def test_demo_rejects_a_bad_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fault(capsys, "demo", "missing.jpg") == "missing.jpg: No such file or directory"
    assert "would be overwritten" in fault(capsys, "demo", "pictures/2.png", "--output", "pictures")
    assert not Path("output").exists()


def test_demo_without_scikit_image(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert "yolact[demo]" in fault(capsys, "demo")


@pytest.fixture
def data_set(folder: Path) -> list[str]:
    """--annotations and --images of a data set: two of the pictures, a square of each of two classes."""
    box, polygon = [5.0, 5.0, 25.0, 25.0], [5.0, 5.0, 30.0, 5.0, 30.0, 30.0, 5.0, 30.0]
    sizes = {"2.png": 40, "10.jpg": 41}
    truth = {
        "images": [{"id": i, "file_name": n, "height": h, "width": 60} for i, (n, h) in enumerate(sizes.items(), 1)],
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": i,
                "bbox": box,
                "segmentation": [polygon],
                "area": 625,
                "iscrowd": 0,
            }
            for i in (1, 2)
        ],
    }
    Path("truth.json").write_text(json.dumps(truth))
    return ["--annotations", "truth.json", "--images", "pictures"]


def test_eval_scores_a_results_file(data_set: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        {"image_id": i, "category_id": i, "bbox": [5, 5, 25, 25 if i == 1 else 15], "score": 0.9} for i in (1, 2)
    ]
    Path("results.json").write_text(json.dumps(results))
    assert main(["eval", "--results", "results.json", "--annotations", "truth.json"]) == 0
    header, row = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header[:3] == ["AP", "AP50", "AP75"]
    # The first is exact; the second has an IoU of 0.6 and counts at three of the ten thresholds.
    assert row[:4] == ["bbox", "0.650", "1.000", "0.500"]


def test_eval_scores_weights(data_set: list[str], weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--weights", weights, *data_set, "--json", "results.json"]) == 0
    from_weights = capsys.readouterr().out
    assert [line.split()[0] for line in from_weights.splitlines()] == ["AP", "bbox", "segm"]
    assert main(["eval", "--results", "results.json", "--annotations", "truth.json"]) == 0
    assert capsys.readouterr().out == from_weights


def test_eval_makes_the_folder_before_the_work(
    data_set: list[str], weights: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["eval", "--weights", weights, *data_set, "--json"]
    assert main([*command, "deep/er/results.json"]) == 0
    assert json.loads(Path("deep/er/results.json").read_text())
    capsys.readouterr()
    monkeypatch.delattr("yolact.evaluation.parts.detect_pictures")
    assert "the folder cannot be made" in fault(capsys, *command, "truth.json/results.json")


def test_eval_rejects_bad_input(data_set: list[str], weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.json").write_text("no results\n")
    before = everything(Path.cwd())
    assert fault(capsys, "eval", "--annotations", "truth.json").startswith("eval takes either")
    assert fault(capsys, "eval", "--results", "text.json", *data_set).startswith("eval takes either")
    assert fault(capsys, "eval", "--results", "text.json", *data_set[:2]).startswith("text.json: ")
    assert fault(capsys, "eval", "--results", "none.json", *data_set[:2]).startswith("none.json: ")
    command = ["eval", "--weights", weights, "--images", "pictures", "--json", "r.json"]
    assert fault(capsys, *command, "--annotations", "none.json").startswith("none.json: ")
    Path("pictures/2.png").unlink()
    before.pop(str(Path.cwd() / "pictures/2.png"))
    assert fault(capsys, *command, *data_set[:2]) == "truth.json: picture 1: there is no file pictures/2.png"
    assert everything(Path.cwd()) == before


def test_train_trains_and_scores(data_set: list[str], weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "yolact_lite0", "--train-annotations", "truth.json", "--train-images", "pictures"]
    command += ["--output", "run", "--weights", weights, "--batch-size", "1", "--iterations", "1"]
    assert main([*command, "--val-annotations", "truth.json", "--val-images", "pictures"]) == 0
    assert capsys.readouterr().out.endswith("run/weights.pth\n")
    assert yolact.load("run/weights.pth").config.class_names == ("one", "two")
    assert "resume" in fault(capsys, *command)


def test_train_rejects_bad_input(data_set: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(Path.cwd())
    command = ["--train-annotations", "truth.json", "--train-images", "pictures", "--output", "run"]
    assert "'yolact_r18'" in fault(capsys, "train", "yolact_r18", *command)
    assert "'huge'" in fault(capsys, "train", "yolact_lite0", *command, "--recipe", "huge")
    assert "go together" in fault(capsys, "train", "yolact_lite0", *command, "--val-images", "pictures")
    assert "'cuda:99'" in fault(capsys, "train", "yolact_lite0", *command, "--device", "cuda:99")
    val = ["--val-annotations", "nope.json", "--val-images", "pictures"]
    assert "nope.json" in fault(capsys, "train", "yolact_lite0", *command, *val)
    assert everything(Path.cwd()) == before


@pytest.mark.parametrize("arguments", [[], ["--help"], ["predict", "--help"], ["--version"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "yolact" in capsys.readouterr().out.lower()


def test_as_a_program(folder: Path) -> None:
    command = [sys.executable, "-m", "yolact.cli", "predict", "missing", "--weights", "missing.pth"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "yolact: missing.pth: no such file\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--version"], "cannot write the output (No space left on device)"),
        (["doctor"], "cannot write the output (No space left on device)"),
        (["predict", "pictures", "--json", "-"], "standard output: cannot be written (No space left on device)"),
    ],
)
def test_output_that_cannot_be_written(folder: Path, weights: str, command: list[str], message: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "yolact.cli", *command, *(["--weights", weights] if "predict" in command else [])],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 2
    assert done.stderr == f"yolact: {message}\n"
