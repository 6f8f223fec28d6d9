"""A picture in, instances out: the whole way in one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from yolact import ops
from yolact.config import Config
from yolact.engine import PRECISIONS, SCORES, Engine, Network, Score
from yolact.engine.engine import Ready
from yolact.engine.inputs import Picture, batches
from yolact.engine.rescoring import rescore
from yolact.engine.results import Sent, pack_rows, row_names
from yolact.engine.threads import ThreadTuner
from yolact.engine.transfer import in_flight, upload
from yolact.instances import PER_ROW, Instances, OnHost
from yolact.models.yolact import Yolact
from yolact.ops._checks import check_choice, check_count, check_number
from yolact.structures import Detections, RawOutputs, Rows


class Model(Yolact):
    """YOLACT (Bolya et al., 2019) from pictures to instances; build one with `yolact.load` or `yolact.create`."""

    def __init__(self, config: Config, *, freeze_batch_norm: bool = False) -> None:
        self._engine = Engine()
        super().__init__(config, freeze_batch_norm=freeze_batch_norm)

    def train(self, mode: bool = True) -> Model:
        if mode != self.training:
            self._engine.clear()  # its memory is free for training; and what changes unseen does so between the two
        super().train(mode)
        return self

    def predict(
        self,
        pictures: Picture | Iterable[Picture],
        *,
        score_threshold: float = 0.15,
        score: Score | None = None,
        batch_size: int = 1,
        precision: str = "auto",
        **detect_options: Any,
    ) -> list[Instances]:
        """Find the instances of pictures, whatever their sizes, as in inference mode; training goes on as it was.

        The network runs as a copy made for that: batch norm folded into the convolutions, channels last, on a CPU
        through oneDNN's fused primitives. It is made at the first call and again after the weights changed, and takes
        their memory once more.

        Args:
            pictures: one or several: a path, an [H, W, 3] uint8 RGB array, or a uint8 tensor [H, W, 3] or [3, H, W].
            score_threshold: 0..1; what scores above it is returned. `detect` works with the configuration's own, 0.05.
            score: the one that counts, orders and becomes `scores`: "box", or of a model that predicts how well masks
                fit (YOLACT++) "mask", the box's score times the IoU predicted, which is the default there. A mask
                counts where its box scores above the threshold as well, as in the original, and is among the best
                `max_detections` boxes.
            batch_size: pictures that go through the network together.
            precision: of the network: "fp32", "fp16", "bf16", or "auto": float16 on a GPU, bfloat16 on a CPU that
                multiplies it natively, else float32. Published numbers are counted in "fp32".
            detect_options: options of `yolact.ops.detect` other than the configuration's: `max_detections`,
                `iou_threshold`, `across_classes`, ...

        Returns:
            One `Instances` a picture, in order; inside, by falling score.

        Raises:
            UserError: a file cannot be read.
            TypeError, ValueError: a picture of another type, dtype or shape, an option out of range, or a score that
                the model does not give.
        """
        options = {"score": score, "batch_size": batch_size, "precision": precision, **detect_options}
        return list(self.stream(pictures, score_threshold=score_threshold, **options))

    def stream(
        self,
        pictures: Picture | Iterable[Picture],
        *,
        score_threshold: float = 0.15,
        score: Score | None = None,
        batch_size: int = 1,
        precision: str = "auto",
        **detect_options: Any,
    ) -> Iterator[Instances]:
        """`predict`, a result at a time: for videos and folders of any length.

        Takes from `pictures` only what the next batch needs: on a CPU when the results before it have been given, on a
        GPU a batch earlier, so that it is read and uploaded while the device works. Arguments, results and errors are
        those of `predict`; arguments are checked now, pictures as they come.
        """
        score_threshold = check_number(score_threshold, "score_threshold", 0, 1)
        score = self.which_score(score)
        batch_size = check_count(batch_size, "batch_size")
        check_choice(precision, "precision", PRECISIONS)
        if isinstance(pictures, (str, os.PathLike, np.ndarray, Tensor)) or not isinstance(pictures, Iterable):
            pictures = [pictures]
        device = self.priors.device
        begun = (
            self._begin(batch, score_threshold, score, precision, detect_options)
            for batch in batches(iter(pictures), batch_size, device)
        )
        return in_flight(begun, ahead=1 if device.type == "cuda" else 0)

    @torch.inference_mode(False)  # nothing in place could be done to what is kept from a caller's inference mode
    @torch.no_grad()
    def _begin(
        self,
        pictures: list[Tensor],  # B x [H, W, 3] uint8
        score_threshold: float,
        score: Score,
        precision: str,
        detect_options: dict[str, Any],
    ) -> Callable[[], list[Instances]]:
        """Ask the device for a batch; calling what is returned waits for it."""
        ready, device = self._engine.ready(self, precision), self.priors.device
        sizes = torch.tensor([picture.shape[:2] for picture in pictures], device="cpu")  # [B, 2]
        known = device.type == "cpu" and ready.replays is None  # to the host, what is computed
        way = partial(self._way, ready, score_threshold, score, detect_options, known)
        if known:
            given = [picture[None] for picture in self._resized(pictures)]
            found = self._engine.tuned(partial(way, sizes, *given), len(pictures))
            return partial(self._make, pictures, found)

        def work(*inputs: Tensor) -> tuple[Tensor, ...]:
            rows = way(*inputs)
            masks = rows.prototypes, rows.coefficients, rows.relative_boxes
            return pack_rows(rows, ops.assemble_run_lengths(*masks, inputs[0], count=rows.count))

        sizes_there, *there = upload([sizes, *self._resized(pictures)], device)
        inputs = [sizes_there[0], *there]
        take = partial(Sent, pictures, row_names(self.maskiou_net is not None))
        if ready.replays is None:
            sent = take(work(*inputs))
        else:
            key = score_threshold, score, repr(sorted(detect_options.items())), *(tensor.shape for tensor in inputs)
            sent = ready.replays.run(key, work, inputs, take)
        return lambda: [self._instances(one.picture, one.tensors, one.on_host) for one in sent.wait()]

    def _way(
        self,
        ready: Ready,
        score_threshold: float,
        score: Score,
        detect_options: dict[str, Any],
        ragged: bool,  # see `rescore`
        sizes: Tensor,  # [B, 2] int64, (H, W)
        *pictures: Tensor,  # [n, H, W, 3] uint8 each, B in all
    ) -> Rows:
        """From pictures to all that instances are made of, without a wait for the device."""
        images = self._normalised(pictures)  # [B, 3, S, S]
        with torch.autocast(images.device.type, enabled=False):  # the precision asked for, whatever surrounds this
            raw = ready.network(images)  # deltas, logits, coefficients [B, P, .], prototypes [B, h, w, K]
            found = self.detect(raw, **detect_options)  # boxes [B, D, 4], label, score, prior [B, D], count [B]
            rows = self.rows(raw, found, sizes, score_threshold)  # the same, boxes in pixels, coefficients [B, D, K]
            if ready.mask_iou is None:
                return rows
            return rescore(rows, ready.mask_iou, score, score_threshold, ragged=ragged)  # box and mask scores [B, D]

    def choose_threads(self) -> None:
        """Find torch's number of threads on the first batches to come, and leave it at the fastest; not for a GPU.

        For a program that the process belongs to, as the command line does: it changes a setting of the whole process,
        which `predict` alone never does.
        """
        if self.priors.device.type == "cpu":
            self._engine.tuner = ThreadTuner()

    def network(self, precision: str = "auto") -> Network:
        """The network as `predict` runs it: a function of preprocessed images [B, 3, S, S], good for these weights.

        Raises:
            ValueError: there is no such precision.
        """
        return self._engine.ready(self, precision).network

    def preprocess(self, pictures: list[np.ndarray]) -> Tensor:  # [B, 3, S, S]
        """Pictures [H, W, 3] uint8 RGB of any sizes to the network's normalised input."""
        given = self._resized([torch.from_numpy(picture) for picture in pictures])
        return self._normalised([picture[None].to(self.priors.device) for picture in given])

    def detect(self, raw: RawOutputs, **options: Any) -> Detections:
        """Threshold, decode and Fast NMS (section 4 of the paper), with the configuration's options unless given."""
        return ops.detect(raw.box_deltas, raw.class_logits, raw.priors, **{**self.config.detect.kwargs(), **options})

    def which_score(self, score: Score | None = None) -> Score:
        """The score that counts in `predict`, which documents it: the one asked for, or the model's own.

        Raises:
            ValueError: there is no such score, or the model has no net that scores masks.
        """
        if score is None:
            return "box" if self.maskiou_net is None else "mask"
        check_choice(score, "score", SCORES)
        if score == "mask" and self.maskiou_net is None:
            raise ValueError(f"score must be 'box': {self.config.name} does not score masks, got {score!r}")
        return score

    def instances(
        self,
        pictures: list[np.ndarray],
        raw: RawOutputs,
        found: Detections,
        score_threshold: float,
        score: Score | None = None,
    ) -> list[Instances]:
        """What scores above the threshold in each picture, with what its masks are made from."""
        sizes = torch.tensor([picture.shape[:2] for picture in pictures]).to(found.boxes.device)
        rows = self.rows(raw, found, sizes, score_threshold)
        if self.maskiou_net is not None and (mask_iou := self._engine.ready(self, "auto").mask_iou) is not None:
            rows = rescore(rows, mask_iou, self.which_score(score), score_threshold, ragged=True)
        return self._make([torch.from_numpy(picture) for picture in pictures], rows)

    def _resized(self, pictures: list[Tensor]) -> list[Tensor]:
        """Pictures as they go to the device."""
        if self.config.preprocessing.resize != "uint8":
            return pictures
        size = (self.config.size, self.config.size)  # mmdetection's way: OpenCV resizes in fixed point, as nothing else
        return [torch.from_numpy(cv2.resize(picture.cpu().numpy(), size)) for picture in pictures]

    def _normalised(self, pictures: Sequence[Tensor]) -> Tensor:  # [n, H, W, 3] uint8 each -> [B, 3, S, S]
        how = self.config.preprocessing
        images = [ops.preprocess(given, self.config.size, how.mean, how.std) for given in pictures]
        return (images[0] if len(images) == 1 else torch.cat(images)).to(next(self.parameters()).dtype)

    def rows(
        self,
        raw: RawOutputs,
        found: Detections,
        sizes: Tensor,  # [B, 2] int64, (H, W)
        score_threshold: float,
    ) -> Rows:
        """What scores above the threshold, boxes in pixels, with what masks are made from; no wait for the device."""
        kept = found.label >= 0  # [B, D], rows that hold something
        if score_threshold > 0:
            kept = kept & (found.score > score_threshold)
        channels = raw.mask_coefficients.shape[2]
        priors = found.prior.clamp(min=0)[..., None].expand(-1, -1, channels)  # [B, D, K]
        edges = sizes.flip(1).repeat(1, 2)[:, None].float()  # [B, 1, 4] width, height, width, height
        pixels = found.boxes * edges
        if self.config.integer_boxes:
            pixels = pixels.trunc()
        return Rows(
            count=kept.sum(1),
            labels=found.label,
            scores=found.score,
            box_scores=None,
            mask_scores=None,
            boxes=pixels.nan_to_num(0.0).clamp(min=0.0).minimum(edges),
            relative_boxes=found.boxes,
            coefficients=raw.mask_coefficients.gather(1, priors).float(),
            prototypes=raw.prototypes.float(),
        )

    def _make(
        self,
        pictures: list[Tensor],  # B x [H, W, 3] uint8
        rows: Rows,
    ) -> list[Instances]:
        made = []
        for b, (picture, count) in enumerate(zip(pictures, rows.count.tolist(), strict=True)):
            there = [(name, tensor) for name in PER_ROW if (tensor := getattr(rows, name)) is not None]
            per_row = {name: tensor[b, :count].clone() for name, tensor in there}
            made.append(self._instances(picture, {**per_row, "prototypes": rows.prototypes[b].clone()}))
        return made

    def _instances(self, picture: Tensor, tensors: dict[str, Tensor], on_host: OnHost | None = None) -> Instances:
        names, ids = self.config.class_names, self.config.category_ids
        return Instances(**tensors, picture=picture.numpy(), class_names=names, category_ids=ids, on_host=on_host)
