"""Small films to read, and a model that costs nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from yolact.instances import Instances

RATE = 25.0


def shade(number: int) -> int:
    """How bright the frame of this number is."""
    return 20 + 8 * (number % 25)


def write_film(path: Path, frames: int, size: tuple[int, int] = (64, 48), codec: str = "mp4v") -> Path:
    """A film of grey frames, each of its own shade; MJPG in .avi can be read though its end is cut away."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), RATE, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), shade(number), np.uint8))
    writer.release()
    return path


def read_film(path: Path) -> list[np.ndarray]:
    """All frames, [H, W, 3] uint8 BGR."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while capture.isOpened():
        decoded, frame = capture.read()
        if not decoded:
            break
        frames.append(frame)
    return frames


class Camera:
    """In the place of OpenCV's capture: so many frames, at once or at a rate; their pixels are their numbers."""

    def __init__(
        self, frames: int, rate: float | None = None, events: Mapping[int, Callable[[], None]] | None = None
    ) -> None:
        self.frames, self.rate, self.events = frames, rate, events or {}
        self.given = 0

    def isOpened(self) -> bool:
        return True

    def get(self, name: int) -> float:
        return 30.0 if name == cv2.CAP_PROP_FPS else -1.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        """The next frame, when it is time, after the event that goes with it."""
        if self.given == self.frames:
            return False, None
        if self.rate:
            time.sleep(1 / self.rate)
        self.given += 1
        self.events.get(self.given, lambda: None)()
        return True, np.full((48, 64, 3), self.given % 256, np.uint8)

    def release(self) -> None:
        pass


def opens_as(monkeypatch: pytest.MonkeyPatch, camera: Camera, source: str) -> None:
    """Let a webcam's number or a file in the working folder open as this."""
    real = cv2.VideoCapture
    wanted = int(source) if source.isdecimal() else os.path.abspath(source)
    monkeypatch.setattr(cv2, "VideoCapture", lambda opened, *how: camera if opened == wanted else real(opened, *how))


class StandIn:
    """A model that finds one thing in the middle of every picture, for nothing."""

    def __init__(self) -> None:
        self.taken = 0

    def stream(self, pictures: Iterable[np.ndarray], *, batch_size: int = 1, **options: Any) -> Iterator[Instances]:
        """As `Model.stream`."""
        box = torch.tensor([[0.25, 0.25, 0.75, 0.75]])
        for picture in pictures:
            self.taken += 1
            height, width, _ = picture.shape
            yield Instances(
                boxes=box * torch.tensor([width, height, width, height]),
                scores=torch.tensor([0.9]),
                labels=torch.tensor([0]),
                coefficients=torch.ones(1, 1),
                relative_boxes=box,
                prototypes=torch.ones(8, 8, 1),
                picture=picture,
                class_names=("thing",),
                category_ids=(7,),
            )
