"""`yolact data`: every fault is told, the counts are right, and the sheets show what they should."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import shared_path

from yolact.cli import main
from yolact.data.check import check_dataset
from yolact.data.coco import read_coco
from yolact.data.sheet import CELL, MARGIN, contact_sheet, dataset_sheet
from yolact.pictures import read_picture


def square(id: int, image_id: int, side: int, category_id: int = 8, crowd: int = 0) -> dict:
    corner = [10, 10, 10 + side, 10, 10 + side, 10 + side, 10, 10 + side]
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [10, 10, side, side],
        "segmentation": [corner],
        "iscrowd": crowd,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of 200x160, one of 100x160 without annotations."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 200 if i else 100, "height": 160} for i in range(4)]
    for image in images:
        cv2.imwrite(str(tmp_path / image["file_name"]), np.full((160, image["width"], 3), 60, np.uint8))
    annotations = [
        square(1, 1, 31),
        square(2, 1, 32),
        square(3, 1, 96, 5),
        square(4, 2, 95),
        square(5, 3, 20, crowd=1),
    ]
    categories = [{"id": 8, "name": "late"}, {"id": 5, "name": "early"}, {"id": 9, "name": "never"}]
    values = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(values))
    return tmp_path


def break_it(folder: Path) -> None:
    """Six faults: two of the file, four of its pictures."""
    values = json.loads((folder / "truth.json").read_text())
    values["annotations"] += [{**square(6, 1, 9), "bbox": "none"}, square(7, 77, 9)]
    (folder / "truth.json").write_text(json.dumps(values))
    (folder / "0.png").unlink()
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:80])
    (folder / "2.png").write_text("no picture")
    cv2.imwrite(str(folder / "3.png"), np.zeros((16, 20, 3), np.uint8))


def test_counts(folder: Path) -> None:
    counts = check_dataset(folder / "truth.json", folder).counts()
    assert counts == {
        "pictures": 4,
        "without_annotations": 1,
        "heights": [160, 160, 160],
        "widths": [100, 200, 200],
        "instances": 4,
        "small": 1,
        "medium": 2,
        "large": 1,
        "crowds": 1,
        "classes": [
            {"id": 5, "name": "early", "instances": 1, "crowds": 0, "pictures": 1},
            {"id": 8, "name": "late", "instances": 3, "crowds": 1, "pictures": 3},
            {"id": 9, "name": "never", "instances": 0, "crowds": 0, "pictures": 0},
        ],
    }


def test_a_sound_data_set_passes(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "check", f"{folder / 'truth.json'}", f"{folder}"]
    assert main([*arguments, "--output", f"{tmp_path / 'out'}", "--json", f"{tmp_path / 'out/report.json'}"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "no faults"
    assert "late                           8           3       1         3" in told.out
    assert told.err == ""
    assert json.loads((tmp_path / "out/report.json").read_text())["faults"] == []
    assert read_picture(tmp_path / "out/samples.jpg").shape[1] == 2 * (CELL + MARGIN) + MARGIN


def test_every_fault_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_it(folder)
    arguments = ["data", "check", f"{folder / 'truth.json'}", f"{folder}", "--json", f"{tmp_path / 'report.json'}"]
    assert main(arguments) == 2
    lines = capsys.readouterr().out.splitlines()
    starts = (
        f"picture 0: there is no file {folder / '0.png'}",
        "annotation 6: bbox is 'none', wanted four numbers",
        "annotation 7: image_id 77 is not among the pictures",
        f"picture 1: {folder / '1.png'}: ",
        f"picture 2: {folder / '2.png'}: not a picture",
        f"picture 3: {folder / '3.png'}: is 20x16, its annotations say 200x160",
    )
    for line, start in zip(lines, starts, strict=False):
        assert line.startswith(start)
    assert lines[-1].startswith("6 faults (")
    faults = json.loads((tmp_path / "report.json").read_text())["faults"]
    assert [(fault["record"], fault["id"]) for fault in faults] == [
        ("picture", 0),
        ("annotation", 6),
        ("annotation", 7),
        ("picture", 1),
        ("picture", 2),
        ("picture", 3),
    ]
    assert [fault["text"] for fault in faults] == lines[:6]


def test_names_that_no_terminal_should_see_are_quoted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads((folder / "truth.json").read_text())
    values["categories"][0]["name"] = "red\x1b[31m\nline"
    values["images"][0]["file_name"] = "\ud800\n.png"
    (folder / "0.png").rename(folder / "bad\n.png")
    (folder / "bad\n.png").write_bytes(b"")
    values["images"].append({**values["images"][1], "id": 9, "file_name": "bad\n.png"})
    (folder / "truth.json").write_text(json.dumps(values))
    assert main(["data", "check", f"{folder / 'truth.json'}", f"{folder}"]) == 2
    out = capsys.readouterr().out
    assert "\x1b" not in out
    first, second = out.splitlines()[:2]
    assert first.endswith("\\ud800\\n.png'")
    assert second.endswith("bad\\n.png: the file is empty'")


def test_names_are_told_on_a_terminal_that_lacks_their_letters(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "猫"}]}))
    output = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(output, encoding="latin-1"))
    assert main(["data", "check", f"{path}", f"{folder}"]) == 0
    assert b"\\u732b" in output.getvalue()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["check", "--help"], ["augmented", "--help"], ["sbd", "--help"]):
        assert main(["data", *arguments]) == 0
        assert capsys.readouterr().out.startswith("Usage: yolact data ")


def test_what_cannot_be_checked_is_told_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.json").write_text("[]")
    break_it(folder)
    truth = f"{folder / 'truth.json'}"
    for arguments, message in (
        (["check", f"{folder / 'none.json'}", f"{folder}"], "none.json: cannot be read"),
        (["check", f"{folder / 'list.json'}", f"{folder}"], "holds no list 'images'"),
        (["check", truth, f"{folder / 'nowhere'}"], "there is no picture folder"),
        (["check", truth, f"{folder}", "--output", truth], "the folder cannot be made"),
        (["check", truth, f"{folder}", "--json", truth], "truth.json: holds the annotations"),
        (["check", truth, f"{folder}", "--threads", "0"], "--threads"),
        (["check", truth, f"{folder}", "--output", f"{folder / 'out'}"], "there is no picture to draw"),
        (["augmented", "yolact_huge", truth, f"{folder}", "--output", "a.png"], "yolact_huge"),
        (["augmented", "yolact_base", truth, f"{folder}", "--output", "a.png", "--recipe", "x"], "unknown recipe 'x'"),
        (["augmented", "yolact_base", truth, f"{folder}", "--output", f"{folder}/a.png"], ".png: "),
    ):
        assert main(["data", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("yolact: ")
        assert error.count("\n") == 1
    assert not (folder / "a.png").exists()


def test_a_sheet_of_a_format_that_nobody_writes_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "augmented", "yolact_base", f"{folder / 'truth.json'}", f"{folder}", "--samples", "1"]
    assert main([*arguments, "--output", f"{folder}/a.xyz"]) == 2
    assert "suffix '.xyz'" in capsys.readouterr().err


def test_a_sheet_shows_the_truths_where_they_are(folder: Path) -> None:
    """Large enough to be drawn at the scale of the file, a square of the sheet is no longer grey where its truth is."""
    values = json.loads((folder / "truth.json").read_text())
    values["annotations"] = [square(1, 2, 96)]
    values["images"] = values["images"][2:3]
    (folder / "truth.json").write_text(json.dumps(values))
    sheet = dataset_sheet(read_coco(folder / "truth.json", folder), 5, seed=0)
    scale = CELL / 200
    assert sheet.shape == (round(160 * scale) + 2 * MARGIN, CELL + 2 * MARGIN, 3)
    picture = sheet[MARGIN:-MARGIN, MARGIN:-MARGIN]
    coloured = (picture != picture[-20, -20]).any(2)
    coloured[[0, -1]] = coloured[:, [0, -1]] = False  # where the picture's edge blends with what is around it
    ys, xs = np.nonzero(coloured)
    expected = np.array((10, 106)) * scale
    np.testing.assert_allclose((xs.min(), xs.max() + 1), expected, atol=4)  # a contour and its smoothing
    assert abs(ys.max() + 1 - expected[1]) <= 4
    assert coloured[round(60 * scale), round(60 * scale)]


def test_samples_are_chosen_by_the_seed(folder: Path) -> None:
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((160, 200 if i else 100, 3), 50 * i, np.uint8))
    dataset = read_coco(folder / "truth.json", folder)
    sheets = [dataset_sheet(dataset, 2, seed).tobytes() for seed in range(8)]
    assert sheets == [dataset_sheet(dataset, 2, seed).tobytes() for seed in range(8)]
    assert len(set(sheets)) > 2


def test_cells_lie_in_rows() -> None:
    cells = [np.full((10 + i, 20 - i, 3), i, np.uint8) for i in range(5)]
    sheet = contact_sheet(cells)
    height, width = 14 + MARGIN, 20 + MARGIN
    assert sheet.shape == (2 * height + MARGIN, 3 * width + MARGIN, 3)
    for i in range(5):
        row, column = divmod(i, 3)
        cell = sheet[row * height + MARGIN : (row + 1) * height, column * width + MARGIN : (column + 1) * width]
        assert (cell[..., 0] == i).sum() == (10 + i) * (20 - i)


def test_augmented_samples_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = shared_path("data/fruits-nuts")
    arguments = ["data", "augmented", "yolact_base", f"{base / 'train.json'}", f"{base / 'train'}", "--samples", "3"]
    for name, seed in (("a.png", "0"), ("b.png", "0"), ("c.png", "1")):
        assert main([*arguments, "--output", f"{tmp_path / name}", "--seed", seed]) == 0
    sheets = [read_picture(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    assert sheets[0].shape == (2 * (550 + MARGIN) + MARGIN,) * 2 + (3,)
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])


def test_what_is_not_drawn_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_it(folder)
    cv2.imwrite(str(folder / "3.png"), np.full((160, 200, 3), 60, np.uint8))
    arguments = ["data", "augmented", "yolact_base", f"{folder / 'truth.json'}", f"{folder}", "--samples", "6"]
    assert main([*arguments, "--output", f"{folder / 'sheet.png'}"]) == 0
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith("left out: 3 faults (1 × missing file, 1 × malformed box, 1 × unknown picture)")
    assert sorted(line.split(": ")[0] for line in others) == [
        f"another picture stands for {folder / name}" for name in ("1.png", "2.png")
    ]
