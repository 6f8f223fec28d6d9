"""What `benchmarks.scale` measures: every operator at growing sizes, one of which varies at a time."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import yolact
from benchmarks import inputs, mask_loss, peers
from yolact import mask, ops
from yolact.evaluation import evaluate
from yolact.instances import Instances

Run = Callable[[], object]
Size = tuple[int, int]  # height, width

SIDE = (550, 550)
PICTURES = (SIDE, (1080, 1920), (3000, 4000), (6000, 8000))
MEAN, STD = (123.68, 116.78, 103.94), (58.40, 57.12, 57.38)


@dataclass(frozen=True)
class Sweep:
    """One operator, and one size that it is measured at."""

    operator: str
    varied: str
    values: Sequence[int | Size]
    make: Callable[[Any], dict[str, Run]]  # of a value: "yolact", and peers where they can
    grows: float = 1.0  # the power of the value that the work itself grows with


def detect(
    *, classes: int = 80, batch: int = 1, priors: int = 1, max_detections: int = 100, top_k: int = 200
) -> dict[str, Run]:
    """From 1,200 priors that stay of each 19,248; `priors`: how many times as many."""
    given = inputs.clustered_detections(1, classes)
    deltas, logits = given.box_deltas.repeat(batch, priors, 1), given.class_logits.repeat(batch, priors, 1)
    whole = (deltas, logits, given.priors.repeat(priors, 1))
    runs: dict[str, Run] = {"yolact": lambda: ops.detect(*whole, max_detections=max_detections, top_k=top_k)}
    if (batch, priors, max_detections, top_k) == (1, 1, 100, 200) and classes != 20:
        runs["torch eager, as the original"] = lambda: peers.eager_detect(*whole)
    return runs


def fast_nms(*, boxes: int = 1000, classes: int = 80, max_detections: int = 100, top_k: int = 200) -> dict[str, Run]:
    """Of boxes that lie anywhere, with scores by chance: more candidates than a network gives."""
    generator = torch.Generator().manual_seed(0)
    corner, side = torch.rand(2, 1, boxes, 2, generator=generator)
    given = torch.cat([corner, corner + 0.2 * side], -1), torch.rand(1, classes, boxes, generator=generator)
    runs: dict[str, Run] = {"yolact": lambda: ops.fast_nms(*given, max_detections=max_detections, top_k=top_k)}
    if (classes, max_detections, top_k) == (80, 100, 200):
        runs["torch eager, as the original"] = lambda: peers.eager_fast_nms(given[0][0], given[1][0])
    return runs


def masks_of(batch: int, detections: int, channels: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    given = inputs.smooth_masks(batch, detections, channels=channels)
    return given.prototypes, given.coefficients, given.boxes


def assemble_masks(
    *, detections: int = 100, size: Size = SIDE, channels: int = 32, batch: int = 1, packed: bool = False
) -> dict[str, Run]:
    given = masks_of(batch, detections, channels)
    runs: dict[str, Run] = {"yolact": lambda: ops.assemble_masks(*given, size, packed=packed)}
    if batch == 1 and not packed:
        first = tuple(tensor[0] for tensor in given)
        runs["torch eager, as the original"] = lambda: peers.eager_masks(*first, size)
    return runs


def prototypes_to_rles(
    *, detections: int = 100, size: Size = SIDE, channels: int = 32, batch: int = 1
) -> dict[str, Run]:
    given = masks_of(batch, detections, channels)
    return {"yolact": lambda: ops.prototypes_to_rles(*given, [size] * batch)}


def masks_to_rles(*, masks: int = 10, size: Size = SIDE) -> dict[str, Run]:
    dense = inputs.ellipses(masks, *size)
    return {"yolact": lambda: ops.masks_to_rles(dense)}


def decode(*, masks: int = 10, size: Size = SIDE) -> dict[str, Run]:
    encoded = ops.encode_run_lengths(inputs.ellipses(masks, *size), capacity=1 << 16)
    return {"yolact": encoded.decode}


def preprocess(*, size: Size = SIDE, batch: int = 1) -> dict[str, Run]:
    pictures = torch.randint(0, 256, (batch, *size, 3), dtype=torch.uint8)
    given = torch.tensor(MEAN), torch.tensor(STD)
    return {
        "yolact": lambda: ops.preprocess(pictures, SIDE, MEAN, STD),
        "torch eager": lambda: peers.eager_preprocess(pictures, SIDE, *given),
    }


def loss_of_masks(*, batch: int = 1, side: int = 138) -> dict[str, Run]:
    """Forward and backward, of a hundred positives a picture."""
    given = mask_loss.inputs(0.04, "cpu", batch, side)
    contenders = mask_loss.CONTENDERS if batch == 1 else {"yolact": ops.mask_loss}
    return {name: functools.partial(mask_loss.both_ways, loss, given) for name, loss in contenders.items()}


def postprocess(*, batch: int = 1, classes: int = 80, max_detections: int = 100) -> dict[str, Run]:
    """From a network's outputs to COCO results."""
    found, given = inputs.clustered_detections(1, classes), masks_of(1, 1)[0]
    coefficients = torch.rand(batch, len(found.priors), 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    raw = found.box_deltas.repeat(batch, 1, 1), found.class_logits.repeat(batch, 1, 1), coefficients, found.priors
    prototypes = given.repeat(batch, 1, 1, 1)
    return {"yolact": lambda: ops.postprocess(*raw, prototypes, [SIDE] * batch, max_detections=max_detections)}


def instances(what: str, *, detections: int = 100, size: Size = SIDE) -> dict[str, Run]:
    """A lazy field or a method of a new `Instances`."""
    prototypes, coefficients, boxes = (tensor[0] for tensor in masks_of(1, detections))
    height, width = size
    picture = np.zeros((*size, 3), np.uint8)

    def run() -> object:
        result = Instances(
            boxes=boxes * torch.tensor([width, height, width, height]),
            scores=torch.linspace(1, 0.1, detections),
            labels=torch.arange(detections) % 80,
            coefficients=coefficients,
            relative_boxes=boxes,
            prototypes=prototypes,
            picture=picture,
            class_names=tuple(f"class {i}" for i in range(80)),
            category_ids=tuple(range(80)),
        )
        return result.plot() if what == "plot" else result.to_coco(1) if what == "to_coco" else getattr(result, what)

    return {"yolact": run}


def predict(*, size: Size = SIDE, batch: int = 1) -> dict[str, Run]:
    """The whole way to an `Instances`, with a small network that nobody trained."""
    torch.manual_seed(0)
    model = yolact.create("yolact_lite0").eval()
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    return {"yolact": lambda: model.predict([picture] * batch, score_threshold=0)}


def mask_function(name: str, *, masks: int) -> dict[str, Run]:
    """One of `yolact.mask` on ellipses, beside pycocotools."""
    dense = ops.masks_to_rles(inputs.ellipses(min(masks, 1000)))
    rles = (dense * (masks // len(dense) + 1))[:masks]
    packages = {"yolact": mask, **{k: v for k, v in peers.mask_packages().items() if k == "pycocotools"}}
    if name == "iou":
        return {key: lambda package=package: package.iou(rles, rles, [0] * masks) for key, package in packages.items()}
    return {key: lambda package=package: getattr(package, name)(rles) for key, package in packages.items()}


def polygon(vertices: int) -> dict[str, Run]:
    """One of many vertices over most of 8000 x 6000."""
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    outline = np.stack([4000 + 3000 * np.cos(angle), 3000 + 2000 * np.sin(angle) + 500 * np.sin(97 * angle)], 1)
    given = [outline.ravel().tolist()]
    packages = {"yolact": mask, **{k: v for k, v in peers.mask_packages().items() if k == "pycocotools"}}
    return {key: lambda package=package: package.frPyObjects(given, 6000, 8000) for key, package in packages.items()}


def evaluation(*, pictures: int = 10, detections: int = 100, classes: int = 80) -> dict[str, Run]:
    """COCO's numbers of boxes and masks by pycocotools, of as many truths as detections."""
    rles = ops.masks_to_rles(inputs.ellipses(min(detections, 100), 100, 100))
    boxes, areas = mask.toBbox(rles).tolist(), mask.area(rles).tolist()
    found, truths = [], []
    for picture in range(pictures):
        for i in range(detections):
            row = i % len(rles)
            common = {
                "image_id": picture,
                "category_id": 1 + i % classes,
                "bbox": boxes[row],
                "segmentation": rles[row],
            }
            found.append({**common, "score": 1 - i / detections})
            truths.append({**common, "id": len(found), "area": areas[row], "iscrowd": 0})
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "truth.json"
    images = [{"id": i, "file_name": f"{i}.png", "height": 100, "width": 100} for i in range(pictures)]
    categories = [{"id": 1 + i, "name": f"class {i}"} for i in range(classes)]
    path.write_text(json.dumps({"images": images, "annotations": truths, "categories": categories}))

    def run() -> object:
        assert folder is not None  # it lives as long as this
        return evaluate(found, path)

    return {"yolact": run}


def vary(function: Callable[..., dict[str, Run]], name: str, *first: Any, **fixed: Any) -> Callable[[Any], Any]:
    """The function of one of its sizes."""
    return lambda value: function(*first, **fixed, **{name: value})


SWEEPS = [
    Sweep("detect", "classes", (20, 80, 365, 1203), vary(detect, "classes")),
    Sweep("detect", "batch", (1, 8, 64), vary(detect, "batch")),
    Sweep("detect", "priors, times 19248", (1, 3, 9), vary(detect, "priors")),
    Sweep("detect", "max_detections", (10, 100, 1000, 10000), vary(detect, "max_detections")),
    # A box is compared with all that stand above it in its class.
    Sweep("detect", "top_k, 10000 kept", (200, 2000, 20000), vary(detect, "top_k", max_detections=10000), grows=2),
    Sweep("detect", "batch, of 1203 classes", (1, 8), vary(detect, "batch", classes=1203, max_detections=1000)),
    Sweep("fast_nms", "boxes", (100, 1000, 10000), vary(fast_nms, "boxes")),
    Sweep("fast_nms", "classes", (20, 80, 365, 1203), vary(fast_nms, "classes")),
    Sweep("fast_nms", "max_detections", (10, 100, 1000, 10000), vary(fast_nms, "max_detections")),
    Sweep("assemble_masks", "detections", (10, 100, 1000), vary(assemble_masks, "detections")),
    Sweep("assemble_masks", "picture, 10 detections", PICTURES, vary(assemble_masks, "size", detections=10)),
    Sweep("assemble_masks", "channels", (16, 32, 64), vary(assemble_masks, "channels")),
    Sweep("assemble_masks", "batch, 10 detections", (1, 8, 64), vary(assemble_masks, "batch", detections=10)),
    Sweep("assemble_masks packed", "detections", (10, 100, 1000), vary(assemble_masks, "detections", packed=True)),
    Sweep("prototypes_to_rles", "detections", (10, 100, 1000, 10000), vary(prototypes_to_rles, "detections")),
    Sweep("prototypes_to_rles", "picture", PICTURES, vary(prototypes_to_rles, "size")),
    Sweep("prototypes_to_rles", "channels", (16, 32, 64), vary(prototypes_to_rles, "channels")),
    Sweep("prototypes_to_rles", "batch, 10 detections", (1, 8, 64), vary(prototypes_to_rles, "batch", detections=10)),
    Sweep(
        "prototypes_to_rles",
        "detections of 6000 x 8000",
        (10, 100, 1000),
        vary(prototypes_to_rles, "detections", size=(6000, 8000)),
    ),
    Sweep("masks_to_rles", "masks", (10, 100, 1000), vary(masks_to_rles, "masks")),
    Sweep("masks_to_rles", "picture", PICTURES, vary(masks_to_rles, "size")),
    Sweep("RunLengths.decode", "masks", (10, 100, 1000), vary(decode, "masks")),
    Sweep("RunLengths.decode", "picture", PICTURES, vary(decode, "size")),
    Sweep("preprocess", "picture", PICTURES, vary(preprocess, "size")),
    Sweep("preprocess", "batch", (1, 8, 64), vary(preprocess, "batch")),
    Sweep("mask_loss", "batch", (1, 4, 16), vary(loss_of_masks, "batch")),
    Sweep("mask_loss", "side of the prototypes", (69, 138, 276), vary(loss_of_masks, "side"), grows=2),
    Sweep("postprocess", "max_detections", (10, 100, 1000), vary(postprocess, "max_detections")),
    Sweep("postprocess", "classes", (20, 80, 365, 1203), vary(postprocess, "classes")),
    Sweep("postprocess", "batch", (1, 8, 64), vary(postprocess, "batch")),
    *(
        Sweep(f"Instances.{what}", varied, values, vary(instances, name, what))
        for what in ("rles", "polygons", "plot", "to_coco")
        for varied, name, values in (("detections", "detections", (10, 100, 1000)), ("picture", "size", PICTURES))
    ),
    Sweep("Instances.masks", "detections", (10, 100, 1000), vary(instances, "detections", "masks")),
    Sweep("predict", "picture", PICTURES, vary(predict, "size")),
    Sweep("predict", "batch", (1, 8, 64), vary(predict, "batch")),
    Sweep("mask.decode", "masks", (10, 100, 1000), vary(mask_function, "masks", "decode")),
    Sweep("mask.area", "masks", (10, 100, 1000), vary(mask_function, "masks", "area")),
    Sweep("mask.toBbox", "masks", (10, 100, 1000), vary(mask_function, "masks", "toBbox")),
    Sweep("mask.merge", "masks", (10, 100, 1000, 10000), vary(mask_function, "masks", "merge")),
    Sweep("mask.iou", "masks a side", (10, 100, 1000), vary(mask_function, "masks", "iou"), grows=2),
    Sweep("mask.frPyObjects", "vertices", (100, 1000, 10000, 100000), polygon),
    Sweep("evaluate", "pictures", (5, 20), vary(evaluation, "pictures")),
    Sweep("evaluate", "detections a picture", (10, 100, 300), vary(evaluation, "detections"), grows=2),
    Sweep("evaluate", "classes", (20, 80, 365, 1203), vary(evaluation, "classes")),
]
