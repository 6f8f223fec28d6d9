"""Those who go the whole way from picture files to COCO results: ours, and what a user could pick instead.

A contender is a chain of stages, each taking what the one before gave.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from yolact.bench import eager
from yolact.export import export_onnx
from yolact.instances import Instances
from yolact.models.yolact import Yolact
from yolact.options import DetectOptions
from yolact.pictures import read_picture
from yolact.predictor import Model
from yolact.structures import Detections, RawOutputs

SCORE_THRESHOLD = 0.05  # COCO's evaluation asks for all above it
STAGES = ("decode", "preprocess", "network", "detect", "masks to RLE", "to JSON")
Stage = Callable[[Any], Any]
Network = Callable[[Tensor], tuple[Tensor, ...]]  # images -> deltas, logits, coefficients, prototypes


@dataclass(frozen=True)
class Contender:
    """One way from pictures, as a rule files, to a COCO results list, as a rule as JSON text."""

    name: str
    stages: dict[str, Stage]  # the first takes what there is of a batch, such as a list of paths
    whole: Stage | None = None  # the same in one call, where that is another way
    to_json: Stage = str  # what the last stage gives as JSON text
    ready: float = 0.0  # seconds to get ready: to compile, to export
    half: bool = False  # the network in half precision

    def __call__(self, given: Any) -> Any:
        if self.whole is not None:
            return self.whole(given)
        for stage in self.stages.values():
            given = stage(given)
        return given


def ours(model: Model, precision: str = "fp32") -> Contender:
    """`Model.predict`, and its steps one by one."""
    network = model.network(precision)

    def results(given: tuple[list[np.ndarray], RawOutputs, Detections]) -> list[Instances]:
        instances = model.instances(*given, SCORE_THRESHOLD)
        for found in instances:
            _ = found.rles
        return instances

    def whole(paths: list[Path]) -> str:
        found = model.predict(paths, score_threshold=SCORE_THRESHOLD, batch_size=len(paths), precision=precision)
        return json_of(found)

    stages: dict[str, Stage] = {
        "decode": lambda paths: [read_picture(path) for path in paths],
        "preprocess": lambda pictures: (pictures, model.preprocess(pictures)),
        "network": lambda given: (given[0], network(given[1])),
        "detect": lambda given: (*given, model.detect(given[1])),
        "masks to RLE": results,
        "to JSON": json_of,
    }
    half = precision != "fp32"
    return Contender(f"yolact, {precision}" if half else "yolact", stages, whole, half=half)


def json_of(instances: list[Instances]) -> str:
    """A COCO results list, a batch's pictures numbered from 1."""
    return json.dumps([row for number, found in enumerate(instances, 1) for row in found.to_coco(number)])


def why_no_peers(model: Model) -> str | None:
    """Why nobody else can be compared, in a line; None when they can."""
    if replace(model.config.detect, level_sizes=None) != DetectOptions():
        return f"{model.config.name} detects otherwise than the original, whose formulation the peers share"
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        return "pycocotools is not installed (pip install 'yolact[bench]')"
    return None


def original(name: str, model: Yolact, network: Network, ready: float = 0.0) -> Contender:
    """The original's steps in eager torch around a network, with pycocotools at the end."""
    from pycocotools import mask as coco

    config, device = model.config, model.priors.device
    how = config.preprocessing
    mean, std = (torch.tensor(values[::-1], device=device) for values in (how.mean, how.std))  # in OpenCV's order

    def decode(paths: list[Path]) -> list[np.ndarray]:
        return [np.asarray(cv2.imread(str(path))) for path in paths]

    def preprocess(pictures: list[np.ndarray] | Tensor) -> Any:  # a tensor [B, H, W, 3] is on the device already
        batch = pictures if isinstance(pictures, Tensor) else torch.from_numpy(np.stack(pictures)).to(device)
        images = eager.eager_preprocess(batch, (config.size, config.size), mean, std)
        return [tuple(batch.shape[1:3])] * len(batch), images[:, [2, 1, 0]].contiguous()

    def run(given: Any) -> Any:
        sizes, images = given
        return sizes, network(images)

    def detect(given: Any) -> Any:
        sizes, (deltas, logits, coefficients, prototypes) = given
        return sizes, prototypes, eager.eager_detect(deltas, logits, model.priors, coefficients)

    def masks(given: Any) -> Any:
        results = []
        for size, prototypes, (boxes, labels, scores, coefficients) in zip(*given, strict=True):
            keep = scores > SCORE_THRESHOLD
            boxes, labels, scores, coefficients = boxes[keep], labels[keep], scores[keep], coefficients[keep]
            if model.maskiou_net is not None and len(scores):
                scores = eager.eager_rescore(model.maskiou_net, prototypes, coefficients, boxes, labels, scores)
                keep = scores > SCORE_THRESHOLD
                boxes, labels, scores, coefficients = boxes[keep], labels[keep], scores[keep], coefficients[keep]
            rles = []
            if len(scores):
                dense = eager.eager_masks(prototypes, coefficients, boxes, size)
                rles = coco.encode(np.asfortranarray(dense.cpu().permute(1, 2, 0).numpy().view(np.uint8)))
            edges = boxes.new_tensor([size[1], size[0], size[1], size[0]])
            pixels = boxes * edges
            if config.integer_boxes:
                pixels = pixels.trunc()
            pixels = pixels.clamp(min=torch.zeros_like(edges), max=edges)
            results.append((pixels.tolist(), labels.tolist(), scores.tolist(), rles))
        return results

    def to_json(results: Any) -> str:
        rows = []
        for number, found in enumerate(results, 1):
            for (x1, y1, x2, y2), label, score, rle in zip(*found, strict=True):
                rows.append(
                    {
                        "image_id": number,
                        "category_id": config.category_ids[label],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "score": score,
                        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    }
                )
        return json.dumps(rows)

    stages = (decode, preprocess, run, detect, masks, to_json)
    return Contender(name, dict(zip(STAGES, stages, strict=True)), ready=ready)


class Tensors(nn.Module):
    """The network as others take it: a tensor in, a tuple of tensors out."""

    def __init__(self, model: Yolact):
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        raw = self.model(images)
        return raw.box_deltas, raw.class_logits, raw.mask_coefficients, raw.prototypes


def eager_torch(model: Yolact) -> Contender:
    """As the original runs it."""
    return original("eager torch", model, Tensors(model))


def compiled(model: Yolact, batch: int) -> Contender:
    """The network by torch.compile; the steps around it as before, as their shapes follow from what is found."""
    torch.compiler.reset()  # earlier cases would be reused, made dynamic, or count towards the limit of compilations
    network = torch.compile(Tensors(model))
    size = model.config.size
    start = time.perf_counter()
    network(torch.zeros(batch, 3, size, size, device=model.priors.device))
    return original("torch.compile", model, network, time.perf_counter() - start)


def onnx_runtime(model: Yolact, threads: int, folder: Path) -> Contender:
    """The network by ONNX Runtime on the CPU, exported once for all batch sizes."""
    import onnxruntime

    file = folder / f"{model.config.name}.onnx"
    start = time.perf_counter()
    if not file.exists():
        export_onnx(model, file, detections=False, check=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    outputs = ("box_deltas", "class_logits", "mask_coefficients", "prototypes")

    def network(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array) for array in session.run(outputs, {"images": images.numpy()}))

    return original("ONNX Runtime", model, network, time.perf_counter() - start)
