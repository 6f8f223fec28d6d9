"""Pictures on disk: finding, reading and writing them; every fault is a UserError that names the file.

Pillow reads, OpenCV does the rest. OpenCV's JPEG reader answers a truncated or damaged file with a picture whose rest
is grey, and its codecs print to stderr what went wrong; Pillow raises and prints nothing. The pixels are the same (both
decode with libjpeg-turbo), and a 640x480 JPEG takes 5.8 ms instead of 4.7.
"""

from __future__ import annotations

import glob
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeGuard

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from yolact.errors import NotEncodable, UserError
from yolact.files import replacing

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2", ".avif")
VIDEO_SUFFIXES = (
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"),
    *(".ts", ".mts", ".m2ts"),
)
WRITABLE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"
_QUIET = threading.Lock()  # the levels of printing are the process's
_COCO_NAME = re.compile(r"(?:COCO_\w+_)?(\d{12})")


def find_sources(sources: Iterable[str | os.PathLike[str]]) -> list[Path | int]:
    """The pictures and videos that files, folders and glob patterns name, in the order given, each of them once.

    A folder gives those directly in it and a pattern those that match, known by suffix and in natural order (2 before
    10); any other file is a picture whatever it is called. A number that is no file's name is a webcam's.

    Raises:
        UserError: An empty name, a folder or a pattern without pictures or videos, or a webcam beside something else.
    """
    found: dict[str, Path | int] = {}
    for source in map(str, sources):
        if not source:  # a shell's unset variable, which Path would take for the current folder
            raise UserError("a source is empty; give pictures, videos, folders or patterns")
        if source.isdecimal() and len(source) < 4 and not os.path.lexists(source):
            found[source] = int(source)
            continue
        try:
            for path in _expand(Path(source)):
                found.setdefault(os.path.abspath(path), path)
        except OSError as error:
            raise UserError(f"{source}: {error.strerror}") from error
    webcams = [source for source in found.values() if isinstance(source, int)]
    if webcams and len(found) > 1:
        raise UserError(f"{webcams[0]}: is a webcam, which has no end; give it alone")
    return list(found.values())


def _expand(source: Path) -> list[Path]:
    if source.is_dir():
        candidates = [path for path in source.iterdir() if not path.name.startswith(".")]
        fault = "the folder holds no pictures or videos"
    elif not source.exists() and glob.has_magic(str(source)):
        candidates = [Path(path) for path in glob.glob(str(source), recursive=True)]
        fault = "no picture or video matches this pattern"
    else:
        return [source]
    known = PICTURE_SUFFIXES + VIDEO_SUFFIXES
    files = [path for path in candidates if path.suffix.lower() in known and path.is_file()]
    if not files:
        raise UserError(f"{source}: {fault}")
    return sorted(files, key=_natural)


def is_picture(source: Path | int) -> TypeGuard[Path]:
    """Not a video nor a webcam."""
    return isinstance(source, Path) and source.suffix.lower() not in VIDEO_SUFFIXES


def _natural(path: Path) -> list[tuple[int, str]]:
    """Digits count as numbers: picture2 before picture10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), part) if part.isdecimal() else (0, part) for part in parts]


def image_id(path: Path, position: int) -> int:
    """The number in a COCO file name (000000005001.jpg, COCO_val2014_000000005001.jpg), else the 1-based position.

    Positions may repeat numbers where a run mixes both kinds of names.
    """
    name = _COCO_NAME.fullmatch(path.stem)
    return int(name[1]) if name else position


def read_picture(path: str | os.PathLike[str], *, upright: bool = True) -> np.ndarray:
    """Read a picture file as [H, W, 3] uint8 RGB, turned upright as its EXIF orientation says, or as it is stored.

    Grey becomes three equal channels, 16 bits keep their upper 8, CMYK and palettes are converted, alpha is dropped (as
    the original does; nothing is blended), and of an animation the first frame is read.

    Raises:
        UserError: The file is missing, unreadable, truncated, damaged or no picture, or larger than Pillow takes for
            honest: about 179 million pixels, twice `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if upright:
                ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        empty = os.path.getsize(path) == 0
        raise UserError(f"{path}: {'the file is empty' if empty else 'not a picture, or a damaged one'}") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(f"{path}: more than {most} pixels; PIL.Image.MAX_IMAGE_PIXELS sets half of that") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or f'damaged picture ({error})'}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise UserError(f"{path}: damaged picture ({' '.join(str(error).split())})") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise UserError("pixels that are floating-point numbers have no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey, also as 32-bit integers; Pillow's own conversion would clip at 255
        grey = (np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make sure that a folder is there and can be written to.

    Raises:
        UserError: It is not, or cannot.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: the folder cannot be made ({error.strerror})") from error
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        raise UserError(f"{path}: the folder cannot be written to")


@contextmanager
def quiet() -> Iterator[None]:
    """Meanwhile neither OpenCV nor FFmpeg print what is told as a fault; who sets their variables decides."""
    log = getattr(cv2.utils, "logging", cv2)  # OpenCV before 4.13
    with _QUIET, ExitStack() as before:
        if _FFMPEG_LEVEL not in os.environ:  # read when a video is opened
            os.environ[_FFMPEG_LEVEL] = "-8"
            before.callback(os.environ.pop, _FFMPEG_LEVEL, None)
        if "OPENCV_LOG_LEVEL" not in os.environ:
            before.callback(log.setLogLevel, log.getLogLevel())
            log.setLogLevel(0)
        yield


def write_picture(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Write an [H, W, 3] uint8 RGB picture in the format of the path's suffix; the file appears whole or not at all."""
    path = Path(path)
    try:
        with quiet():
            encoded, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:
        encoded = False
    if not encoded:
        height, width, _ = picture.shape
        if path.suffix.lower() in WRITABLE_SUFFIXES:
            raise NotEncodable(f"{path}: no {path.suffix} file can hold {width}x{height} pixels")
        raise UserError(f"{path}: cannot write a picture with the suffix {path.suffix!r}; .png and .jpg always work")
    with replacing(path) as file:
        file.write(data.tobytes())
