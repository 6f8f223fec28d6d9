"""What the network is worth on pictures that it does not learn from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolact.distributed import broadcast_from_main, failing_together, is_main
from yolact.errors import UserError
from yolact.evaluation import Scores, evaluate
from yolact.evaluation.coco import load_evaluator
from yolact.evaluation.detection import read_pictures
from yolact.evaluation.parts import detect_to_file, remove_parts
from yolact.models.checkpoint import save_checkpoint
from yolact.train.build import read_dataset
from yolact.train.state import RunState

BEST = "best.pth"  # the weights of the best validation so far, in the run's folder
RESULTS = ".validation.json"  # what is detected, while it is being counted


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

    def score(
        self, state: RunState, folder: Path, at_once: int, going_on: Callable[[], bool]
    ) -> dict[str, Scores] | None:
        """COCO's numbers; the weights are kept in the run's folder where no mask AP before was as high.

        Every process calls it and detects on its share of the pictures, with the main one's weights; that one counts.
        The numbers are those that it would get alone: to the bit on a CPU, where a picture's results do not depend on
        those beside it; on a GPU another number of processes, and so of pictures at once, may round otherwise.

        Args:
            at_once: pictures that each process takes at a time.
            going_on: see `detect_to_file`.

        Returns:
            "bbox" and "segm" in the main process, {} in the others; None in all if not to go on.
        """
        # What predicting keeps beside the weights goes with the copy, and nothing of the training is touched.
        model = copy.deepcopy(state.result).eval()
        broadcast_from_main(model.state_dict().values())  # batch norm's statistics may be each process's own
        results = folder / RESULTS
        remove_parts(results)  # of weights that are no more, from a run that was killed
        with failing_together():
            pictures = read_pictures(model, self.annotations, self.images, self.class_agnostic)
        if not detect_to_file(model, pictures, results, batch_size=at_once, going_on=going_on):
            return None
        scores = {}
        with failing_together():
            if is_main():
                scores = evaluate(results, self.annotations, classes=self.classes, class_agnostic=self.class_agnostic)
                results.unlink()
                if scores["segm"]["AP"] > state.best:
                    state.best = scores["segm"]["AP"]
                    save_checkpoint(folder / BEST, state.result, half=True)
        return scores
