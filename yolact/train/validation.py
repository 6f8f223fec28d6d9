"""What the network is worth on pictures that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from yolact.errors import UserError
from yolact.evaluation import Scores, detect_dataset, evaluate
from yolact.evaluation.coco import load_evaluator
from yolact.models.checkpoint import save_checkpoint
from yolact.train.build import read_dataset
from yolact.train.state import RunState

BEST = "best.pth"  # the weights of the best validation so far, in the run's folder


@dataclass(frozen=True, eq=False)
class Validation:
    """A data set to score the network on, as it was trained: for some classes alone, or for all as one."""

    annotations: str | Path
    images: str | Path
    classes: Sequence[str]
    class_agnostic: bool

    def check(self, category_ids: Sequence[int]) -> None:
        """Read the data set, so that its faults are told now and not after hours of training.

        Args:
            category_ids: those trained.

        Raises:
            UserError: one of them, or it lacks a category or any object; or there is nothing to count with.
        """
        load_evaluator("pycocotools")
        dataset = read_dataset(self.annotations, self.images, "stop", self.classes, self.class_agnostic)
        lacking = sorted(set(category_ids) - set(dataset.category_ids))
        if lacking:
            raise UserError(f"{self.annotations}: has no category ids {lacking}, which are trained")
        if not len(dataset.pictures.truths.labels):
            raise UserError(f"{self.annotations}: holds no object to score against")

    def score(self, state: RunState, folder: Path) -> dict[str, Scores]:
        """COCO's numbers; the weights are kept in the run's folder where no mask AP before was as high."""
        pictures = detect_dataset(state.result, self.annotations, self.images, class_agnostic=self.class_agnostic)
        results = list(chain.from_iterable(pictures))
        scores = evaluate(results, self.annotations, classes=self.classes, class_agnostic=self.class_agnostic)
        if scores["segm"]["AP"] > state.best:
            state.best = scores["segm"]["AP"]
            save_checkpoint(folder / BEST, state.result, half=True)
        return scores
