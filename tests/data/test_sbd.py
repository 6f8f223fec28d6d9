"""Pascal SBD's files in COCO's format."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import skip_or_fail

from yolact.classes import PASCAL_CLASSES
from yolact.cli import main
from yolact.data.coco import read_coco


def write(path: Path, pixels: np.ndarray, classes: list[int]) -> None:
    """As the data set's authors did: a structure of arrays, the classes a column."""
    try:
        from scipy.io import savemat
    except ImportError:
        skip_or_fail("demo", "scipy is not installed")
    values = {"Segmentation": pixels, "Categories": np.array(classes, np.uint8).reshape(-1, 1)}
    savemat(path, {"GTinst": values}, do_compression=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("img", "inst"):
        (tmp_path / name).mkdir()
    pixels = np.zeros((30, 40), np.uint8)
    pixels[2:10, 3:20] = 1
    pixels[15:25, 5:35] = 2
    pixels[18:20, 10:12] = 0  # a hole
    write(tmp_path / "inst/2008_000002.mat", pixels, [7, 20, 3])  # the last one without a pixel
    write(tmp_path / "inst/2008_000010.mat", np.zeros((20, 30)), [])
    cv2.imwrite(str(tmp_path / "img/2008_000002.jpg"), np.zeros((30, 40, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "img/2008_000010.jpg"), np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "train.txt").write_text("2008_000002\n2008_000010\n")
    return tmp_path


def test_instances_become_annotations(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "train.json"
    assert main(["data", "sbd", f"{folder}", "train", "--output", f"{output}"]) == 0
    assert capsys.readouterr().out == f"2 instances in 2 pictures: {output}\n"
    dataset = read_coco(output, folder / "img")
    assert dataset.class_names == PASCAL_CLASSES
    first, second = dataset.pictures
    assert [(truth.label, truth.box.tolist()) for truth in first.truths] == [(6, [3, 2, 20, 10]), (19, [5, 15, 35, 25])]
    assert [annotation["area"] for annotation in json.loads(output.read_text())["annotations"]] == [136, 296]
    assert second.truths == ()
    assert main(["data", "check", f"{output}", f"{folder / 'img'}"]) == 0


def test_faults_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(split: str = "train") -> str:
        assert main(["data", "sbd", f"{folder}", split, "--output", f"{folder / 'train.json'}"]) == 2
        assert not (folder / "train.json").exists()
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "val.txt: cannot be read" in told("val")
    (folder / "val.txt").write_bytes(b"\xff")
    assert "val.txt: is no list of names" in told("val")
    path = folder / "inst/2008_000002.mat"
    write(path, np.full((5, 5), 2), [1])
    assert "2008_000002.mat: numbers 2 instances, and has the classes of 1" in told()
    write(path, np.array(["a", "b"], object), [1])
    assert "2008_000002.mat: its instances are of type object, wanted numbers" in told()
    write(path, np.ones((5, 5)), [21])
    assert "2008_000002.mat: has classes [21], wanted 1 to 20" in told()
    flipped = bytearray(path.read_bytes())
    flipped[160] ^= 255
    for damaged in (b"", b"no matlab file", path.read_bytes()[:150], path.read_bytes()[:-40], flipped):
        path.write_bytes(damaged)
        assert "2008_000002.mat: " in told()
    path.unlink()
    assert "2008_000002.mat: cannot be read" in told()
