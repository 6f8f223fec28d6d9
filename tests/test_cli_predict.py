"""`yolact predict`: what it writes, and one line and status 2 for everything that a caller can get wrong."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import everything, fault
from films import Camera, opens_as, read_film
from networks import create

import yolact
from yolact import mask
from yolact.cli import main
from yolact.models.checkpoint import save_checkpoint
from yolact.pictures import read_picture


def test_predict_writes_pictures_to_output_by_default(
    folder: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "pictures", "--weights", weights]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"300 instances in 3 pictures, \d+\.\d a second: output/\n", out)
    assert err == ""
    assert sorted(os.listdir("output")) == ["000000005001.jpg", "10.jpg", "2.png"]
    assert read_picture("output/2.png").shape == (40, 60, 3)
    assert (read_picture("output/2.png") != read_picture("pictures/2.png")).any()


def test_predict_writes_coco_results(folder: Path, weights: str) -> None:
    before = set(everything(folder))
    command = ["predict", "pictures/*.png", "pictures", "--weights", weights, "--json", "results.json"]
    assert main([*command, "--max-detections", "7"]) == 0
    assert set(everything(folder)) - before == {str(folder / "results.json")}, "no pictures unless asked for"
    results = json.loads(Path("results.json").read_text())
    assert [(result["image_id"], result["file_name"]) for result in results[::7]] == [
        (1, "2.png"),
        (2, "10.jpg"),
        (5001, "000000005001.jpg"),
    ]
    (first,) = yolact.load(weights).predict("pictures/2.png", max_detections=7)
    extra = [{"category_name": name, "file_name": "2.png"} for name in first.names]
    assert [{**result, **more} for result, more in zip(first.to_coco(1), extra, strict=True)] == results[:7]
    assert mask.decode(results[0]["segmentation"]).shape == (40, 60)


def test_predict_writes_lines_to_standard_output(
    folder: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(folder)
    assert main(["predict", "pictures", "--weights", weights, "--max-detections", "2", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    names = [json.loads(line)["file_name"] for line in out.splitlines()]
    assert names == ["2.png", "2.png", "10.jpg", "10.jpg", "000000005001.jpg", "000000005001.jpg"]
    assert re.fullmatch(r"6 instances in 3 pictures, \d+\.\d a second: -\n", err)
    assert everything(folder) == before


def test_predict_in_batches_and_above_a_threshold(folder: Path, weights: str) -> None:
    main(["predict", "pictures", "--weights", weights, "--json", "one.json"])
    main(["predict", "pictures", "--weights", weights, "--json", "two.json", "--batch-size", "2"])
    one, two = (json.loads(Path(name).read_text()) for name in ("one.json", "two.json"))
    np.testing.assert_allclose([r["score"] for r in one], [r["score"] for r in two], atol=1e-4)
    assert main(["predict", "pictures", "--weights", weights, "--json", "none.json", "--score-threshold", "1"]) == 0
    assert json.loads(Path("none.json").read_text()) == []


def test_predict_by_either_score(folder: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint("plus.pth", create(size=256, mask_rescoring=True))
    command = ["predict", "pictures/2.png", "--weights", "plus.pth", "--max-detections", "9", "--json"]
    rows = {}
    for name, options in {"default": (), "mask": ("--score", "mask"), "box": ("--score", "box")}.items():
        assert main([*command, f"{name}.json", "--report", f"{name}.html", *options]) == 0
        rows[name] = json.loads(Path(f"{name}.json").read_text())
    assert rows["default"] == rows["mask"]
    assert [row["score"] for row in rows["mask"]] == sorted((row["mask_score"] for row in rows["box"]), reverse=True)
    assert [row["score"] for row in rows["box"]] == [row["box_score"] for row in rows["box"]]
    assert sorted(rows["mask"], key=lambda row: -row["box_score"]) != rows["mask"]
    capsys.readouterr()
    for other in ("predict", "look", "stability"):
        told = fault(capsys, other, "pictures/2.png", "--weights", weights, "--score", "mask")
        assert told == "--score must be 'box': yolact_lite0 does not score masks, got 'mask'"
    assert not {"output", "look.png"} & set(os.listdir())


def test_predict_numbers_what_shares_a_name(folder: Path, weights: str) -> None:
    shutil.copytree("pictures", "more")
    assert main(["predict", "pictures/2.png", "more/2.png", "--weights", weights, "--output", "deep/er"]) == 0
    assert sorted(os.listdir("deep/er")) == ["2-2.png", "2.png"]


def test_predict_reports_the_bad_picture_and_does_the_rest(
    folder: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = Path("pictures/10.jpg")
    picture.write_bytes(picture.read_bytes()[:-200])
    command = ["predict", "pictures", "missing\n.jpg", "--weights", weights, "--output", "out", "--json", "all.json"]
    assert main([*command, "--batch-size", "2"]) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(r"200 instances in 2 pictures, \d+\.\d a second: out/, all\.json\n", out)
    first, second = err.splitlines()
    assert first.startswith("yolact: pictures/10.jpg: damaged picture (image file is truncated")
    assert second == "yolact: missing .jpg: No such file or directory"
    assert sorted(os.listdir("out")) == ["000000005001.jpg", "2.png"]
    assert {result["file_name"] for result in json.loads(Path("all.json").read_text())} == {"2.png", "000000005001.jpg"}


def test_predict_rejects_bad_pictures(folder: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.jpg").write_text("this is no picture\n")
    Path("empty.jpg").touch()
    Path("text.mp4").write_text("this is no video\n")
    Path("empty.mp4").touch()
    Path("none").mkdir()
    whole = Path("pictures/2.png").read_bytes()
    Path("half.png").write_bytes(whole[: len(whole) // 2])
    before = everything(folder)
    for source, message in {
        "missing.jpg": "missing.jpg: No such file or directory",
        "text.jpg": "text.jpg: not a picture, or a damaged one",
        "empty.jpg": "empty.jpg: the file is empty",
        "half.png": "half.png: damaged picture",
        "none": "none: the folder holds no pictures or videos",
        "none/*.jpg": "none/*.jpg: no picture or video matches this pattern",
        "film.mp4": "film.mp4: No such file or directory",
        "text.mp4": "text.mp4: not a video, or a damaged one",
        "empty.mp4": "empty.mp4: the file is empty",
        "99": "99: no file of this name, and webcam 99 cannot be opened",
    }.items():
        command = ["predict", source, "--weights", weights, "--json", "new/r.json", "--output", "newer"]
        assert fault(capsys, *command).startswith(message)
        assert everything(folder) == before


class Bomb:
    """Unpickled, it would leave a trace."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_predict_rejects_bad_weights(folder: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = Path(weights).read_bytes()
    Path("truncated.pth").write_bytes(whole[: len(whole) // 2])
    Path("text.pth").write_text("no weights\n")
    Path("bomb.pth").write_bytes(pickle.dumps(Bomb()))
    torch.save({"model": Bomb()}, "bomb_in_zip.pth")
    torch.save({"layer.weight": torch.zeros(3, 3)}, "other.pth")
    torch.save([1, 2, 3], "list.pth")
    before = everything(folder)
    for name in ("truncated.pth", "text.pth", "bomb.pth", "bomb_in_zip.pth", "other.pth", "list.pth", "missing.pth"):
        assert fault(capsys, "predict", "pictures", "--weights", name).startswith(f"{name}: ")
        assert everything(folder) == before
    message = fault(capsys, "predict", "pictures", "--weights", weights, "--config", "yolact_base")
    assert message.startswith(f"{weights}: ")
    assert "pictures" in os.listdir()


def test_predict_rejects_unknown_names(folder: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(folder)
    command = ["predict", "pictures", "--weights", weights]
    assert "'yolact_r18'" in fault(capsys, *command, "--config", "yolact_r18")
    assert "device 'cuda:99' cannot be used: " in fault(capsys, *command, "--device", "cuda:99")
    assert "'gpu' is unknown" in fault(capsys, *command, "--device", "gpu")
    assert "--score-threshold" in fault(capsys, *command, "--score-threshold", "1.5")
    assert "'--score-threshold': nan" in fault(capsys, *command, "--score-threshold", "nan")
    assert "--batch-size" in fault(capsys, *command, "--batch-size", "0")
    message = fault(capsys, *command, "--max-detections", "10000000000")
    assert "--max-detections" in message
    assert "10000000000" in message
    assert "SOURCE" in fault(capsys, "predict")
    assert "'nonsense'" in fault(capsys, "nonsense")
    assert everything(folder) == before


def test_predict_rejects_folders_that_cannot_be_written(
    folder: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    before = everything(folder)
    targets = {
        "--output": ("file", "file/deeper", "/proc/nowhere"),
        "--json": ("file/r.json", "pictures", "/proc/r.json"),
    }
    for option, names in targets.items():
        for name in names:
            message = fault(capsys, "predict", "pictures", "--weights", weights, option, name)
            assert message.startswith(name.removesuffix("/r.json"))
            assert everything(folder) == before


def test_predict_never_overwrites_its_input(folder: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(folder)
    for options in (
        ["--output", "pictures/../pictures"],
        ["--json", "pictures/2.png"],
        ["--output", "out", "--json", "out/2.png"],
    ):
        assert "would be overwritten" in fault(capsys, "predict", "pictures", "--weights", weights, *options)
        assert everything(folder) == before


def test_interrupt_is_quiet(
    folder: Path, weights: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("yolact.predictor.Model.detect", interrupted)  # as by a second Ctrl-C
    assert main(["predict", "pictures", "--weights", weights, "--json", "r.json"]) == 130
    assert capsys.readouterr().err.strip() == ""
    assert not Path("r.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("source", ["film.mp4", "0"])
def test_a_signal_ends_the_input(
    folder: Path,
    weights: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    number: signal.Signals,
) -> None:
    Path("film.mp4").write_text("a film")
    at_third = {3: lambda: os.kill(os.getpid(), number)}
    opens_as(monkeypatch, Camera(frames=200, rate=50, events=at_third), source)
    command = ["predict", source, "--weights", weights, "--max-detections", "1", "--json", "r.json", "--output", "out"]
    assert main(command) == (0 if source == "0" else 128 + number), "a webcam has no other end"
    out, err = capsys.readouterr()
    done = int(out.split()[0])
    assert 0 < done < 200
    assert out.startswith(f"{done} instances in {done} frames, ")
    assert err == ("" if source == "0" else "yolact: interrupted; what is written holds what was done until then\n")
    assert len(json.loads(Path("r.json").read_text())) == done
    (written,) = Path("out").iterdir()
    assert len(read_film(written)) >= done, "it plays, and shows a webcam's frames as long as they lasted"
