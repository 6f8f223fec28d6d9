"""Videos and webcams, read and written a frame at a time by OpenCV; every fault is a UserError that names the file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from yolact.errors import NotEncodable, UserError
from yolact.files import replacing_by_name
from yolact.pictures import quiet

_USUAL_RATE = 30.0  # frames a second, where a header tells none or nonsense
_FAILURES = 100  # frames in a row that cannot be decoded: there are no more


@dataclass(frozen=True, eq=False)
class Video:
    """An open video or webcam; its frames can be iterated once."""

    source: Path | int  # an int is a webcam's number
    rate: float  # frames a second
    frames: int | None  # as the header tells; None: not known, or without end
    capture: cv2.VideoCapture

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """The time in seconds and the pixels of each frame, [H, W, 3] uint8 RGB, turned upright.

        Raises:
            UserError: After the last frame, where any were damaged or lacking, or a webcam stopped.
        """
        read = failed = in_a_row = 0
        started = time.monotonic()
        while in_a_row < _FAILURES:
            decoded, frame = self.capture.read()
            if decoded:
                live = isinstance(self.source, int)
                now = time.monotonic() - started if live else self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                yield now, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                read, in_a_row = read + 1, 0
            elif self.frames is None or read + failed >= self.frames:
                break
            else:  # after a damaged one there may be whole ones
                failed, in_a_row = failed + 1, in_a_row + 1
        self._check(read, failed - in_a_row)

    def _check(self, read: int, damaged: int) -> None:
        if isinstance(self.source, int):
            raise UserError(f"{self.source}: the webcam gives no more frames")
        if read == 0:
            raise UserError(f"{self.source}: holds no frame that can be read")
        lacking = self.frames - read - damaged if self.frames else 0
        # Some headers tell only how long it lasts, sound included: up to a second less is no fault.
        if damaged or (self.frames and lacking > min(self.rate, self.frames / 10)):
            raise UserError(f"{self.source}: damaged: {read} of its {self.frames} frames could be read, and were done")


@contextmanager
def open_video(source: Path | int) -> Iterator[Video]:
    """Open a video file, or the webcam of a number.

    Raises:
        UserError: The file is missing, unreadable or no video, or there is no such webcam.
    """
    with quiet():
        if isinstance(source, int):
            capture = cv2.VideoCapture(source)
        else:
            # By its absolute path: FFmpeg would take what stands before a colon for a protocol.
            capture = cv2.VideoCapture(_utf8(os.path.abspath(source)), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UserError(f"{source}: {_why_not(source)}")
        rate, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        yield Video(
            source,
            rate if 0 < rate <= 1000 else _USUAL_RATE,
            int(frames) if not isinstance(source, int) and 0 < frames < 2**53 else None,
            capture,
        )
    finally:
        capture.release()


def _why_not(source: Path | int) -> str:
    """What is wrong with a source that OpenCV does not open."""
    if isinstance(source, int):
        return f"no file of this name, and webcam {source} cannot be opened"
    try:
        with open(source, "rb") as file:
            return "not a video, or a damaged one" if file.read(1) else "the file is empty"
    except OSError as error:
        return str(error.strerror)


@contextmanager
def writing_video(
    path: str | os.PathLike[str],
    rate: float,  # frames a second
    size: tuple[int, int],  # (H, W) of every frame; those of another are resized
) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an MPEG-4 video from [H, W, 3] uint8 RGB frames; it appears whole or not at all.

    The format holds no odd row or column: the last is left out.

    Raises:
        NotEncodable: A video cannot be of this size.
        UserError: It cannot be written.
    """
    height, width = size
    written = 0
    with replacing_by_name(path, ".mp4") as part:
        part.touch()  # OpenCV does not say what an OSError says
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        with quiet():
            writer = cv2.VideoWriter(_utf8(str(part)), cv2.CAP_FFMPEG, codec, rate, (width, height))
        if not writer.isOpened():
            raise NotEncodable(f"{path}: no MPEG-4 video can be of {width}x{height} pixels")

        def add(frame: np.ndarray) -> None:
            nonlocal written
            if frame.shape[:2] != size:
                frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            written += 1

        try:
            yield add
        finally:
            writer.release()
        if (held := _count_frames(part)) != written:  # OpenCV does not tell that writing failed
            raise UserError(f"{path}: cannot be written: holds {held} of {written} frames; is the disk full?")


def _count_frames(path: Path) -> int:
    try:
        with open_video(path) as video:
            return video.frames or 0
    except UserError:
        return 0


def _utf8(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:  # OpenCV would crash
        raise UserError(f"{path}: a video's name must be UTF-8") from error
    return path
