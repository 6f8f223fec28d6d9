"""A still photo as a film: what differs between its frames is as told, and the same for the same seed."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from films import write_film

from yolact.errors import UserError
from yolact.evaluation.films import Noise, noisy_frames, read_film
from yolact.pictures import write_picture

GREY = np.full((120, 160, 3), 128, np.uint8)
STILL = Noise(sigma=0, flicker=0, jpeg_quality=None)


def film(noise: Noise, frames: int = 5, seed: int = 0) -> np.ndarray:  # [frames, H, W, 3]
    return np.stack(list(noisy_frames(GREY, noise, frames, seed)))


def test_a_seed_gives_the_same_film():
    noise = Noise()
    first = film(noise)
    np.testing.assert_array_equal(first, film(noise))
    np.testing.assert_array_equal(first[:2], film(noise, frames=2), "whatever comes after")
    assert (film(noise, seed=1) != first).any(axis=(1, 2, 3)).all()
    assert all((one != other).any() for one, other in pairwise(first))


def test_noise_is_as_strong_as_told():
    grain = film(Noise(sigma=8, flicker=0, jpeg_quality=None)) - 128.0
    assert abs(grain.mean()) < 0.1
    assert grain.std() == pytest.approx(math.sqrt(8**2 + 1 / 12), rel=0.01), "and what rounding adds"
    assert abs(np.mean(grain[:, :, 1:] * grain[:, :, :-1])) < 0.5, "neighbours know nothing of each other"
    assert abs(np.mean(grain[1:] * grain[:-1])) < 0.5, "nor frames"


def test_flicker_changes_a_frame_as_a_whole():
    frames = film(Noise(sigma=0, flicker=0.05, jpeg_quality=None), frames=200)
    assert (frames == frames[:, :1, :1, :1]).all()
    assert frames[:, 0, 0, 0].std() == pytest.approx(0.05 * 128, rel=0.15)


def test_without_noise_nothing_changes():
    assert (film(STILL) == GREY).all()


def test_bright_and_dark_stay_within_range():
    edges = np.concatenate([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)])
    (frame,) = noisy_frames(edges, Noise(sigma=20, flicker=0, jpeg_quality=None), 1, 0)
    assert (frame[:8] < 100).all()
    assert (frame[8:] > 150).all()


def test_jpeg_leaves_its_traces():
    photo = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    (best,), (worst,) = (noisy_frames(photo, Noise(0, 0, quality), 1, 0) for quality in (100, 5))
    lost = [np.abs(coded.astype(int) - photo).mean() for coded in (best, worst)]
    assert 0 < lost[0] < lost[1]
    assert best.shape == photo.shape


@pytest.mark.parametrize("wrong", [{"sigma": -1}, {"sigma": math.nan}, {"flicker": math.inf}, {"jpeg_quality": 0}])
def test_rejects_noise_that_cannot_be(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must be .*, got {wrong[name]}"):
        Noise(**wrong)


def test_reads_pictures_and_videos(tmp_path: Path):
    write_picture(tmp_path / "a.png", GREY)
    assert len(list(read_film(tmp_path / "a.png", STILL, None, 0))) == 30
    assert [(frame == GREY).all() for frame in read_film(tmp_path / "a.png", STILL, 3, 0)] == [True] * 3
    video = write_film(tmp_path / "a.mp4", 12)
    assert len(list(read_film(video, STILL, None, 0))) == 12
    assert len(list(read_film(video, STILL, 5, 0))) == 5
    with pytest.raises(UserError, match=r"no\.mp4: No such file or directory"):
        list(read_film(tmp_path / "no.mp4", STILL, None, 0))
