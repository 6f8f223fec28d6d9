"""`yolact report`: results that are in a file already, with and without the truth; a fault is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import jpegs, parsed, pictures

from yolact import mask
from yolact.cli import main
from yolact.draw import colour
from yolact.pictures import write_picture

CLASSES = {5: "cat", 9: "dog"}


def result(image_id: int, file_name: str, category: int, **more: Any) -> dict[str, Any]:
    """A result as `yolact predict` writes it, of a box of 10 x 20 pixels."""
    pixels = np.zeros((40, 60), np.uint8)
    pixels[5:25, 30:40] = 1
    rle = mask.encode(pixels)
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": [30.0, 5.0, 10.0, 20.0],
        "score": 0.5,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        "category_name": CLASSES[category],
        "file_name": file_name,
        **more,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures a.png and b.png, the results of a.png and of one that is not there, and annotations of both."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for shade, name in ((50, "a.png"), (150, "b.png")):
        write_picture(Path("photos") / name, np.full((40, 60, 3), shade, np.uint8))
    save([result(1, "a.png", 9, score=0.4), result(1, "a.png", 5, score=0.8), result(1, "a.png", 5, score=0.1)])
    box = {"id": 1, "image_id": 2, "category_id": 5, "bbox": [1, 2, 30, 10], "area": 300, "iscrowd": 0}
    images = [{"id": id, "file_name": name, "height": 40, "width": 60} for id, name in ((2, "b.png"), (1, "a.png"))]
    annotations = {
        "images": images,
        "annotations": [{**box, "segmentation": [[1, 2, 31, 2, 31, 12, 1, 12]]}],
        "categories": [{"id": id, "name": name} for id, name in {2: "bird", **CLASSES}.items()],
    }
    Path("truth.json").write_text(json.dumps(annotations))
    return tmp_path


def save(results: Any, path: str = "r.json") -> None:
    Path(path).write_text(json.dumps(results))


def command(*more: str, results: str = "r.json") -> list[str]:
    return ["report", "--results", results, "--images", "photos", *more]


def classes(path: str) -> list[dict[str, str]]:
    return json.loads(parsed(Path(path)).contents("script", class_="classes")[0])


def test_results_name_their_pictures_and_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command()) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("2 instances in 1 pictures: report.html, 0.0 MB\n", "")
    (picture,) = pictures(Path("report.html"))
    assert (picture["name"], picture["size"], picture["truths"]) == ("a.png", [40, 60], None)
    assert [(shape["score"], shape["area"]) for shape in picture["instances"]] == [(0.8, 200), (0.4, 200)]
    assert [entry["name"] for entry in classes("report.html")] == ["cat", "dog"]
    assert abs(int(jpegs(Path("report.html"))[0].mean()) - 50) <= 1
    assert main(command("--score-threshold", "0", "-o", "all.html")) == 0
    assert len(pictures(Path("all.html"))[0]["instances"]) == 3


def test_results_may_lack_class_names(folder: Path) -> None:
    record = result(1, "a.png", 9)
    del record["category_name"]
    save([record])
    assert main(command()) == 0
    assert [entry["name"] for entry in classes("report.html")] == ["category 9"]


def test_lines_are_results_and_those_of_videos_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [result(1, "a.png", 9), result(2, "film.mp4", 9, frame=0, seconds=0.0)]
    Path("r.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    assert main(command(results="r.jsonl")) == 0
    assert [picture["name"] for picture in pictures(Path("report.html"))] == ["a.png"]
    assert capsys.readouterr().err == "yolact: 1 results are of videos, or of pictures that are not there\n"


def test_annotations_name_pictures_and_classes_and_bring_the_truth(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [{key: value for key, value in result(1, "", 9).items() if not key.endswith("name")}]
    save([*plain, {**plain[0], "image_id": 77}])
    assert main(command("--annotations", "truth.json")) == 0
    assert capsys.readouterr().err == "yolact: 1 results are of videos, or of pictures that are not there\n"
    b, a = pictures(Path("report.html"))
    assert (a["name"], len(a["instances"]), a["truths"]) == ("a.png", 1, [])
    assert (b["name"], b["instances"]) == ("b.png", [])
    (truth,) = b["truths"]
    assert (truth["box"], truth["area"]) == ([1, 2, 30, 10], 300)
    assert mask.decode({"size": [40, 60], "counts": truth["counts"]}).sum() == 300
    assert classes("report.html") == [
        {"name": "cat", "colour": f"#{bytes(colour(1)).hex()}"},
        {"name": "dog", "colour": f"#{bytes(colour(2)).hex()}"},
    ], "in the data set's colours"
    assert main(command("--annotations", "truth.json", "--limit", "1", "-o", "one.html")) == 0
    assert [picture["name"] for picture in pictures(Path("one.html"))] == ["b.png"]


def test_a_picture_that_does_not_read_is_told_and_the_rest_are_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/b.png").write_text("no picture")
    save([result(1, "a.png", 9), result(2, "b.png", 9)])
    assert main(command()) == 2
    assert capsys.readouterr().err == "yolact: photos/b.png: not a picture, or a damaged one\n"
    assert [picture["name"] for picture in pictures(Path("report.html"))] == ["a.png"]


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in result(1, "a.png", 9).items() if name != key}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, "r.json: holds no list of results"),
        ([7], "r.json: holds no list of results"),
        ([], "r.json: there is no picture to show"),
        ([without("file_name")], "r.json: result 1: file_name is None, wanted str; or give the annotations"),
        ([without("image_id")], "r.json: result 1: image_id is None, wanted int; or give the annotations"),
        ([result(1, "a.png", 9, category_name=3)], "r.json: result 1: category_name is 3, wanted str"),
        ([result(1, "a.png", 9), result(2, "a.png", 9)], "r.json: result 2: pictures 1 and 2 are both called a.png"),
        ([without("score")], "r.json: a.png: result 1 of 1: score is None, wanted a finite number"),
        ([result(1, "a.png", 9, bbox=[1, 2])], "r.json: a.png: result 1 of 1: bbox is [1, 2], wanted four numbers"),
        ([result(1, "a.png", 9, segmentation={"size": [40, 60], "counts": "~"})], "r.json: a.png: result 1 of 1: its"),
        ([result(1, "a.png", 9, segmentation={"size": [4, 6], "counts": "h0"})], "r.json: a.png: result 1 of 1: its"),
        ([result(1, "gone.png", 9)], "photos/gone.png: No such file or directory"),
        ([result(1, "\x1b[2J.png", 9)], "'photos/\\x1b[2J.png: No such file or directory'"),
    ],
)
def test_faults_are_told(folder: Path, capsys: pytest.CaptureFixture[str], results: Any, message: str) -> None:
    save(results)
    assert main(command("-o", "new.html")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"yolact: {message}")
    assert not Path("new.html").exists()


def test_options_are_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, message in (
        (("-o", "r.json"), "--output must name a file that ends in .html, got r.json"),
        (("--report-side", "1"), "Invalid value for '--report-side': 1 is not in the range 16<=x<=16384."),
        (("--score-threshold", "nan"), "Invalid value for '--score-threshold': nan is not a finite number."),
        (("--limit", "0"), "Invalid value for '--limit': 0 is not in the range x>=1."),
        (("--annotations", "none.json"), "none.json: cannot be read (No such file or directory)"),
        (("-o", "r.json/x.html"), "r.json: the folder cannot be made (File exists)"),
        (("--images", "nowhere"), "nowhere: no such folder"),
    ):
        assert main(command(*more)) == 2
        assert capsys.readouterr().err == f"yolact: {message}\n"
    assert main(["predict", "photos", "--report", "photos/a.png"]) == 2
    assert capsys.readouterr().err == "yolact: --report must name a file that ends in .html, got photos/a.png\n"
    assert sorted(path.name for path in folder.iterdir()) == ["photos", "r.json", "truth.json"]
