"""What temporal stability is measured on: a video, or a still photo made a film of by seeded noise."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from yolact.pictures import is_picture, read_picture
from yolact.video import open_video

PICTURE_FRAMES = 30  # of a photo, unless told


@dataclass(frozen=True)
class Noise:
    """What differs from frame to frame of a scene in which nothing moves."""

    sigma: float = 5.0  # of Gaussian noise, drawn for each pixel and channel, in grey levels of 0..255
    flicker: float = 0.01  # of the factor that brightens or darkens a whole frame, around 1
    jpeg_quality: int | None = 90  # each frame is coded so and decoded; None: it is left as it is

    def __post_init__(self) -> None:
        for name in ("sigma", "flicker"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be within 1..100 or None, got {self.jpeg_quality}")


def noisy_frames(
    picture: np.ndarray,  # [H, W, 3] uint8 RGB
    noise: Noise,
    frames: int,
    seed: int,
) -> Iterator[np.ndarray]:  # [H, W, 3] uint8 RGB each
    """So many frames of a photo; each depends on the photo, the noise, the seed and its own number alone."""
    for number in range(frames):
        random = np.random.default_rng([seed, number])
        gain = np.float32(random.normal(1, noise.flicker))
        grain = random.standard_normal(picture.shape, np.float32)
        frame = (gain * picture + np.float32(noise.sigma) * grain).round().clip(0, 255).astype(np.uint8)
        yield frame if noise.jpeg_quality is None else _through_jpeg(frame, noise.jpeg_quality)


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=quality)
    return np.array(Image.open(file))


def read_film(source: Path | int, noise: Noise, frames: int | None, seed: int) -> Iterator[np.ndarray]:
    """The frames of a video or webcam, as they are and at most so many, or as many of a photo with noise.

    Raises:
        UserError: it cannot be read, or not wholly.
    """
    if is_picture(source):
        yield from noisy_frames(read_picture(source), noise, frames or PICTURE_FRAMES, seed)
        return
    with open_video(source) as video:
        yield from (pixels for _, pixels in islice(video, frames))
