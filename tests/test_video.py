"""Videos are read whole, or said to be damaged; what is written plays, at the rate and size of its source."""

from __future__ import annotations

import os
import resource
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import RATE, read_film, shade, write_film

from yolact.errors import UserError
from yolact.video import open_video, writing_video


def test_reads_every_frame_in_order(tmp_path: Path) -> None:
    with open_video(write_film(tmp_path / "a.mp4", 20)) as video:
        assert (video.rate, video.frames) == (RATE, 20)
        frames = list(video)
    np.testing.assert_allclose([seconds for seconds, _ in frames], np.arange(20) / RATE, atol=1e-6)
    for number, (_, pixels) in enumerate(frames):
        assert pixels.shape == (48, 64, 3)
        assert np.abs(pixels.astype(int) - shade(number)).max() <= 5, "MPEG-4 loses little of a plain grey"


def test_reads_rgb(tmp_path: Path) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[:, :, 0] = 200
    with writing_video(tmp_path / "red.mp4", RATE, (48, 64)) as add:
        add(red)
    with open_video(tmp_path / "red.mp4") as video:
        ((_, pixels),) = video
    assert np.abs(pixels.astype(int) - red).max() < 20


def test_turns_what_a_phone_held_upright_recorded(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", 3)
    data = bytearray(film.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # of the track's header: a quarter turn, in 16.16 and 2.30 fixed point
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    film.write_bytes(data)
    with open_video(film) as video:
        assert [pixels.shape for _, pixels in video] == [(64, 48, 3)] * 3


def test_reads_a_stream_that_does_not_tell_its_length(tmp_path: Path) -> None:
    pictures = [cv2.imencode(".jpg", np.full((48, 64, 3), shade(number), np.uint8))[1] for number in range(30)]
    (tmp_path / "stream.mpg").write_bytes(b"".join(picture.tobytes() for picture in pictures))
    with open_video(tmp_path / "stream.mpg") as video:
        assert video.frames is None
        assert [round(pixels.mean()) for _, pixels in video] == [shade(number) for number in range(30)]


@pytest.mark.parametrize("name", ["a:b.mp4", "%02d.mp4", "http:a.mp4", "ä b.mp4"])
def test_names_mean_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "plain.mp4", 3).rename(tmp_path / name)
    with open_video(Path(name)) as video:
        assert len(list(video)) == 3


def test_a_cut_video_gives_what_it_has_and_tells(tmp_path: Path) -> None:
    film = write_film(tmp_path / "cut.avi", 40, codec="MJPG")
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    frames: list[tuple[float, np.ndarray]] = []
    with open_video(film) as video, pytest.raises(UserError, match=r"cut\.avi: damaged: \d+ of its 40 frames") as fault:
        frames.extend(video)
    assert 5 < len(frames) < 25
    assert f" {len(frames)} of its" in str(fault.value)


def test_frames_behind_a_damaged_one_are_read(tmp_path: Path) -> None:
    film = write_film(tmp_path / "hole.avi", 40, codec="MJPG")
    data = bytearray(film.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    film.write_bytes(data)
    frames: list[tuple[float, np.ndarray]] = []
    with open_video(film) as video, pytest.raises(UserError, match=r"damaged: 3\d of its 40 frames"):
        frames.extend(video)
    assert np.abs(frames[-1][1].astype(int) - shade(39)).max() <= 3, "the last frame is there"
    assert 30 <= len(frames) < 40


def test_refuses_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n")
    whole = write_film(tmp_path / "whole.mp4", 3).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.mp4").mkdir()
    for name, fault in {
        "missing.mp4": "No such file or directory",
        "empty.mp4": "the file is empty",
        "text.mp4": "not a video, or a damaged one",
        "half.mp4": "not a video, or a damaged one",
        "folder.mp4": "Is a directory",
    }.items():
        with pytest.raises(UserError, match=f"{name}: {fault}"), open_video(tmp_path / name):
            pass
    os.link(tmp_path / "whole.mp4", tmp_path / "\udcff.mp4")
    with pytest.raises(UserError, match="a video's name must be UTF-8"), open_video(tmp_path / "\udcff.mp4"):
        pass


def test_writes_what_plays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with writing_video(path, 29.97, (48, 64)) as add:
        for number in range(10):
            add(np.full((48, 64, 3), shade(number), np.uint8))
        assert not path.exists(), "not before it is whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]
    frames = read_film(path)
    assert len(frames) == 10
    assert all(abs(frame.mean() - shade(number)) < 4 for number, frame in enumerate(frames))
    with open_video(path) as video:
        assert video.rate == pytest.approx(29.97)


def test_frames_of_other_sizes_are_fitted(tmp_path: Path) -> None:
    with writing_video(tmp_path / "out.mp4", RATE, (48, 64)) as add:
        for size in ((48, 64), (96, 128), (10, 10), (48, 64)):
            add(np.full((*size, 3), 90, np.uint8))
    frames = read_film(tmp_path / "out.mp4")
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    assert all(abs(frame.mean() - 90) < 4 for frame in frames)


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)

    def write(*frames: np.ndarray, path: Path = tmp_path / "out.mp4", error: Exception | None = None) -> None:
        with writing_video(path, RATE, frames[0].shape[:2]) as add:
            for frame in frames:
                add(frame)
            if error:
                raise error

    with pytest.raises(KeyError):
        write(picture, picture, error=KeyError())
    with pytest.raises(UserError, match=r"out\.mp4: no MPEG-4 video can be of 9000x48 pixels"):
        write(np.zeros((48, 9000, 3), np.uint8))
    with pytest.raises(UserError, match=r"a\.mp4: cannot be written \(No such file or directory\)"):
        write(picture, path=tmp_path / "missing" / "a.mp4")
    (tmp_path / "\udcff").mkdir()
    with pytest.raises(UserError, match="a video's name must be UTF-8"):
        write(picture, path=tmp_path / "\udcff" / "a.mp4")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 48, 64, 3), dtype=np.uint8)

    def write() -> None:
        with writing_video(tmp_path / "out.mp4", RATE, (48, 64)) as add:
            for frame in noise:
                add(frame)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # Python ignores the signal: a write fails
    try:
        with pytest.raises(UserError, match=r"out\.mp4: cannot be written: .* of 50 frames; is the disk full\?"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
