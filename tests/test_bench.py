"""`yolact bench`: the contenders agree, those who do not are left out, and what is told was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from yolact import mask
from yolact.bench import contenders
from yolact.bench.end_to_end import short
from yolact.bench.measure import agreement, measure
from yolact.bench.stand_in import INSTANCES, stand_in
from yolact.cli import main
from yolact.config import get_config
from yolact.predictor import Model
from yolact.structures import RawOutputs

CPU = torch.device("cpu")


def texture(seed: int = 0) -> np.ndarray:  # [60, 80, 3] uint8
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (80, 60), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(2):
        cv2.imwrite(str(folder / f"{seed}.jpg"), texture(seed)[:, :, ::-1])
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def model(paths: list[Path]) -> Model:
    return stand_in("yolact_lite0", [cv2.imread(str(path))[:, :, ::-1].copy() for path in paths], CPU)


def test_stand_in_weights_find_as_much_as_trained_ones(model: Model, paths: list[Path]) -> None:
    found = model.predict(paths, score_threshold=contenders.SCORE_THRESHOLD)
    assert 1 <= sum(map(len, found)) / (INSTANCES * len(paths)) < 1.1
    masks = torch.cat([instances.masks.flatten(1) for instances in found])
    assert masks.any(1).float().mean() > 0.3  # not all of them empty, nor full
    again = stand_in("yolact_lite0", [texture(0), texture(1)], CPU)
    assert torch.equal(again.proto_net[0].weight, model.proto_net[0].weight)


def test_contenders_agree_and_every_stage_is_timed(model: Model, paths: list[Path]) -> None:
    pytest.importorskip("pycocotools")
    lineup = {"yolact": lambda: contenders.ours(model), "eager torch": lambda: contenders.eager_torch(model)}
    with torch.no_grad():
        (ours, eager), left_out = measure(lineup, paths, CPU, seconds=0, threads=1)
    assert left_out == []
    for row in (ours, eager):
        assert tuple(row.stages) == contenders.STAGES
        assert all(taken > 0 for taken in row.stages.values())
        assert row.rounds == 1
        assert row.agreement > 0.97
        assert row.peak_bytes is None or row.peak_bytes > 2**20
    assert ours.instances == pytest.approx(eager.instances, abs=1)


def test_contenders_agree_on_scores_of_masks(model: Model, paths: list[Path]) -> None:
    pytest.importorskip("pycocotools")
    rescoring = Model(replace(model.config, mask_rescoring=True)).eval()
    rescoring.load_state_dict(model.state_dict(), strict=False)
    lineup = {"yolact": lambda: contenders.ours(rescoring), "eager torch": lambda: contenders.eager_torch(rescoring)}
    with torch.no_grad():
        (ours, eager), left_out = measure(lineup, paths, CPU, seconds=0, threads=1)
    assert left_out == []
    assert eager.agreement > 0.97
    assert ours.instances > 1


def test_everybody_is_timed_alike(tmp_path: Path) -> None:
    calls = []

    def contender(name: str, **options: Any) -> contenders.Contender:
        return contenders.Contender(name, {"only": lambda _: calls.append(name) or "[]"}, **options)

    whole = contender("by another way", whole=lambda _: calls.append("whole") or "[]")
    lineup = {"by another way": lambda: whole, "by stages": lambda: contender("by stages")}
    measure(lineup, [tmp_path], CPU, seconds=0, threads=1)
    first, timed = calls[:2], calls[2:]
    assert first == ["whole", "by stages"]
    assert timed == ["by another way", "whole", "by stages", "by stages"]  # the stages, then the whole way


def test_torch_compile_knows_nothing_of_earlier_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network(nn.Module):
        config = get_config("yolact_lite0")
        priors = torch.zeros(1, 4)

        def forward(self, images: torch.Tensor) -> RawOutputs:
            return RawOutputs(images, images + 1, images, images, self.priors)

    batches: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        batches.append(next(each.shape[0] for each in inputs if isinstance(each, torch.Tensor)))
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    for batch in (1, 2, 3, 2):
        contenders.compiled(Network(), batch)  # type: ignore[arg-type]
    assert batches == [1, 2, 3, 2]
    assert all(type(batch) is int for batch in batches)


def test_a_peer_that_fails_or_finds_something_else_is_left_out(model: Model, paths: list[Path]) -> None:
    ours = contenders.ours(model)

    def fail() -> contenders.Contender:
        raise ImportError("no such package\nat all")

    lineup = {"yolact": lambda: ours, "a": fail, "b": lambda: replace(ours, name="b", whole=lambda paths: "[]")}
    with torch.no_grad():
        rows, left_out = measure(lineup, paths, CPU, seconds=0, threads=1)
    assert [row.contender for row in rows] == ["yolact"]
    assert left_out == ["a: ImportError: no such package", "b: its results differ: 0% of the instances agree"]
    with pytest.raises(ImportError):
        measure({"yolact": fail}, paths, CPU, seconds=0, threads=1)


def result(x: int, *, score: float = 0.5, category: int = 1) -> dict[str, Any]:
    pixels = np.zeros((40, 40), np.uint8, order="F")
    pixels[:, x : x + 20] = 1
    rle = mask.encode(pixels)
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    return {"image_id": 1, "category_id": category, "score": score, "segmentation": segmentation}


@pytest.mark.parametrize(
    ("theirs", "share"),
    [
        ([result(0), result(10)], 1.0),
        ([result(10), result(0)], 1.0),  # in another order
        ([result(0), result(10, score=0.4)], 0.5),
        ([result(0), result(10, category=2)], 0.5),
        ([result(0), result(11)], 0.5),  # another mask
        ([result(0), result(0)], 0.5),  # one partner each
        ([result(0), result(10), result(5), result(5)], 4 / 6),
        ([], 0.0),
    ],
)
def test_agreement_counts_partners(theirs: list[dict[str, Any]], share: float) -> None:
    assert agreement(json.dumps([result(0), result(10)]), json.dumps(theirs)) == pytest.approx(share)
    assert agreement(json.dumps(theirs), json.dumps([result(0), result(10)])) == pytest.approx(share)
    assert agreement("[]", "[]") == 1


def test_the_command_tells_and_writes_what_it_measured(
    paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("pycocotools", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    results = tmp_path / "bench.json"
    command = ["bench", "--config", "yolact_lite0", "--device", "cpu", "--picture", str(paths[0]), "--seconds", "0"]
    assert main([*command, "--batch-size", "2", "--threads", "1", "--threads", "2", "--json", str(results)]) == 0
    told = capsys.readouterr().out
    report = json.loads(results.read_text())
    assert report["left_out"] == []
    for scene in report["scenes"]:
        assert [row["contender"] for row in scene["rows"]] == ["yolact", "eager torch", "ONNX Runtime"]
    assert [scene["threads"] for scene in report["scenes"]] == [1, 2]
    assert "80 x 60" in report["picture"]
    assert "yolact_lite0 (random weights), batch 2, threads 1, cpu" in told
    for row in scene["rows"]:
        assert short(row["milliseconds"]["median"]) in told
    assert max(map(len, told.splitlines())) <= 100


def test_a_configuration_that_detects_otherwise_has_no_peers() -> None:
    fault = contenders.why_no_peers(Model(get_config("mmdet_yolact_r50_1xb8")))
    assert fault is not None
    assert "otherwise" in fault


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--weights", "none.pth"], "none.pth"),
        (["--weights", ""], "."),
        (["--config", ""], "unknown configuration ''"),
        (["--config", "none"], "unknown configuration 'none'"),
        (["--picture", "none.jpg"], "none.jpg"),
        (["--device", "tpu"], "tpu"),
        (["--batch-size", "0"], "--batch-size"),
        (["--batch-size", "1025"], "--batch-size"),
        (["--threads", "-1"], "--threads"),
        (["--seconds", "nan"], "--seconds"),
        (["--json", "."], "is a folder"),
        (["cat.jpg"], "cat.jpg"),
    ],
)
def test_bad_input_is_told_in_a_line(
    arguments: list[str],
    fault: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert fault in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []
