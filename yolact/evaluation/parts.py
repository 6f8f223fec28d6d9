"""What a model finds on a data set, written picture by picture: processes share the work, and a killed run goes on.

Each process appends to a part of its own beside the results file (`results.json.part0`, ...): a line that names the
weights, the pictures and the threshold, then a line a picture. When all pictures are done, the parts become the results
file, in the data set's order, and go. Only one batch's results are held in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from yolact.data.coco import CocoDataset
from yolact.distributed import failing_together, gather_from_processes, is_main, rank, world_size
from yolact.errors import UserError
from yolact.evaluation.detection import SCORE_THRESHOLD, detect_pictures
from yolact.files import telling, writing_list
from yolact.pictures import make_folder

if TYPE_CHECKING:
    from yolact.predictor import Model

Places = dict[int, tuple[Path, int]]  # by picture id: the part that its line is in, and where the line starts

ROUND = 8  # pictures of each process between two moments at which all ask each other whether to go on

_LINE = re.compile(rb'\{"image_id": (-?\d+), "results": \[(.*)\]\}\n')


def detect_to_file(
    model: Model,
    dataset: CocoDataset,
    path: Path,
    *,
    batch_size: int = 1,
    workers: int = 2,
    resume: bool = False,
    going_on: Callable[[], bool] = lambda: True,
) -> bool:
    """Detect on every picture of a data set and write COCO results, a line a picture; every process calls it.

    Args:
        model: on this process's device, the same weights in all of them.
        dataset: as `read_pictures` gives it.
        path: the file to write, in a folder that all processes see.
        batch_size: pictures that go through the network together, in each process.
        workers: threads that read pictures, in each process.
        resume: go on where a run was broken off, with however many processes.
        going_on: asked every few pictures, by all processes together and with one answer.

    Returns:
        Whether the file is written; if not, its parts are left to go on with.

    Raises:
        UserError: the file cannot be written, a picture does not read; there are parts of a broken-off run and
            `resume` is not set, or they are of other weights or pictures. In all processes, as `failing_together` does.
    """
    with failing_together():  # all have read the same parts when the first of them begins to write
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is not a file, and results cannot be gathered beside it")
        make_folder(path.parent)
        if not resume and (begun := _parts(path)):
            raise UserError(f"{begun[0]}: of an evaluation that was broken off; go on with --resume, or remove it")
        header = _header(model, dataset)
        done = _places(path, header)
    part = path.with_name(f"{path.name}.part{rank()}")
    if part.exists():
        os.truncate(part, _scan(part, header)[1])
    todo = [picture for picture in dataset.pictures if picture.id not in done]
    own = todo[rank() :: world_size()]
    quiet = not is_main() or not sys.stderr.isatty()
    with (
        tqdm(total=len(own), unit="picture", disable=quiet, leave=None) as bar,
        closing(detect_pictures(model, own, batch_size, workers)) as found,
    ):
        for _ in range(0, len(todo), ROUND * world_size()):
            if not going_on():
                return False
            with failing_together():
                for picture, results in islice(found, ROUND):
                    line = json.dumps({"image_id": picture.id, "results": results})
                    _append(part, header, line.encode() + b"\n")
                    bar.update()
    with failing_together():
        if is_main():
            _merge(path, dataset, _places(path, header))
    return True


def remove_parts(path: Path) -> None:
    """Take away what a broken-off run has left beside a results file; every process calls it."""
    with failing_together():
        for part in _parts(path) if is_main() else ():
            with telling(part):
                part.unlink()


@contextmanager
def results_path(wanted: Path | None) -> Iterator[Path]:
    """Where the processes write results: the file that is wanted, else one that goes away again."""
    if wanted is not None:
        yield wanted
        return
    with TemporaryDirectory(prefix="yolact-") as folder:
        yield Path(gather_from_processes(folder)[0]) / "results.json"


def _header(model: Model, dataset: CocoDataset) -> bytes:
    """The first line of a part: what must be the same for a run to go on with it."""
    weights = hashlib.sha256(repr(model.config).encode())
    for name, tensor in model.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    pictures = [(picture.id, picture.path.name, picture.height, picture.width) for picture in dataset.pictures]
    header = {
        "weights": weights.hexdigest(),
        "pictures": hashlib.sha256(repr(pictures).encode()).hexdigest(),
        "score_threshold": SCORE_THRESHOLD,
    }
    return json.dumps(header).encode() + b"\n"


def _parts(path: Path) -> list[Path]:
    name = re.compile(re.escape(path.name) + r"\.part\d+")
    return sorted(part for part in path.parent.iterdir() if name.fullmatch(part.name))


def _places(path: Path, header: bytes) -> Places:
    """Where the line of each picture that is done is."""
    return {id: (part, start) for part in _parts(path) for id, start in _scan(part, header)[0].items()}


def _scan(part: Path, header: bytes) -> tuple[dict[int, int], int]:
    """Where in a part each picture's line starts, and where the last whole line ends."""
    starts: dict[int, int] = {}
    end = 0
    with open(part, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):  # torn when its process was killed
                break
            if end == 0:
                if line != header:
                    raise UserError(f"{part}: was begun with other weights or pictures; remove it to begin anew")
            elif match := _LINE.fullmatch(line):
                starts[int(match[1])] = end
            else:
                raise UserError(f"{part}: does not read from byte {end} on; remove it to begin anew")
            end += len(line)
    return starts, end


def _append(part: Path, header: bytes, line: bytes) -> None:
    try:
        with open(part, "ab") as file:
            file.write(line if file.tell() else header + line)
    except OSError as error:
        raise UserError(f"{part}: cannot be written ({error.strerror})") from error


def _merge(path: Path, dataset: CocoDataset, places: Places) -> None:
    missing = [picture.id for picture in dataset.pictures if picture.id not in places]
    if missing:
        raise UserError(f"{path}: pictures {missing[:3]} are in no part; do all processes see this folder?")
    with writing_list(path) as add:
        for picture in dataset.pictures:
            part, start = places[picture.id]
            with open(part, "rb") as lines:
                lines.seek(start)
                match = _LINE.fullmatch(lines.readline())
            if match and match[2]:
                add(match[2])
    for part in _parts(path):
        part.unlink()
