"""The three stages of `yolact predict`: whatever ends one ends all, what is written is whole, and memory stays flat."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import shared_path, skip_or_fail
from films import RATE, Camera, StandIn, opens_as, read_film, write_film

from yolact.cli._options import BUNDLED_MODEL
from yolact.errors import UserError
from yolact.instances import Instances
from yolact.loading import BUNDLED, load
from yolact.pictures import write_picture
from yolact.run import Outcome, run


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever a test does, its threads have ended."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name in ("reading ahead", "writing behind")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predict(
    *sources: Path | int, model: Any = None, output: str | None = "out", results: str | None = "r.json", **options: Any
) -> Outcome:
    return run(
        model or StandIn(),
        list(sources),
        Path(output) if output else None,
        Path(results) if results else None,
        **{"batch_size": 1, **options},
    )


def picture(path: Path) -> Path:
    write_picture(path, np.full((48, 64, 3), 90, np.uint8))
    return path


def test_a_video_gives_a_video_and_results(folder: Path) -> None:
    outcome = predict(write_film(folder / "film.avi", 12, codec="MJPG"))
    assert (outcome.pictures, outcome.frames, outcome.instances, outcome.failed) == (0, 12, 12, 0)
    assert os.listdir("out") == ["film.mp4"]
    frames = read_film(Path("out/film.mp4"))
    assert len(frames) == 12
    assert all(np.ptp(frame.mean(axis=2)) > 30 for frame in frames), "the thing is drawn"
    assert cv2.VideoCapture("out/film.mp4").get(cv2.CAP_PROP_FPS) == RATE
    results = json.loads(Path("r.json").read_text())
    assert [(r["image_id"], r["frame"], r["seconds"]) for r in results] == [(n + 1, n, n / RATE) for n in range(12)]
    assert {r["file_name"] for r in results} == {"film.avi"}


def test_pictures_and_videos_in_one_run(folder: Path) -> None:
    for name in ("a", "b"):
        Path(name).mkdir()
    sources = [picture(Path("a/1.png")), write_film(Path("a/film.mp4"), 3), write_film(Path("b/film.mp4"), 2)]
    outcome = predict(*sources, picture(Path("2.png")), batch_size=4)
    assert (outcome.pictures, outcome.frames) == (2, 5)
    assert sorted(os.listdir("out")) == ["1.png", "2.png", "film-2.mp4", "film.mp4"]
    results = json.loads(Path("r.json").read_text())
    assert [(r["image_id"], r["file_name"], r.get("frame")) for r in results] == [
        (1, "1.png", None),
        (2, "film.mp4", 0),
        (3, "film.mp4", 1),
        (4, "film.mp4", 2),
        (5, "film.mp4", 0),
        (6, "film.mp4", 1),
        (7, "2.png", None),
    ]


def test_a_damaged_video_is_told_and_what_it_has_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = write_film(folder / "cut.avi", 40, codec="MJPG")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    (folder / "text.mp4").write_text("no video\n")
    outcome = predict(Path("cut.avi"), Path("text.mp4"), Path("missing.png"), picture(Path("last.png")))
    assert (outcome.pictures, outcome.failed) == (1, 3)
    assert 5 < outcome.frames < 25
    assert len(read_film(Path("out/cut.mp4"))) == outcome.frames
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == f"yolact: cut.avi: damaged: {outcome.frames} of its 40 frames could be read, and were done"
    assert second == "yolact: text.mp4: not a video, or a damaged one"
    assert third == "yolact: missing.png: No such file or directory"


def test_nothing_readable_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_film(folder / "none.mp4", 0)
    outcome = predict(Path("none.mp4"), results="new/r.jsonl")
    assert (outcome.frames, outcome.failed) == (0, 1)
    assert capsys.readouterr().err.count("\n") == 1
    assert os.listdir() == ["none.mp4"]


def test_lines_can_be_read_meanwhile(folder: Path) -> None:
    film = write_film(folder / "film.mp4", 30)
    seen: list[int] = []

    class Reader(StandIn):
        def stream(self, pictures: Iterable[np.ndarray], **options: Any) -> Iterator[Instances]:
            for found in super().stream(pictures, **options):
                if Path("r.jsonl").exists():
                    lines = Path("r.jsonl").read_text().splitlines()
                    seen.append(len([json.loads(line) for line in lines]))
                yield found

    predict(film, model=Reader(), output=None, results="r.jsonl")
    assert 0 < seen[-1] < 30, "lines were there before the end"
    results = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert [result["frame"] for result in results] == list(range(30))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_input_and_keeps_what_is_done(folder: Path, number: signal.Signals) -> None:
    film = write_film(folder / "film.mp4", 200)

    class Interrupted(StandIn):
        def stream(self, pictures: Iterable[np.ndarray], **options: Any) -> Iterator[Instances]:
            for found in super().stream(pictures, **options):
                if self.taken == 9:
                    os.kill(os.getpid(), number)
                yield found

    before = signal.getsignal(number)
    outcome = predict(film, model=Interrupted())
    assert signal.getsignal(number) is before
    assert outcome.signal == number
    assert outcome.frames == 9
    assert len(read_film(Path("out/film.mp4"))) == 9
    assert len(json.loads(Path("r.json").read_text())) == 9


class Failing(StandIn):
    """A model that fails at its tenth picture."""

    def stream(self, pictures: Iterable[np.ndarray], **options: Any) -> Iterator[Instances]:
        """As `Model.stream`, so far."""
        for found in super().stream(pictures, **options):
            if self.taken == 10:
                raise RuntimeError("out of memory")
            yield found


def test_a_model_that_fails_ends_all(folder: Path) -> None:
    film = write_film(folder / "film.mp4", 200)
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(film, model=Failing())
    assert sorted(os.listdir()) == ["film.mp4", "out"]
    assert os.listdir("out") == []


def test_a_writer_that_fails_ends_all(folder: Path) -> None:
    film, model = write_film(folder / "film.avi", 50), StandIn()
    Path("r.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"r\.jsonl: cannot be written \(No space left on device\)"):
        predict(film, model=model, results="r.jsonl")
    assert model.taken < 20, "soon"
    assert os.listdir("out") == []


def test_what_no_file_can_hold_is_told_and_the_rest_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = write_film(Path("wide.avi"), 3, size=(9000, 16), codec="MJPG")
    webp = Path("wide.webp")
    write_picture(Path("wide.png"), np.zeros((8, 17000, 3), np.uint8))
    Path("wide.png").rename(webp)
    outcome = predict(wide, webp, write_film(Path("film.mp4"), 2), picture(Path("last.png")))
    assert (outcome.frames, outcome.pictures, outcome.failed) == (5, 2, 2)
    assert sorted(os.listdir("out")) == ["film.mp4", "last.png"]
    assert len(json.loads(Path("r.json").read_text())) == 7, "their results too"
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "yolact: out/wide.mp4: no MPEG-4 video can be of 9000x16 pixels",
        "yolact: out/wide.webp: no .webp file can hold 17000x8 pixels",
    ]


def test_standard_output_gets_a_line_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(write_film(folder / "film.mp4", 4), output=None, results="-")
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [result["frame"] for result in results] == [0, 1, 2, 3]
    assert os.listdir() == ["film.mp4"]


def test_a_decoder_that_fails_ends_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError

    sources = [picture(folder / "a.png"), picture(folder / "b.png")]
    monkeypatch.setattr("yolact.run.read_picture", broken)
    with pytest.raises(MemoryError):
        predict(*sources)


def test_a_webcam_gives_the_newest_frame(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = Camera(frames=60, rate=100)
    opens_as(monkeypatch, camera, "0")
    lags: list[int] = []

    class Slow(StandIn):
        def stream(self, pictures: Iterable[np.ndarray], **options: Any) -> Iterator[Instances]:
            for found in super().stream(pictures, **options):
                lags.append(camera.given - int(found.picture[0, 0, 0]))
                time.sleep(0.05)
                yield found

    outcome = predict(0, model=Slow(), results="r.jsonl")
    assert max(lags) <= 5, "however far the model lags behind, what it gets is new"
    assert outcome.dropped > 20
    assert outcome.frames + outcome.dropped == 60
    assert capsys.readouterr().err == "yolact: 0: the webcam gives no more frames\n"
    results = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert {result["file_name"] for result in results} == {"webcam0"}
    lasted = results[-1]["seconds"] - results[0]["seconds"]
    shown = len(read_film(Path("out/webcam0.mp4")))
    assert shown == round(30 * lasted) + 1, "the video lasts as long, each frame shown until the next"


def resident() -> int:
    """Bytes of this process that are in memory, without what the allocator keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_stays_flat_over_ten_thousand_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = Path("film.mp4")
    film.write_text("a film")
    opens_as(monkeypatch, Camera(frames=10_000), "film.mp4")
    memory: dict[int, int] = {}

    class Measured(StandIn):
        def stream(self, pictures: Iterable[np.ndarray], **options: Any) -> Iterator[Instances]:
            for found in super().stream(pictures, **options):
                if self.taken in (2_000, 10_000):
                    memory[self.taken] = resident()
                yield found

    outcome = predict(film, model=Measured())
    assert outcome.frames == 10_000
    assert memory[10_000] - memory[2_000] < 5 * 2**20, "pixels alone would be 70 MB, results 10 MB"


class Beginning(Camera):
    """The first frames of a real video."""

    def __init__(self, film: Path, frames: int) -> None:
        super().__init__(frames)
        self.capture = cv2.VideoCapture(str(film))

    def get(self, name: int) -> float:
        return self.frames if name == cv2.CAP_PROP_FRAME_COUNT else self.capture.get(name)

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.given += 1
        return self.capture.read() if self.given <= self.frames else (False, None)


@pytest.mark.parametrize(
    ("name", "size", "rate"),
    [
        ("bikes.mp4", (272, 640), 25),
        ("bottle-detection.mp4", (360, 640), 29.833),
        ("mmdet_demo.mp4", (720, 1280), 30),
    ],
)
def test_real_videos(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: tuple[int, int], rate: float
) -> None:
    if not (BUNDLED / f"{BUNDLED_MODEL}.pth").exists():
        skip_or_fail("weights", "the bundled model is not here")
    film = shared_path(f"data/video/{name}")
    opens_as(monkeypatch, Beginning(film, 4), str(film))
    outcome = predict(film, model=load(BUNDLED_MODEL), results="r.jsonl", score_threshold=0.05)
    assert (outcome.frames, outcome.failed) == (4, 0)
    assert [frame.shape for frame in read_film(Path("out") / name)] == [(*size, 3)] * 4
    assert cv2.VideoCapture(f"out/{name}").get(cv2.CAP_PROP_FPS) == pytest.approx(rate, abs=1e-3)
    results = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert len(results) == outcome.instances > 0
    for result in results:
        assert result["seconds"] == pytest.approx(result["frame"] / rate, abs=1e-3)
        assert tuple(result["segmentation"]["size"]) == size
