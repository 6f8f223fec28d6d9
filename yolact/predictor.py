"""A picture in, instances out: the whole way in one file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from yolact import ops
from yolact.config import Config, get_config
from yolact.devices import find_device
from yolact.engine import PRECISIONS, Engine, Network
from yolact.errors import UserError
from yolact.instances import Instances
from yolact.models.checkpoint import choose_config, load_into, read_checkpoint
from yolact.models.yolact import Yolact
from yolact.pictures import read_picture
from yolact.structures import Detections, RawOutputs

Picture = str | os.PathLike[str] | np.ndarray | Tensor  # a file; [H, W, 3] uint8 RGB; a tensor alike, or [3, H, W]

BUNDLED = Path(__file__).resolve().parent / "weights"


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
            batch_size: pictures that go through the network together.
            precision: of the network: "fp32", "fp16", "bf16", or "auto": float16 on a GPU, bfloat16 on a CPU that
                multiplies it natively, else float32. Published numbers are counted in "fp32".
            detect_options: options of `yolact.ops.detect` other than the configuration's: `max_detections`,
                `iou_threshold`, `across_classes`, ...

        Returns:
            One `Instances` a picture, in order; inside, by falling score.

        Raises:
            UserError: a file cannot be read.
            TypeError, ValueError: a picture of another type, dtype or shape, or an option out of range.
        """
        options = {"batch_size": batch_size, "precision": precision, **detect_options}
        return list(self.stream(pictures, score_threshold=score_threshold, **options))

    def stream(
        self,
        pictures: Picture | Iterable[Picture],
        *,
        score_threshold: float = 0.15,
        batch_size: int = 1,
        precision: str = "auto",
        **detect_options: Any,
    ) -> Iterator[Instances]:
        """`predict`, a result at a time: for videos and folders of any length.

        Takes from `pictures` only what the next batch needs, at most two batches beyond the results given; the
        arguments, results and errors are those of `predict`. Arguments are checked now, pictures as they come.
        """
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must be within [0, 1], got {score_threshold}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
        if isinstance(pictures, (str, os.PathLike, np.ndarray, Tensor)) or not isinstance(pictures, Iterable):
            pictures = [pictures]
        return self._stream(iter(pictures), score_threshold, batch_size, precision, detect_options)

    def _stream(
        self,
        pictures: Iterator[Picture],
        score_threshold: float,
        batch_size: int,
        precision: str,
        detect_options: dict[str, Any],
    ) -> Iterator[Instances]:
        while batch := [as_picture(picture) for picture in islice(pictures, batch_size)]:  # B x [H, W, 3] uint8
            with torch.no_grad():  # not while the caller has the results
                images = self.preprocess(batch)  # [B, 3, S, S]
                raw = self.network(precision)(images)  # deltas, logits, coefficients [B, P, .], prototypes [B, h, w, K]
                found = self.detect(raw, **detect_options)  # boxes [B, D, 4], label, score, prior [B, D], count [B]
                results = self.instances(batch, raw, found, score_threshold)
            yield from results

    def network(self, precision: str = "auto") -> Network:
        """The network as `predict` runs it: a function of preprocessed images [B, 3, S, S], good for these weights.

        Raises:
            ValueError: there is no such precision.
        """
        return self._engine.network(self, precision)

    def preprocess(self, pictures: list[np.ndarray]) -> Tensor:  # [B, 3, S, S]
        """Pictures [H, W, 3] uint8 RGB of any sizes to the network's normalised input."""
        how, size = self.config.preprocessing, self.config.size
        if how.resize == "uint8":  # mmdetection's way: OpenCV resizes in fixed point, and no other rounding equals that
            pictures = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR) for picture in pictures]
        device = self.priors.device
        images = [
            ops.preprocess(torch.from_numpy(picture)[None].to(device), size, how.mean, how.std) for picture in pictures
        ]
        return (images[0] if len(images) == 1 else torch.cat(images)).to(next(self.parameters()).dtype)

    def detect(self, raw: RawOutputs, **options: Any) -> Detections:
        """Threshold, decode and Fast NMS (section 4 of the paper), with the configuration's options unless given."""
        return ops.detect(raw.box_deltas, raw.class_logits, raw.priors, **{**self.config.detect.kwargs(), **options})

    def instances(
        self, pictures: list[np.ndarray], raw: RawOutputs, found: Detections, score_threshold: float
    ) -> list[Instances]:
        """What scores above the threshold in each picture, with what its masks are made from."""
        kept = found.label >= 0  # [B, D], rows that hold something
        if score_threshold > 0:
            kept &= found.score > score_threshold
        results = []
        for b, (picture, count) in enumerate(zip(pictures, kept.sum(1).tolist(), strict=True)):
            boxes, priors = found.boxes[b, :count], found.prior[b, :count]  # [N, 4], [N]: rows fall by score
            results.append(
                Instances(
                    boxes=self._in_pixels(boxes, picture),
                    scores=found.score[b, :count].clone(),
                    labels=found.label[b, :count].clone(),
                    coefficients=raw.mask_coefficients[b, priors].float(),
                    relative_boxes=boxes.clone(),
                    prototypes=raw.prototypes[b].to(torch.float32, copy=True),
                    picture=picture,
                    class_names=self.config.class_names,
                    category_ids=self.config.category_ids,
                )
            )
        return results

    def _in_pixels(
        self,
        boxes: Tensor,  # [N, 4] xyxy, fractions of the picture
        picture: np.ndarray,
    ) -> Tensor:  # [N, 4] xyxy, pixels inside the picture
        height, width, _ = picture.shape
        edges = boxes.new_tensor([width, height, width, height])
        pixels = boxes * edges
        if self.config.integer_boxes:
            pixels = pixels.trunc()
        return pixels.nan_to_num(0.0).clamp(min=boxes.new_zeros(4), max=edges)


def load(
    path_or_name: str | os.PathLike[str],
    device: str | torch.device | None = None,
    config: str | None = None,
    *,
    freeze_batch_norm: bool = False,
    num_classes: int | None = None,
) -> Model:
    """A model with trained weights, ready to predict.

    Args:
        path_or_name: a file of the original's, of mmdetection's or of ours, told apart by its keys; or the name of a
            bundled model, "yolact_lite0_dogcat".
        device: "cpu", "cuda", "cuda:1" or "auto", a GPU where there is one; None is the CPU.
        config: the configuration's name, where the keys cannot tell it.
        freeze_batch_norm: batch norm keeps its statistics and parameters, even when training.
        num_classes: another number of classes than the file's: all else is taken over, a warning lists what was left.

    Raises:
        UserError: the file is no checkpoint or does not fit, the configuration is unknown, or the device is not there.
    """
    place = find_device(device)
    checkpoint = read_checkpoint(_find_weights(path_or_name))
    model = Model(choose_config(checkpoint, config, num_classes), freeze_batch_norm=freeze_batch_norm)
    left = load_into(model, checkpoint)
    if left:
        warnings.warn(
            f"{checkpoint.path}: of another number of classes, so not taken over: {', '.join(left)}", stacklevel=2
        )
    return model.to(place).eval()


def create(
    config: str,
    num_classes: int | None = None,
    *,
    device: str | torch.device | None = None,
    freeze_batch_norm: bool = False,
) -> Model:
    """A model of a named configuration with random weights, ready to train; `load` describes the arguments.

    Raises:
        UserError: the configuration is unknown, or the device is not there.
    """
    place = find_device(device)
    return Model(get_config(config).with_num_classes(num_classes), freeze_batch_norm=freeze_batch_norm).to(place)


def as_picture(picture: Picture) -> np.ndarray:  # [H, W, 3] uint8 RGB
    """Read a file, or copy an array or a tensor: what an `Instances` keeps is its own."""
    if isinstance(picture, (str, os.PathLike)):
        return read_picture(picture)
    if isinstance(picture, Tensor):
        picture = picture.detach().cpu().numpy()
        if picture.ndim == 3 and picture.shape[0] == 3 and picture.shape[2] != 3:
            picture = picture.transpose(1, 2, 0)
    if not isinstance(picture, np.ndarray):
        raise TypeError(f"pictures must be paths, [H, W, 3] uint8 arrays or tensors, got {type(picture).__name__}")
    if picture.dtype != np.uint8:
        raise TypeError(f"pictures must be of dtype uint8, got {picture.dtype}")
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ValueError(f"pictures must be of shape [H, W, 3] (tensors also [3, H, W]), got {list(picture.shape)}")
    return np.array(picture, order="C")


def _find_weights(path_or_name: str | os.PathLike[str]) -> Path:
    path = Path(path_or_name)
    if os.path.exists(path) or path.suffix or path.name != str(path_or_name):
        return path
    bundled = {file.stem: file for file in BUNDLED.glob("*.pth")}
    if path.name not in bundled:
        raise UserError(f"{path}: no such file, nor a bundled model ({', '.join(bundled) or 'none is installed'})")
    return bundled[path.name]
