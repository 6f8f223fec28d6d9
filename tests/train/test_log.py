"""What a run tells: lines, curves, TensorBoard, validation, and a report where a loss is not finite."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tiny import STRONG, TINY, small_runs, write_squares

from yolact import mask
from yolact.data.records import Picture
from yolact.errors import UserError
from yolact.evaluation import detect_dataset, evaluate
from yolact.loading import load
from yolact.pictures import read_picture
from yolact.predictor import Model
from yolact.train.engine import train
from yolact.train.log import draw_curves
from yolact.train.state import RunState
from yolact.train.validation import Validation


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with small_runs():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    write_squares(folder)
    return folder


def run(data: Path, output: Path, **options: object) -> Path:
    options = {"recipe": STRONG, "log_every": 2, **options}
    return train(TINY, data / "truth.json", data, output, **options)  # type: ignore[arg-type]


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_best_validation_is_kept(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    validation = {"val_annotations": data / "truth.json", "val_images": data, "eval_every": 2}
    run(data, tmp_path, log=told.append, log_every=4, **validation)
    scored = {line["iteration"]: line["segm_AP"] for line in lines(tmp_path) if "segm_AP" in line}
    assert list(scored) == [2, 4, 6]
    trained = [line["iteration"] for line in lines(tmp_path) if "rate" in line]
    assert trained == [2, 4, 6], "no line of training spans a validation, whose time is none of training"
    state = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["training"]
    assert state["best"] == max(scored.values())
    results = [
        result
        for picture in detect_dataset(load(tmp_path / "best.pth"), *(data / "truth.json", data))
        for result in picture
    ]
    # Weights in half precision score a little otherwise.
    assert evaluate(results, data / "truth.json")["segm"]["AP"] == pytest.approx(state["best"], abs=0.02)
    assert sum("mask AP" in line for line in told) == 3
    figures = lines(tmp_path)[0]
    assert set(figures) >= {"rate", "seconds", "box", "classification", "mask", "semantic", "gradient_norm"}
    assert figures["images_per_second"] == pytest.approx(2 / figures["seconds"])
    assert 0 < figures["data_wait"] < 1


def test_validation_goes_by_the_scores_of_boxes_and_of_masks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A box that fits and one beside it, each with its whole box for a mask: the scores put them in two orders."""
    annotation = json.loads((data / "truth.json").read_text())["annotations"][0]
    x, y, side, _ = annotation["bbox"]
    fits = {"image_id": 0, "category_id": 5, "bbox": annotation["bbox"]}
    beside = {**fits, "bbox": [x + side, y, side, side]}
    for result, box_score, mask_score in ((fits, 0.9, 0.2), (beside, 0.8, 0.7)):
        (polygon,) = mask.frPyObjects([_corners(*result["bbox"])], 48, 64)
        rle = {**polygon, "counts": polygon["counts"].decode()}
        result.update(segmentation=rle, score=mask_score, box_score=box_score, mask_score=mask_score)
    content = json.loads((data / "truth.json").read_text())
    one = tmp_path / "one.json"
    one.write_text(json.dumps({**content, "images": content["images"][:1], "annotations": [annotation]}))

    def detect_pictures(
        model: Model, pictures: Sequence[Picture], *rest: object
    ) -> Iterator[tuple[Picture, list[dict]]]:
        yield pictures[0], [fits, beside]

    monkeypatch.setattr("yolact.evaluation.parts.detect_pictures", detect_pictures)
    model = Model(TINY.with_classes(("square", "circle"), (5, 9)))
    state = RunState({}, model, None, torch.optim.SGD(model.parameters()), torch.amp.GradScaler("cpu", enabled=False))
    scores = Validation(one, data, (), False).score(state, tmp_path, 1, lambda: True)
    assert scores is not None
    assert (scores["bbox"]["AP"], scores["segm"]["AP"]) == pytest.approx((1, 0.5))
    assert state.best == scores["segm"]["AP"]


def _corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def test_curves_show_the_log(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    terms = dict.fromkeys(("box", "classification", "mask", "semantic"), 1.0)
    log = [{"iteration": 1, "rate": 0.1, **terms}, {"iteration": 1, "bbox_AP": 0.1, "segm_AP": 0.2}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    draw_curves(tmp_path)
    first = read_picture(tmp_path / "curves.png")
    log.append({"iteration": 2, "rate": 0.1, **terms, "mask": 5.0})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    draw_curves(tmp_path)
    second = read_picture(tmp_path / "curves.png")
    assert (second != first).any()
    log.append({"iteration": 3, "rate": 0.1, **terms, "mask": 5.0, "mask_iou": 2.0})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    draw_curves(tmp_path)
    assert (read_picture(tmp_path / "curves.png") != second).any()


def test_tensorboard_gets_what_the_log_gets(data: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(data, tmp_path, stop_after=4)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    told = [(event.step, event.value) for event in events.Scalars("training/mask")]
    assert told == [(line["iteration"], pytest.approx(line["mask"])) for line in lines(tmp_path)]


def test_a_terminal_gets_a_bar_and_a_file_few_lines(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(data, tmp_path / "file", log_every=1)
    out, err = capsys.readouterr()
    assert [line.split()[1] for line in out.splitlines() if line.startswith("iteration ")] == ["1", "6"]
    assert err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(data, tmp_path / "terminal", log_every=1)
    out, err = capsys.readouterr()
    assert "6/6" in err
    assert "loss " in err
    assert not any(line.startswith("iteration ") for line in out.splitlines())
    assert len(lines(tmp_path / "terminal")) == len(lines(tmp_path / "file")) == 6


def test_a_loss_that_is_not_finite_leaves_a_report(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss is not finite") as error:
        run(data, tmp_path, learning_rate=1e30, save_every=1)
    (report,) = tmp_path.glob("not-finite-*")
    assert str(report) in str(error.value)
    iteration = int(report.name.rpartition("-")[2])
    facts = json.loads((report / "report.json").read_text())
    assert facts["iteration"] == iteration
    assert facts["rate"] == pytest.approx(1e30)
    assert any(facts[term] in ("nan", "inf", "-inf") for term in ("box", "classification", "mask", "gradient_norm"))
    assert len(facts["pictures"]) == 2
    for picture in facts["pictures"]:
        assert Path(picture["file"]).parent == data
        assert read_picture(report / picture["sample"]).shape == (64, 64, 3)
    checkpoint = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert checkpoint["training"]["iteration"] == iteration - 1, "the last of which the loss was finite"
    assert not (tmp_path / "weights.pth").exists()
