"""`yolact export`: files that compute what the model does, elsewhere; and what cannot be written."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import networks
import numpy as np
import pytest
import torch

import yolact
from yolact import mask
from yolact.cli import main
from yolact.cli._options import BUNDLED_MODEL
from yolact.config import get_config
from yolact.export import export_onnx, export_program, program
from yolact.export.check import compare_detections, made_up_pictures
from yolact.export.description import detect_options, metadata
from yolact.export.modules import Pictures, RawNetwork
from yolact.predictor import Model


def fault(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail by the rules, and return its one line."""
    assert main(["export", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("yolact: ")
    return err.removeprefix("yolact: ").strip()


@pytest.fixture(scope="module")
def model() -> Model:
    return yolact.load(BUNDLED_MODEL)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A picture in which the bundled model finds a cat."""
    data = pytest.importorskip("skimage.data")
    return data.chelsea()


@pytest.mark.usefixtures("traced_once")
def test_onnx_file_finds_what_predict_finds(
    model: Model, photo: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    file = tmp_path / "models" / "cat.onnx"
    assert main(["export", str(file), "--score-threshold", "0.15"]) == 0
    told = capsys.readouterr().out
    assert re.search(
        r"cat.onnx: 15\.\d MB, checked by ONNX Runtime [\d.]+, \d+ detections; largest differences: ", told
    )
    assert os.listdir(file.parent) == ["cat.onnx"]

    session = onnxruntime.InferenceSession(file)
    about = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert about["class_names"] == list(model.config.class_names)
    assert about["config"] == "yolact_lite0"
    assert about["input_size"] == 320
    assert about["detect"]["score_threshold"] == 0.15
    assert about["yolact_version"] == yolact.__version__
    images = model.preprocess([photo, photo[:, ::-1].copy(), photo[:200]])  # a batch the exporter has not seen
    outputs = [output.name for output in session.get_outputs()]
    assert outputs == ["boxes", "label", "score", "prior", "coefficients", "count", "prototypes"]
    found = dict(zip(outputs, session.run(None, {"images": images.numpy()}), strict=True))
    expected = model.predict([photo, photo[:, ::-1].copy(), photo[:200]], precision="fp32", score_threshold=0.15)
    assert found["count"].tolist() == [len(instances) for instances in expected]
    assert found["count"].sum() > 0
    for b, instances in enumerate(expected):
        count = found["count"][b]
        assert found["label"][b, :count].tolist() == instances.labels.tolist()
        np.testing.assert_allclose(found["score"][b, :count], instances.scores, atol=1e-4)
        np.testing.assert_allclose(found["coefficients"][b, :count], instances.coefficients, atol=1e-3)
        np.testing.assert_allclose(found["prototypes"][b], instances.prototypes, atol=1e-3)
        np.testing.assert_allclose(found["boxes"][b, :count], instances.relative_boxes, atol=1e-4)


def test_program_finds_what_predict_finds(model: Model, photo: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "cat.pt2"
    checked = export_program(model, file, score_threshold=0.15, second_threshold=True)
    assert checked is not None
    assert checked.differences == {"score": 0.0, "boxes": 0.0}
    extra = {"class_names": ""}
    loaded = torch.export.load(file, extra_files=extra).module()
    assert json.loads(extra["class_names"]) == list(model.config.class_names)
    pictures = np.stack([photo, photo[:, ::-1], photo[::-1]])
    with torch.no_grad():
        found = loaded(torch.from_numpy(pictures))
        options = replace(model.config.detect, score_threshold=0.15, second_threshold=True)
        masks = Pictures(model, options, "dense", None)(torch.from_numpy(pictures))["masks"]
    expected = model.predict(list(pictures), precision="fp32", score_threshold=0.15)
    assert found["count"].tolist() == [len(instances) for instances in expected]
    assert found["count"].sum() > 0
    for b, instances in enumerate(expected):
        count = int(found["count"][b])
        torch.testing.assert_close(found["boxes"][b, :count], instances.boxes, rtol=0, atol=0.01)
        for d in range(count):
            row = b * found["label"].shape[1] + d
            counts = bytes(found["run_lengths"][row, : int(found["length"][row])].tolist())
            assert (mask.decode({"size": list(photo.shape[:2]), "counts": counts}) == masks[b, d].numpy()).all()
            assert (masks[b, d] != instances.masks[d]).float().mean() < 1e-3  # oneDNN adds up in another order


def test_a_program_scores_masks_as_predict_does() -> None:
    model = networks.create(size=256, mask_rescoring=True)
    pictures = np.stack([networks.picture(seed) for seed in (0, 1)])
    with torch.no_grad():
        found = Pictures(model, model.config.detect, "none", None)(torch.from_numpy(pictures))
    for b, expected in enumerate(model.predict(list(pictures), precision="fp32", score="box", score_threshold=0)):
        assert expected.mask_scores is not None
        assert 0 < len(expected) == found["count"][b]
        # oneDNN adds up in another order, which the coefficients of a mask make more of.
        torch.testing.assert_close(found["mask_score"][b, : len(expected)], expected.mask_scores, rtol=0, atol=1e-4)
        assert not torch.equal(expected.mask_scores, expected.box_scores)


def test_a_model_with_hooks_is_exported_as_it_is() -> None:
    model = yolact.create("yolact_lite0", num_classes=2).train()
    model.prediction_layers[0].conf_layer.register_forward_hook(lambda module, given, result: result * 0)
    images = torch.rand(1, 3, 320, 320)
    with torch.no_grad():
        deltas, logits, *_ = RawNetwork(model)(images)
        assert model.training
        expected = model.eval()(images)
    assert not logits.any()
    torch.testing.assert_close(deltas, expected.box_deltas)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x.bin"], "x.bin: ends in neither .onnx nor .pt2; --format tells what it is to be"),
        (["folder"], "folder: ends in neither"),
        (["folder", "--format", "onnx"], "folder: is a folder"),
        (["file/x.onnx"], "file: the folder cannot be made (File exists)"),
        (["x.onnx", "--weights", "none.pth"], "none.pth: no such file"),
        (["x.onnx", "--weights", "nothing"], "nothing: no such file, nor a bundled model"),
        (["x.onnx", "--weights", "file"], "file: "),
        (["x.onnx", "--config", "yolact_base"], "yolact_lite0_dogcat"),
        (["x.onnx", "--format", "tflite"], "'tflite' is not one of 'onnx', 'onnx-network', 'program', 'package'"),
        (["x.onnx", "--masks", "dense"], "--masks: the format onnx has no use for it"),
        (["x.onnx", "--capacity", "10"], "--capacity: the format onnx has no use for it"),
        (
            ["x.onnx", "--format", "onnx-network", "--top-k", "3", "--score-threshold", "0.5"],
            "--score-threshold, --top-k: the format onnx-network has no use for it",
        ),
        (["x.pt2", "--masks", "none", "--capacity", "10"], "--capacity is of run lengths, and --masks is none"),
        (["x.pt2", "--score-threshold", "nan"], "--score-threshold must be within [0, 1], got nan"),
        (["x.pt2", "--iou-threshold", "2"], "2.0 is not in the range 0<=x<=1"),
        (["x.pt2", "--top-k", "0"], "0 is not in the range x>=1"),
        (["x.pt2", "--max-detections", "100000"], "100000 is not in the range 1<=x<=10000"),
        (["x.pt2", "--device", "cuda:99"], "cuda:99"),
        ([], "Missing argument 'OUTPUT'"),
    ],
    ids=str,
)
def test_what_cannot_be_exported_is_told_in_a_line(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("no weights")
    assert expected in fault(capsys, *arguments)
    assert sorted(os.listdir()) == ["file", "folder"]
    assert not os.listdir("folder")


def test_missing_packages_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    missing = {"onnx", "onnxscript", "onnxruntime"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in missing else find(name, *rest))
    told = fault(capsys, tmp_path / "x.onnx")
    assert told == "not installed: onnx, onnxscript (pip install 'yolact[export]')"
    missing -= {"onnx", "onnxscript"}
    told = fault(capsys, tmp_path / "x.onnx", "--check")
    assert told == "not installed: onnxruntime (pip install 'yolact[export]')"
    assert not any(tmp_path.iterdir())


def test_a_missing_compiler_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch._inductor.config as config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}):  # pytest's own patch would take the entry away at its end
        told = fault(capsys, tmp_path / "x.pt2", "--format", "package")
    assert told.startswith("no C++ compiler is here, which AOTInductor needs")
    assert not any(tmp_path.iterdir())


def test_a_file_that_differs_is_not_written(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Another(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
            rows = pictures.new_zeros((len(pictures), 100), dtype=torch.int64)
            score = rows.float() + 0.25
            return {"boxes": score[..., None].expand(-1, -1, 4), "label": rows, "score": score, "count": rows.sum(1)}

    pictures = made_up_pictures(3, 90, 120)
    monkeypatch.setattr(program, "_program", lambda *_: torch.export.export(Another(), (pictures,)))
    told = fault(capsys, tmp_path / "x.pt2")
    assert told == "what was exported differs from the model: score by 0.25"
    assert not any(tmp_path.iterdir())


def test_options_may_be_numbers_of_numpy() -> None:
    config = get_config("yolact_lite0")
    changes = {"score_threshold": np.float64(0.3), "top_k": np.int64(7), "variances": np.array([0.5, 0.25])}
    options = detect_options(config, changes)
    assert options == replace(config.detect, score_threshold=0.3, top_k=7, variances=(0.5, 0.25))
    assert json.loads(metadata(config, options)["detect"])["variances"] == [0.5, 0.25]


def test_options_of_python_are_checked(model: Model, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="nonsense"):
        export_program(model, tmp_path / "x.pt2", nonsense=1)
    with pytest.raises(ValueError, match="masks must be one of 'run-lengths', 'dense', 'none', got 'polygons'"):
        export_program(model, tmp_path / "x.pt2", masks="polygons")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="top_k must be"):
        export_program(model, tmp_path / "x.pt2", top_k=0)
    pytest.importorskip("onnxscript")
    with pytest.raises(ValueError, match="iou_threshold must"):
        export_onnx(model, tmp_path / "x.onnx", iou_threshold=float("nan"))
    with pytest.raises(ValueError, match="nothing that takes top_k"):
        export_onnx(model, tmp_path / "x.onnx", detections=False, top_k=5)
    assert not any(tmp_path.iterdir())


def test_close_scores_may_change_places() -> None:
    boxes = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 2, 2]]])
    expected = {
        "boxes": boxes,
        "label": torch.tensor([[0, 1]]),
        "score": torch.tensor([[0.5, 0.5]]),
        "count": torch.tensor([2]),
    }
    swapped = {**expected, "boxes": boxes.flip(1), "label": torch.tensor([[1, 0]])}
    assert compare_detections(expected, swapped, 1e-5) == {"score": 0.0, "boxes": 0.0}
    with pytest.raises(yolact.errors.UserError, match="boxes by inf"):
        compare_detections(expected, {**swapped, "label": torch.tensor([[1, 1]])}, 1e-5)
    with pytest.raises(yolact.errors.UserError, match=r"\[1\] detections, not \[2\]"):
        compare_detections(expected, {**expected, "count": torch.tensor([1])}, 1e-5)
