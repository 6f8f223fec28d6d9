"""What a run tells while it works: to people, as JSON lines, to TensorBoard, and as curves."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from yolact.distributed import is_main, sum_over_processes
from yolact.errors import UserError
from yolact.files import replacing
from yolact.train.losses import TERMS

T = TypeVar("T")

print_line = partial(print, flush=True)

LOG = "log.jsonl"
CURVES = "curves.png"
QUIET = 30.0  # seconds between two lines of means where no terminal shows a bar


class RunLog:
    """Gathers what the steps say, and tells their means from time to time.

    Args:
        folder: the run's, where the log goes.
        start, stop: the iterations of this call.
        pictures: in a step.
        terms: of the loss, in the order in which a step returns them.
        log: told one line at a time; None: a progress bar on a terminal, lines elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        start: int,
        stop: int,
        pictures: int,
        terms: Sequence[str],
        log: Callable[[str], None] | None,
    ) -> None:
        self.folder, self.pictures, self.terms, self.log = folder, pictures, terms, log or print_line
        self.writer = _tensorboard(folder, start) if is_main() else None
        visible = log is None and is_main() and sys.stderr.isatty()
        self.bar = tqdm(total=stop, initial=start, unit="step", dynamic_ncols=True, disable=not visible)
        self.told: set[str] = set()
        self.said = -math.inf  # when the last line of means was
        self.unread: list[Tensor] = []  # what the steps returned, still on their device
        self._restart()

    def _restart(self) -> None:
        self.rows: list[list[float]] = []  # what the steps returned since the last line, of all processes
        self.waited = 0.0  # seconds, for batches
        self.began = time.monotonic()

    def say(self, line: str) -> None:
        """Tell a line, above the progress bar where there is one."""
        if is_main():
            (self.log if self.bar.disable else self.bar.write)(line)

    def say_once(self, line: str) -> None:
        """Tell a line that this process has not told before, whichever process it is."""
        if line not in self.told:
            self.told.add(line)
            (self.log if self.bar.disable else self.bar.write)(line)

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """The same, and how long each made the loop wait."""
        while True:
            start = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - start
            if batch is None:
                return
            yield batch

    def add(self, row: Tensor) -> None:
        """Take what a step returned, without looking at it."""
        self.unread.append(row)
        self.bar.update()

    def read(self) -> list[list[float]]:
        """The rows not looked at before, the terms summed over the processes; the one place that waits for a GPU."""
        if not self.unread:
            return []
        rows = torch.stack(self.unread)
        rows[:, :-1] = sum_over_processes(rows[:, :-1].contiguous())
        self.unread = []
        read: list[list[float]] = rows.tolist()
        self.rows += read
        return read

    def tell(self, iteration: int, rate: float) -> None:
        """Write the means since the last time."""
        count = len(self.rows)
        seconds = (time.monotonic() - self.began) / count
        *terms, norms = zip(*self.rows, strict=True)
        finite = [norm for norm in norms if math.isfinite(norm)]  # in fp16 some overflow, and their steps are left out
        line = {
            "iteration": iteration,
            "rate": rate,
            "seconds": seconds,
            **{name: sum(values) / count for name, values in zip(self.terms, terms, strict=True)},
            "gradient_norm": sum(finite) / len(finite) if finite else 0.0,
            "images_per_second": self.pictures / seconds,
            "data_wait": self.waited / count / seconds,  # share of the time
        }
        if torch.cuda.is_available():
            line["gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        text = "  ".join(f"{name} {value:.4g}" for name, value in line.items())
        self.bar.set_postfix_str(f"loss {sum(line[name] for name in self.terms):.4g}, rate {rate:.3g}")
        if self.bar.disable and (iteration == self.bar.total or time.monotonic() - self.said > QUIET):
            self.said = time.monotonic()
            self.say(text)
        self._write(line, "training")
        self._restart()

    def score(self, iteration: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Write what validation counted."""
        line = {f"{kind}_{metric}": value for kind, row in scores.items() for metric, value in row.items()}
        self.say(f"iteration {iteration}: box AP {line['bbox_AP']:.4f}, mask AP {line['segm_AP']:.4f}")
        self._write({"iteration": iteration, **line}, "validation")
        self.began = time.monotonic()  # the seconds are of training

    def close(self) -> None:
        """Nothing is told any more."""
        self.bar.close()
        if self.writer is not None:
            self.writer.close()

    def _write(self, line: Mapping[str, float], kind: str) -> None:
        if not is_main():
            return
        path = self.folder / LOG
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        if self.writer is not None:
            for name, value in line.items():
                self.writer.add_scalar(f"{kind}/{name}", value, line["iteration"])


def cut_log(folder: Path, iteration: int, unscored: bool) -> None:
    """Take out of the log what a run told after its last checkpoint: it will tell that again.

    Args:
        iteration: the checkpoint's.
        unscored: it was written before the validation of that iteration.
    """
    path = folder / LOG
    if path.exists():
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            lines = [line for line in lines if line.endswith("\n")]  # a full disk cuts the last one short
            kept = "".join(takewhile(lambda line: _is_before(json.loads(line), iteration, unscored), lines))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: is no log of a run; move it away to go on without it") from error
        with replacing(path) as file:
            file.write(kept.encode())


def _is_before(line: dict[str, float], iteration: int, unscored: bool) -> bool:
    return line["iteration"] < iteration + (not (unscored and "segm_AP" in line))


def draw_curves(folder: Path) -> None:
    """A picture of the log, where matplotlib is installed: the terms of the loss, and what validation counted."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    lines = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    panels = {"loss": (*TERMS, "mask_iou"), "rate": ("rate",), "average precision": ("bbox_AP", "segm_AP")}
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name in names:
            points = [(line["iteration"], line[name]) for line in lines if name in line]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 50 else "")
        axes.set(title=title, xlabel="iteration", yscale="log" if title == "loss" else "linear")
        if axes.lines:
            axes.legend()
    with replacing(folder / CURVES) as file:
        figure.savefig(file, format="png")


def _tensorboard(folder: Path, iteration: int) -> Any:
    """A writer for TensorBoard, where that is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    path = folder / "tensorboard"
    try:
        return SummaryWriter(path, purge_step=iteration + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
