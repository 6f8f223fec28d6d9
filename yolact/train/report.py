"""What stops a run whose loss is not finite, and what it leaves behind: the batch, to look at and as numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yolact.config import Config
from yolact.data.samples import SampleStream
from yolact.data.sheet import draw_sample
from yolact.distributed import is_main
from yolact.errors import UserError
from yolact.files import replacing
from yolact.pictures import make_folder, write_picture
from yolact.train.losses import term_names
from yolact.train.recipe import Schedule, rate_at

OVERFLOWS = 1.0  # the loss scale down to which a gradient that overflows is fp16's everyday


@dataclass(frozen=True, eq=False)
class FiniteGuard:
    """Looks at what the steps returned before anything made from them is written."""

    folder: Path  # the run's
    stream: SampleStream
    config: Config
    schedule: Schedule
    scaler: torch.amp.GradScaler

    def check(
        self,
        rows: Sequence[Sequence[float]],  # the terms of the loss and the gradient's norm, of the last iterations
        iteration: int,  # done so far
    ) -> None:
        """Report the batch of the first row that is not finite.

        Raises:
            UserError: there is one; names the folder of the report.
        """
        scaled = self.scaler.is_enabled() and self.scaler.get_scale() > OVERFLOWS
        for number, (*terms, norm) in enumerate(rows, iteration - len(rows)):
            if math.isfinite(sum(terms)) and (math.isfinite(norm) or scaled):
                continue
            rate = rate_at(number, self.config.train, self.schedule)
            facts = {
                "iteration": number + 1,
                "rate": rate,
                **dict(zip(term_names(self.config), terms, strict=True)),
                "gradient_norm": norm,
            }
            report = self.folder / f"not-finite-{number + 1}"
            if is_main():
                self._write(report, facts, number)
            told = ", ".join(f"{name} {value:.4g}" for name, value in facts.items())
            raise UserError(f"the loss is not finite any more ({told}): its batch is in {report}; try a lower rate")

    def _write(self, folder: Path, facts: dict[str, Any], iteration: int) -> None:
        """`report.json`, and each picture of the batch as the network saw it, its truths drawn on it."""
        make_folder(folder)
        batch_size = self.config.train.batch_size
        pictures = []
        for position in range(iteration * batch_size, (iteration + 1) * batch_size):
            picture = self.stream.picture(position)
            write_picture(folder / f"{position}.png", draw_sample(self.stream[position], self.config.class_names))
            pictures.append({"sample": f"{position}.png", "picture": picture.id, "file": str(picture.path)})
        values = {name: value if math.isfinite(value) else str(value) for name, value in facts.items()}
        with replacing(folder / "report.json") as file:
            file.write(json.dumps({**values, "pictures": pictures}, indent=1).encode())
