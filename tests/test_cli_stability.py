"""`yolact stability`: what it tells of films in which nothing, little and everything changes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import skip_or_fail
from films import Camera, opens_as, write_film

from yolact.cli import main
from yolact.cli._options import BUNDLED_MODEL
from yolact.loading import BUNDLED
from yolact.pictures import write_picture

STILL = ["--noise", "0", "--flicker", "0", "--jpeg-quality", "0"]


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A photo of a cat in the working folder."""
    if not (BUNDLED / f"{BUNDLED_MODEL}.pth").exists():
        skip_or_fail("weights", "the bundled model is not here")
    try:
        from skimage.data import chelsea
    except ImportError:
        skip_or_fail("demo", "scikit-image is not installed")
    monkeypatch.chdir(tmp_path)
    write_picture("cat.png", chelsea())
    return "cat.png"


def report(*arguments: str) -> dict[str, Any]:
    assert main(["stability", *arguments, "--json", "r.json"]) == 0
    return json.loads(Path("r.json").read_text())


def test_of_a_still_film_all_is_found_again(photo: str, capsys: pytest.CaptureFixture[str]):
    (film,) = report(photo, "--frames", "3", *STILL)["films"].values()
    assert film["matched"] == film["sought"] > 0
    assert {film[name] for name in ("mask_mean", "mask_p5", "box_mean", "box_p5")} == {1.0}
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["frames", "found", "sought", "again", "masks", "5", "%", "boxes", "5", "%"]
    assert row.split() == [photo, "3", str(film["detections"]), *[str(film["sought"])] * 2, *["1.000"] * 4]


def test_noise_is_measured_by_its_seed(photo: str):
    options = [photo, "--frames", "3", "--noise", "20"]
    first, again, other = report(*options), report(*options), report(*options, "--seed", "7")
    assert first == again
    assert first["films"][photo]["mask_mean"] < 1
    assert first["films"][photo]["mask_mean"] != other["films"][photo]["mask_mean"]
    assert first["noise"] == {"sigma": 20.0, "flicker": 0.01, "jpeg_quality": 90}


def test_standard_output_gets_the_numbers(photo: str, capsys: pytest.CaptureFixture[str]):
    assert main(["stability", photo, "--frames", "2", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["all"]["frames"] == 2
    assert err.splitlines()[1].startswith(photo)
    assert os.listdir() == [photo]


def test_several_sources_are_told_together_and_drawn(photo: str, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    write_film(Path("film.mp4"), 3)
    told = report(photo, "film.mp4", "--frames", "2", "--plot", "new/plot.png", *STILL)
    assert list(told["films"]) == [photo, "film.mp4"]
    assert told["films"]["film.mp4"]["frames"] == 2
    assert told["all"]["frames"] == 4
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [photo, "film.mp4", "all"]
    assert Path("new/plot.png").stat().st_size > 5_000


def test_nothing_found_is_told_and_drawn(photo: str, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    film = report(photo, "--frames", "2", "--score-threshold", "1", "--plot", "plot.png")["all"]
    assert (film["detections"], film["mask_mean"], film["box_p5"]) == (0, None, None)
    assert capsys.readouterr().out.splitlines()[1].split() == [photo, "2", "0", "0", "0", "–", "–", "–", "–"]
    assert Path("plot.png").exists()


@pytest.mark.parametrize(("sources", "status"), [(["film.mp4", "cat.png"], 130), (["0"], 0)])
def test_ctrl_c_ends_it_and_tells(
    photo: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sources: list[str], status: int
):
    Path("film.mp4").write_text("a film")
    at_third = {3: lambda: os.kill(os.getpid(), signal.SIGINT)}
    opens_as(monkeypatch, Camera(frames=200, events=at_third), sources[0])
    assert main(["stability", *sources]) == status, "a webcam has no other end"
    out, err = capsys.readouterr()
    (row,) = out.splitlines()[1:]
    assert row.split()[:2] == [sources[0], "2"]
    assert err == ("yolact: interrupted; told is what was measured until then\n" if status else "")


def test_rejects_what_cannot_be(photo: str, capsys: pytest.CaptureFixture[str]):
    Path("film.mp4").write_text("no film")
    Path("file").touch()
    for arguments, message in {
        ("film.mp4",): "film.mp4: not a video, or a damaged one",
        ("missing.png",): "missing.png: No such file or directory",
        ("99",): "99: no file of this name, and webcam 99 cannot be opened",
        (photo, "--noise", "-1"): "'--noise'",
        (photo, "--flicker", "nan"): "'--flicker': nan",
        (photo, "--noise", "inf"): "'--noise': inf",
        (photo, "--frames", "1"): "'--frames'",
        (photo, "--jpeg-quality", "101"): "'--jpeg-quality'",
        (photo, "--json", photo): "would be overwritten",
        (photo, "--json", "file/r.json"): "file: the folder cannot be made",
        (photo, "--json", "."): ".: is a folder",
        (photo, "--plot", "plot.jpg"): "--plot must name a file that ends in .png, got plot.jpg",
        (photo, "--weights", "none.pth"): "none.pth: no such file",
    }.items():
        assert main(["stability", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert err.count("\n") == 1
    assert sorted(os.listdir()) == ["cat.png", "file", "film.mp4"]
