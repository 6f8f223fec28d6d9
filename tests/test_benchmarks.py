"""The benchmarks run, and what is told of a GPU is what was measured there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import ROOT

from benchmarks import (
    cuda_jobs,
    cuda_timing,
    gpu_aims,
    gpu_report,
    growth,
    inputs,
    kernels,
    mask_loss,
    readme,
    rescoring_jobs,
    scale,
    scale_jobs,
    training,
)
from yolact.bench.contenders import STAGES

SCRIPT = ROOT / "benchmarks" / "gpu.sh"


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory) -> tuple[dict, str]:
    """The results and the output of the script that is meant for a GPU, run dry."""
    folder = tmp_path_factory.mktemp("gpu")
    environment = os.environ | {"OUT": str(folder), "PYTHON": sys.executable, "OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("YOLACT_REQUIRE", None)
    ran = subprocess.run([SCRIPT, "--dry"], capture_output=True, text=True, env=environment, cwd=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (file,) = folder.glob("*-gpu.json")
    return json.loads(file.read_text()), ran.stdout


def test_the_script_for_a_gpu_runs_dry(dry_run):
    results, told = dry_run
    assert {name: part["ok"] for name, part in results["parts"].items()} == dict.fromkeys(
        ("tests-gpu", "tests-ops", "memcheck", "end_to_end", "kernels"), True
    )
    assert results["parts"]["memcheck"]["message"] == "not run: compute-sanitizer is not installed"
    assert "none: toy sizes" in results["gpu"]["name"]
    assert results["failed"] == []
    jobs = ("detect", "fast_nms", "assemble_masks", "prototypes_to_rles", "encode", "decode", "preprocess", "scores of")
    for operator in (*jobs, "deform_conv2d"):
        assert any(row["job"].startswith(operator) for row in results["milliseconds"])
        assert f"\n{operator}" in told
    for row in results["milliseconds"]:
        if row["notes"] != ["failed: ModuleNotFoundError: No module named 'torchvision'"]:
            assert row["eager"]["median"] > 0, row
            assert row["notes"] == [], row
        assert (row["share_of_copy"] is None) == (row["bytes"] is None)
    whole = results["end_to_end"]
    assert whole["left_out"] == []
    assert [row["contender"] for row in whole["rows"]] == ["yolact, fp32", "eager torch, fp32"] * 2
    assert "\nend_to_end yolact_lite0, batch 2" in told


def test_the_table_of_a_gpu_names_every_job_and_peer(dry_run):
    results = dry_run[0]
    results["gpu"] |= {"driver": "1.2", "cuda": "13.0"}
    results["failed"].append({"job": "a job", "message": "failed: it was too hard"})
    results["parts"]["memcheck"]["ok"] = False
    results["milliseconds"][1] |= {"eager": None, "notes": ["failed: ImportError: no such package"]}
    rows = [
        {"scene": scene, "contender": name, "milliseconds": {"median": taken}, "peak_bytes": 4e6}
        for scene in ("losses", "step")
        for name, taken in (("yolact", 10.0), ("plain torch", 25.0))
    ]
    results["training"] = {"options": {"batch": 8, "config": "a", "precision": "bf16"}, "rows": rows}
    results["mask_loss"] = {"options": {"batch": 8}, "rows": rows[:2]}
    table = readme.gpu_table(results)
    for row in results["milliseconds"]:
        assert row["job"] in table
    assert f"{results['milliseconds'][1]['contender']} failed" in table
    assert "Failed there: memcheck, a job." in table
    assert "| all losses, bf16, batch 8, a | 10 | 4.0 | plain torch 2.5×, 1.0× |" in table
    assert "| mask loss alone, batch 8, 100 positives a picture, losses | 10 | 4.0 | plain torch 2.5×, 1.0× |" in table
    assert re.search(r"^Of \d+ aims \d+ are met; missed: .*; not measured: .*prototypes to", table, re.MULTILINE)
    assert re.search(r"^\| yolact_lite0, batch 2, \d+ instances a picture \| yolact, fp32 ", table, re.MULTILINE)
    assert readme.NO_GPU in readme.section(readme.newest("kernels"), None)


@pytest.mark.parametrize(
    ("log", "status", "ok", "message"),
    [
        ("2 passed in 3 s\n========= ERROR SUMMARY: 0 errors\n", 0, None, "0 errors; 2 passed in 3 s"),
        ("1 failed\n========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)", 99, None, "2 hazards"),
        ("========= Error: Device not supported. Please refer to", 1, True, "does not support this machine"),
        ("env: 'compute-sanitizer': No such file or directory\n", 127, True, "not installed"),
        ("Segmentation fault", 139, None, "no verdict"),
    ],
)
def test_a_sanitizers_verdict_is_read(log, status, ok, message):
    verdict = gpu_report.verdict_of(log, status)
    assert verdict.get("ok") is ok
    assert message in verdict["message"]


def test_a_part_that_fails_or_hangs_fails_the_run(tmp_path):
    (tmp_path / "parts").write_text("install\t1\t3\nkernels\t124\t60\n")
    command = [sys.executable, "-m", "benchmarks.gpu_report", tmp_path / "results.json", tmp_path]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 1
    assert "FAILED install" in ran.stdout
    assert "60 s  ran out of time" in ran.stdout


def test_scenes_are_gathered_and_told(tmp_path):
    (tmp_path / "parts").write_text("training\t0\t60\n")
    row = {"scene": "step", "contender": "yolact", "milliseconds": {"median": 12.5}, "peak_bytes": 3_000_000}
    (tmp_path / "training.json").write_text(json.dumps({"rows": [row]}))
    command = [sys.executable, "-m", "benchmarks.gpu_report", tmp_path / "results.json", tmp_path]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert re.search(r"^training step, yolact +12\.50 ms +3\.0 MB$", told, re.MULTILINE)
    assert json.loads((tmp_path / "results.json").read_text())["training"]["rows"] == [row]


def test_runs_of_some_parts_each_become_one_file(tmp_path):
    def timed(job: str, graph: float) -> dict:
        return {"job": job, "contender": "yolact", "graph": {"median": graph}, "eager": None}

    once = {
        "gpu": {"name": "a"},
        "parts": {"install": {"ok": True}, "kernels": {"ok": False}},
        "milliseconds": [timed("detect 1 x 1", 0.02), timed("fast_nms", 1.0)],
        "failed": [{"job": "detect 8 x 1", "message": "time"}, {"job": "rescore", "message": "time"}],
    }
    again = {
        "gpu": {"name": "a"},
        "parts": {"kernels": {"ok": True}},
        "milliseconds": [timed("detect 1 x 1", 0.01), timed("detect 8 x 1", 0.019)],
        "training": {"rows": []},
    }
    for name, run in (("once", once), ("again", again)):
        (tmp_path / name).write_text(json.dumps(run))
    whole = gpu_report.merged([gpu_report.results_of(tmp_path / name) for name in ("once", "again")])
    assert whole["parts"] == {"install": {"ok": True}, "kernels": {"ok": True}}
    assert [row["job"] for row in whole["milliseconds"]] == ["fast_nms", "detect 1 x 1", "detect 8 x 1"]
    assert [failure["job"] for failure in whole["failed"]] == ["rescore"]
    assert whole["training"] == {"rows": []}
    told = [gpu_aims.told(row) for row in whole["aims"]]
    assert "met          detect, batch 1, at most 10us: 10.0us detect 1 x 1" in told
    assert "MISSED       detect, batch 8, at most 18us: 19.0us detect 8 x 1" in told
    assert "not measured 100 dense masks, at most 11us:" in told
    with pytest.raises(ValueError, match="one GPU, got a, b"):
        gpu_report.merged([once, again | {"gpu": {"name": "b"}}])


def test_every_aim_is_of_jobs_that_there_are(monkeypatch):
    def head_outputs(batch: int, crowd: str, seed: int) -> inputs.DetectInputs:
        return inputs.DetectInputs(torch.zeros(batch, 5, 4), torch.zeros(batch, 5, 3), torch.zeros(5, 4))

    monkeypatch.setattr(cuda_jobs, "head_outputs", head_outputs)
    for name in ("ellipses", "noise"):
        monkeypatch.setattr(inputs, name, lambda *shape, **options: torch.ones(1, 4, 4).bool())
    sizes = cuda_jobs.Sizes(prototypes=12, compiles=False)
    rows = [
        {"job": job.name, "contender": contender, "graph": None, "eager": {"median": 1.0}}
        for operator in ("detect", "assemble_masks", "assemble_run_lengths", "encode_run_lengths")
        for job in kernels.CUDA_JOBS[operator](torch.device("cpu"), sizes)
        for contender in job.contenders
    ]
    aims = gpu_aims.verdicts({"milliseconds": rows, "host_milliseconds": {"detect": {"median": 0.031}}})
    assert all(row["met"] is False for row in aims)
    found = Counter(row["aim"] for row in aims)
    assert found == {
        "detect, batch 1": 6,  # two types, three crowds
        "detect, batch 8": 6,
        "100 dense masks": 4,  # two types, two sizes
        "100 dense masks, large": 2,
        "dense masks to strings": 2,
        "dense masks to strings, large": 1,
        "prototypes to strings": 6,
        "detect beside the original's": 3,
        "prototypes to strings beside the original's": 3,
        "host time": 1,
    }


def test_a_contender_that_fails_is_a_result_and_stops_no_other():
    import torch

    def fail(_: torch.Tensor) -> None:
        raise ImportError("no such package")

    contenders = {"a": cuda_timing.Contender(torch.abs), "b": cuda_timing.Contender(fail)}
    sets = cuda_timing.input_sets(lambda seed: (torch.full((3,), seed),), 3, torch.device("cpu"))
    measured = cuda_timing.compare(contenders, sets, torch.device("cpu"), seconds=0)
    assert measured["a"].eager.median > 0
    assert measured["b"].eager is None
    assert measured["b"].notes == ["failed: ImportError: no such package"]


def test_training_is_measured_against_the_same_losses():
    options = Namespace(config="yolact_lite0", device="cpu", precision="fp32", batch=2)
    bench = training.Bench(options)
    contenders = bench.scenes()["losses"]
    bench.check(contenders)
    wrong = {**contenders, "plain torch": lambda: {**contenders["yolact"](), "mask": torch.tensor(0.0)}}
    with pytest.raises(AssertionError):
        bench.check(wrong)


def test_the_scores_of_masks_that_are_timed_agree(monkeypatch):
    monkeypatch.setattr(rescoring_jobs, "COUNTS", (1, 3))
    for job in rescoring_jobs.on_cpu():
        job.check()


def test_the_mask_losses_that_are_timed_agree():
    for coverage in mask_loss.SCENES.values():
        mask_loss.check(mask_loss.inputs(coverage, "cpu", batch=2, side=24))


def whole_way(contenders: tuple[str, ...], threads: int) -> dict:
    """A scene as `benchmarks.end_to_end` writes it, each contender a second slower than the one before."""
    rows = [
        {
            "contender": name,
            "milliseconds": {"median": 1e3 * slower},
            "stages": dict.fromkeys(STAGES, 1e3 * slower / 6),
            "instances": 36.0,
        }
        for slower, name in enumerate(contenders, 1)
    ]
    return {"config": "a", "weights": "random", "batch": 1, "threads": threads, "rows": rows}


def test_the_table_of_the_whole_way_tells_every_peer_measured():
    scenes = [whole_way(("yolact", "eager torch", "ONNX Runtime"), 2), whole_way(("yolact", "eager torch"), 1)]
    machine = readme.newest("kernels")["machine"]
    table = readme.end_to_end_table({"machine": machine, "picture": "a cat", "scenes": scenes})
    assert "| CPU, file to results | instances | ms a picture | pictures/s | eager torch | ONNX Runtime |" in table
    assert table.endswith("| a, batch 1 | 36 | 1000 / 1000 | 1.0 / 1.0 | 2.0× / 2.0× | – / 3.0× |")


def test_peers_on_a_gpu_are_compared_in_their_own_precision():
    taken = {"yolact, fp32": 2.0, "yolact, fp16": 1.0, "eager torch, fp32": 20.0, "eager torch, fp16": 15.0}
    stages = {"preprocess": 1.0, "network": 8.0, "detect": 0.5, "masks to RLE": 0.5}
    rows = [
        {"scene": "a", "batch": 2, "contender": name, "milliseconds": {"median": milliseconds}, "stages": stages}
        for name, milliseconds in taken.items()
    ]
    line = readme.gpu_end_to_end({"end_to_end": {"rows": rows}})[-1]
    speeds, peers = "yolact, fp32 1000, yolact, fp16 2000", "eager torch, fp32 10×; eager torch, fp16 15×"
    assert line == f"| a | {speeds} | 10%, 10% | {peers} |"


def test_plots_are_drawn_of_results_and_are_small(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks import plots

    machine = {"machine": {}, "options": {"threads": 2}}
    scenes = [whole_way(("yolact", "eager torch"), 2)]
    plots.latency({**machine, "scenes": scenes}, tmp_path / "latency.png")
    points = [
        {**scenes[0], "varied": varied, "width": 64 * side, "height": 48 * side}
        for varied in ("instances", "size")
        for side in (1, 2, 3)
    ]
    plots.growth({**machine, "scenes": points}, tmp_path / "growth.png")
    for path in tmp_path.iterdir():
        assert 5_000 < path.stat().st_size < 100_000


def test_growth_is_measured_at_every_point(monkeypatch):
    pytest.importorskip("pycocotools")
    pytest.importorskip("skimage")
    monkeypatch.setattr(growth, "COUNTS", (3, 30))
    monkeypatch.setattr(growth, "SIZES", ((64, 48), (700, 500)))
    monkeypatch.setattr(growth, "MOST_PIXELS", 640 * 480)
    scenes = list(growth.grow("yolact_lite0", 0, 1))
    assert [scene["varied"] for scene in scenes] == ["instances", "instances", "size", "size"]
    assert not any(scene["left_out"] for scene in scenes)
    few, many = (scene["rows"][0]["instances"] for scene in scenes[:2])
    assert 3 <= few <= 4
    assert 30 <= many <= 33
    assert [len(scene["rows"]) for scene in scenes] == [2, 2, 2, 1]


def test_growth_is_told() -> None:
    rows = [{"contender": "yolact", "value": n, "fastest": 10.0 * n**2} for n in (1, 10, 100)]
    assert scale.growths(rows) == {"yolact": pytest.approx(2)}


def test_scale_measures() -> None:
    runs = {"yolact": lambda: np.ones(1 << 26, np.uint8)}  # so much is the system's, and given back at once
    (row,) = scale.measure(scale_jobs.Sweep("ones", "bytes", (1 << 26,), lambda _: runs), seconds=0)
    assert row["milliseconds"] > 0
    assert 0.99 * (1 << 26) < row["bytes"] < 1.1 * (1 << 26)
