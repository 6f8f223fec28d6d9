"""What `yolact predict` does: pictures and videos in, annotated ones and COCO results out.

Three stages go on at once: a thread decodes, this one runs the model, and a thread draws, encodes and writes; a few
frames wait between them, however long a video is.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from yolact.errors import NotEncodable, UserError
from yolact.files import telling, writing_list
from yolact.instances import Instances
from yolact.pictures import WRITABLE_SUFFIXES, image_id, is_picture, make_folder, read_picture
from yolact.pipeline import reading_ahead, writing_behind
from yolact.predictor import Model
from yolact.report import Report
from yolact.signals import kept_signals
from yolact.video import open_video, writing_video

Source = Path | int  # a file, or a webcam's number
Tell = Callable[[UserError], None]  # of a source that is not done, or not wholly, while the others are
STDOUT = Path("-")  # for a file of results: a line each, as they come


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture, or one of a video."""

    pixels: np.ndarray  # [H, W, 3] uint8 RGB
    source: Source
    image_id: int
    place: dict[str, float]  # in its video: "frame", from 0, and "seconds"; a picture has none
    rate: float = 0.0  # of its video, frames a second


@dataclass
class Outcome:
    """What a run has done."""

    pictures: int = 0
    frames: int = 0  # of videos
    instances: int = 0
    failed: int = 0  # sources that could not be read, or not wholly, or not be annotated
    dropped: int = 0  # frames of a webcam that came too fast
    seconds: float = 0.0
    signal: int | None = None  # what ended it before its end


def run(
    model: Model,
    sources: Sequence[Source],
    output: Path | None,  # folder of the annotated pictures and videos
    results_file: Path | None,
    report: Report | None = None,  # of the pictures: videos are left out
    *,
    batch_size: int,
    **options: Any,  # of `Model.stream`
) -> Outcome:
    """Predict on pictures and videos; one that cannot be read or annotated is told on stderr, and the rest are done.

    SIGINT and SIGTERM end the input: what has been begun is finished, and files hold the frames done until then. An
    error leaves no file that is not whole.

    Raises:
        UserError: A file or a folder cannot be written to, or the output would overwrite a file of the input.
    """
    targets = _targets(sources, output) if output else {}
    files = [file for file in (results_file, report and report.path) if file and file != STDOUT]
    keep_apart(sources, [*targets.values(), *files])
    folders = [*([output] if output else []), *(file.parent for file in files)]
    live = isinstance(sources[0], int)
    outcome, begun = Outcome(), time.perf_counter()
    waiting: deque[Frame] = deque()  # those that the model has been given
    faults: list[UserError] = []

    def tell(fault: UserError) -> None:
        faults.append(fault)
        progress.write(f"yolact: {' '.join(str(fault).split())}", file=sys.stderr)

    def feed(frames: Iterable[Frame]) -> Iterator[np.ndarray]:
        for number, frame in enumerate(frames):
            if signals:
                return
            for folder in folders if number == 0 else ():  # there is something to write, and no work done yet
                make_folder(folder)
            waiting.append(frame)
            yield frame.pixels

    def write(done: Iterator[tuple[Frame, Instances]]) -> None:
        _write(done, targets, results_file, report, tell)

    pictures = sum(map(is_picture, sources))
    unit = " pictures" if pictures == len(sources) else " frames"
    with (
        kept_signals() as signals,
        tqdm(total=pictures, unit=unit, disable=not sys.stderr.isatty()) as progress,
        reading_ahead(_read(sources, progress, tell), 1 if live else batch_size + 1, newest=live) as frames,
        writing_behind(write, batch_size + 1) as written,
    ):
        for found in model.stream(feed(frames), batch_size=batch_size, **options):
            frame = waiting.popleft()
            written.put((frame, found))
            outcome.pictures += not frame.place
            outcome.frames += bool(frame.place)
            outcome.instances += len(found)
            progress.update()
    outcome.failed, outcome.dropped, outcome.signal = len(faults), frames.dropped, next(iter(signals), None)
    outcome.seconds = time.perf_counter() - begun
    return outcome


def _read(sources: Iterable[Source], progress: tqdm, tell: Tell) -> Generator[Frame, None, None]:
    """The frames of all sources that can be read."""
    position = 0
    for source in sources:
        try:
            if is_picture(source):
                position += 1
                yield Frame(read_picture(source), source, image_id(source, position), {})
                continue
            with open_video(source) as video:
                if progress.total is not None:
                    progress.total = progress.total + video.frames if video.frames else None
                for number, (seconds, pixels) in enumerate(video):
                    position += 1
                    place = {"frame": number, "seconds": round(seconds, 3)}
                    yield Frame(pixels, source, position, place, video.rate)
        except UserError as fault:
            tell(fault)


def _write(
    done: Iterator[tuple[Frame, Instances]],
    targets: dict[Source, Path],
    results_file: Path | None,
    report: Report | None,
    tell: Tell,
) -> None:
    """Write what is found in each frame as it comes; files are opened when there is something to write."""
    if (first := next(done, None)) is None:
        return
    with (
        writing_results(results_file) if results_file else nullcontext() as add,
        report.writing() if report else nullcontext() as page,
    ):
        for source, frames in groupby(chain([first], done), key=lambda item: item[0].source):
            begin = next(frames)
            with _annotating(begin[0], targets.get(source), tell) as annotate:
                for frame, found in chain([begin], frames):
                    results = found.to_coco(frame.image_id) if add or page else []
                    if add and results:
                        names = [{"category_name": name} for name in found.names]
                        place = {"file_name": _name(source), **frame.place}
                        add([{**result, **name, **place} for result, name in zip(results, names, strict=True)])
                    if page and is_picture(source):
                        page.add(_name(source), found.picture, results, found.classes)
                    annotate(frame, found)


@contextmanager
def _annotating(first: Frame, target: Path | None, tell: Tell) -> Iterator[Callable[[Frame, Instances], None]]:
    """Draw what is found in the frames of a source into a file of its kind, if that can hold them."""
    if target is None:
        yield lambda frame, found: None
    elif is_picture(first.source):

        def save(frame: Frame, found: Instances) -> None:
            try:
                found.save(target)
            except NotEncodable as fault:
                tell(fault)

        yield save
    else:
        with ExitStack() as opened:
            add = None
            try:
                add = opened.enter_context(writing_video(target, first.rate, first.pixels.shape[:2]))
            except NotEncodable as fault:
                tell(fault)
            written = 0

            def annotate(frame: Frame, found: Instances) -> None:
                nonlocal written
                if add is None:
                    return
                times = 1
                if isinstance(first.source, int):  # at the rate at which they came: each stays until the next
                    times = round((frame.place["seconds"] - first.place["seconds"]) * first.rate) + 1 - written
                drawn = found.plot()
                for _ in range(times):
                    add(drawn)
                    written += 1

            yield annotate


@contextmanager
def writing_results(path: Path) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Write COCO results, a line each: a list, whole or not at all, or as they come, to `.jsonl` or `STDOUT`."""
    if path == STDOUT:
        yield partial(_append, sys.stdout, "standard output")
    elif path.suffix.lower() == ".jsonl":
        with telling(path), open(path, "w") as file:
            yield partial(_append, file, path)
    else:
        with writing_list(path) as add_line:

            def add(results: list[dict[str, Any]]) -> None:
                for result in results:
                    add_line(json.dumps(result).encode())

            yield add


def _append(file: TextIO, name: str | Path, results: list[dict[str, Any]]) -> None:
    with telling(name):
        file.writelines(f"{json.dumps(result)}\n" for result in results)
        file.flush()


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """Write a COCO results list, a line a result."""
    with writing_results(path) as add:
        add(results)


def _name(source: Source) -> str:
    return f"webcam{source}" if isinstance(source, int) else source.name


def _targets(sources: Sequence[Source], output: Path) -> dict[Source, Path]:
    """Where each annotated file goes: under its own name, numbered where folders share one."""
    targets: dict[Source, Path] = {}
    taken: set[str] = set()
    for source in sources:
        path = Path(_name(source))
        suffix = (path.suffix if path.suffix.lower() in WRITABLE_SUFFIXES else ".png") if is_picture(source) else ".mp4"
        names: Iterator[str] = (f"{path.stem}{'' if n == 1 else f'-{n}'}{suffix}" for n in range(1, len(sources) + 1))
        name = next(name for name in names if name.lower() not in taken)
        taken.add(name.lower())
        targets[source] = output / name
    return targets


def keep_apart(sources: Sequence[Source], written: list[Path]) -> None:
    """No file that is written may be one of the input, nor two of them one file."""
    taken = {os.path.realpath(source) for source in sources if isinstance(source, Path)}
    for path in written:
        if os.path.realpath(path) in taken:
            raise UserError(f"{path}: is a file of the input, or annotated, and would be overwritten; choose another")
        taken.add(os.path.realpath(path))
