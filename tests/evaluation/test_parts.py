"""Results written as they come: by one process or two, in one go or broken off, the file is the same.

The model scores its masks: what is written has every score that there is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from networks import create

from yolact.cli import main
from yolact.data.records import Picture
from yolact.models.checkpoint import save_checkpoint
from yolact.pictures import write_picture
from yolact.predictor import Model

PICTURES = 16  # enough work to be killed in the middle of
IDS = [7 * n % PICTURES + 1 for n in range(PICTURES)]  # in no order
EVAL = ["eval", "--weights", "weights.pth", "--annotations", "truth.json", "--images", ".", "--json", "results.json"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The network rounds the same in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, pictures and their truth."""
    folder = tmp_path_factory.mktemp("evaluation")
    for seed, name in enumerate(("weights", "other")):
        save_checkpoint(folder / f"{name}.pth", create(size=256, seed=seed, mask_rescoring=True))
    for id in IDS:
        write_picture(folder / f"{id}.png", np.random.default_rng(id).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    images = [{"id": id, "file_name": f"{id}.png", "height": 20, "width": 30} for id in IDS]
    square = {"bbox": [2, 2, 10, 10], "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]], "area": 100, "iscrowd": 0}
    truth = {
        "images": images,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, **square}],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="module")
def whole(prepared: Path) -> bytes:
    """The results file of one process in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared)
        assert main(EVAL) == 0
    results = prepared / "results.json"
    content = results.read_bytes()
    results.unlink()
    assert not list(prepared.glob("results.json*")), "the parts are gone"
    return content


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def broken_off(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The same folder after a run that stopped at a damaged picture, which then was repaired: its part."""
    picture = Path(f"{IDS[10]}.png")
    content = picture.read_bytes()
    picture.write_bytes(content[:50])
    assert fault(capsys).startswith(f"{picture}: ")
    picture.write_bytes(content)
    assert not Path("results.json").exists()
    return Path("results.json.part0")


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*EVAL, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("yolact: ")


def test_results_are_in_the_data_sets_order(whole: bytes) -> None:
    results = json.loads(whole)
    assert list(dict.fromkeys(result["image_id"] for result in results)) == IDS
    assert len({result["mask_score"] / result["box_score"] for result in results}) > len(results) / 2


def test_a_broken_off_run_goes_on(broken_off: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_off.read_bytes().count(b"\n") == 1 + 10
    read: list[int] = []
    original = Picture.read
    monkeypatch.setattr(Picture, "read", lambda self: read.append(self.id) or original(self))  # type: ignore[func-returns-value]
    assert main([*EVAL, "--resume"]) == 0
    assert Path("results.json").read_bytes() == whole
    assert sorted(read) == sorted(IDS[10:]), "only what was left"
    assert not broken_off.exists()


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_torn_line_is_done_again(broken_off: Path, whole: bytes, kept: float) -> None:
    lines = broken_off.read_bytes().splitlines(keepends=True)
    broken_off.write_bytes(b"".join(lines[:-1]) + lines[-1][: int(kept * len(lines[-1]))])
    assert main([*EVAL, "--resume"]) == 0
    assert Path("results.json").read_bytes() == whole


def test_pictures_with_nothing_found(broken_off: Path, whole: bytes) -> None:
    lines = broken_off.read_bytes().splitlines(keepends=True)
    lines[1:3] = [b'{"image_id": %d, "results": []}\n' % id for id in IDS[:2]]
    broken_off.write_bytes(b"".join(lines))
    assert main([*EVAL, "--resume"]) == 0
    rest = [result for result in json.loads(whole) if result["image_id"] not in IDS[:2]]
    assert json.loads(Path("results.json").read_bytes()) == rest


def test_a_torn_first_line(folder: Path, whole: bytes) -> None:
    Path("results.json.part0").write_bytes(b'{"weights": "')
    assert main([*EVAL, "--resume"]) == 0
    assert Path("results.json").read_bytes() == whole


def test_resume_with_nothing_to_go_on_with(folder: Path, whole: bytes) -> None:
    assert main([*EVAL, "--resume"]) == 0
    assert Path("results.json").read_bytes() == whole


def test_what_does_not_go_on_is_told(broken_off: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = broken_off.read_bytes()
    assert "go on with --resume, or remove it" in fault(capsys)
    assert "results.json.part0: was begun with other weights" in fault(capsys, "--resume", "--weights", "other.pth")
    truth = json.loads(Path("truth.json").read_text())
    truth["images"][-1]["file_name"] = truth["images"].pop(1)["file_name"]
    Path("other.json").write_text(json.dumps(truth))
    assert "results.json.part0: was begun with other weights or pictures" in fault(
        capsys, "--resume", "--annotations", "other.json"
    )
    assert broken_off.read_bytes() == part
    first, second, *rest = part.splitlines(keepends=True)
    broken_off.write_bytes(b"".join([first, second[:-20] + b"\n", *rest]))
    assert f"results.json.part0: does not read from byte {len(first)} on" in fault(capsys, "--resume")


def test_what_cannot_be_written_is_told_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Model, "predict")
    Path("taken").mkdir()
    assert "taken: is not a file" in fault(capsys, "--json", "taken")
    assert "truth.json: the folder cannot be made" in fault(capsys, "--json", "truth.json/results.json")
    assert "truth.json: the folder cannot be made" in fault(capsys, "--plots", "truth.json")
    Path("link.json").symlink_to("truth.json")
    assert "link.json: holds the annotations" in fault(capsys, "--json", "link.json")
    assert "evaluator 'coco' is unknown" in fault(capsys, "--evaluator", "coco")
    assert "has no class 'c'" in fault(capsys, "--classes", "c")


def start(rank: int, port: int, *arguments: str) -> subprocess.Popen[str]:
    """One of two processes, as torchrun would start it."""
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return subprocess.Popen(
        [sys.executable, "-m", "yolact.cli", *EVAL, "--device", "cpu", *arguments],
        env={**os.environ, **{key: str(value) for key, value in environment.items()}, "PYTHONPATH": str(ROOT)}
        | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def start_two(*arguments: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(rank, port, *arguments) for rank in range(2)]


def test_two_processes_that_are_killed(folder: Path, whole: bytes) -> None:
    parts = [folder / f"results.json.part{rank}" for rank in range(2)]
    processes = start_two()
    deadline = time.monotonic() + 120
    while not all(part.exists() and part.read_bytes().count(b"\n") >= 2 for part in parts):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.005)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        assert process.wait() == -signal.SIGKILL
    assert not Path("results.json").exists()
    lines = [line for part in parts for line in part.read_bytes().split(b"\n")[1:-1]]
    assert len({json.loads(line)["image_id"] for line in lines}) == len(lines) < PICTURES, "each has its own"

    shutil.copytree(folder, "alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("alone")
        assert main([*EVAL, "--resume"]) == 0
        assert Path("results.json").read_bytes() == whole
        assert not list(Path().glob("*.part*"))

    processes = start_two("--resume")
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert Path("results.json").read_bytes() == whole
    assert outputs[0].splitlines()[1].startswith("bbox")
    assert outputs[1] == "", "one of them talks"
    assert not list(Path().glob("*.part*"))
