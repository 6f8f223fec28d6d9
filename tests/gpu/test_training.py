"""Training on a GPU: every precision, no step that waits for the device, and a whole run that learns real pictures."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from conftest import shared_path

from benchmarks.training import random_targets
from yolact.config import Config, get_config
from yolact.data.augment import Augmentation
from yolact.evaluation import detect_dataset, evaluate
from yolact.loading import load
from yolact.models.yolact import Yolact
from yolact.train.assignment import assign
from yolact.train.batches import Batch
from yolact.train.engine import train
from yolact.train.recipe import Recipe
from yolact.train.step import Precision, TrainStep

RATE = 1e-3
# Of a loss, against single precision on the CPU: sums in another order, and convolutions that keep ten bits and seven.
TOLERANCE = {"fp32": 1e-3, "fp16": 0.03, "bf16": 0.1}


@pytest.fixture
def eight_pictures(tmp_path: Path) -> Path:
    """The annotations of the eight real pictures whose smallest object is largest, without crowds."""
    content = json.loads(shared_path("data/coco-val-daily/instances_val2017_daily.json").read_text())
    truths = defaultdict(list)
    for annotation in content["annotations"]:
        truths[annotation["image_id"]].append(annotation)

    def smallest(image: dict) -> float:
        own = truths[image["id"]]
        if not own or any(annotation["iscrowd"] for annotation in own):
            return 0
        return min(annotation["area"] for annotation in own) / (image["width"] * image["height"])

    images = sorted(content["images"], key=smallest, reverse=True)[:8]
    annotations = [annotation for image in images for annotation in truths[image["id"]]]
    categories = {annotation["category_id"] for annotation in annotations}
    kept = [category for category in content["categories"] if category["id"] in categories]
    path = tmp_path / "eight.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": kept}))
    return path


def random_batch(config: Config) -> Batch:
    torch.manual_seed(0)
    assignment = assign(random_targets(config, 2), Yolact(config).priors, config, config.train.max_masks)
    return Batch(torch.randint(256, (2, config.size, config.size, 3), dtype=torch.uint8), assignment)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("yolact_lite0", "fp32"), ("yolact_lite0", "bf16"), ("yolact_lite0", "fp16"), ("yolact_plus_resnet50", "fp32")],
)
def test_a_step_is_the_cpus(gpu: torch.device, name: str, precision: Precision) -> None:
    config = get_config(name)
    batch = random_batch(config)
    model = Yolact(config, freeze_batch_norm=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = TrainStep(model)([batch], batch.assignment.totals, RATE)
    model.load_state_dict(before)
    step = TrainStep(model.to(gpu), precision)
    step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": 16.0} if precision == "fp16" else {})
    row = step([batch.pin_memory()], batch.assignment.totals, RATE)
    torch.testing.assert_close(row[:-1].cpu(), expected[:-1], rtol=TOLERANCE[precision], atol=0)
    assert row.isfinite().all()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["yolact_lite0", "yolact_plus_resnet50"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_step_waits_for_the_gpu(gpu: torch.device, name: str, precision: Precision) -> None:
    config = get_config(name)
    batch = random_batch(config)
    step = TrainStep(Yolact(config).to(gpu).train(), precision)
    batches = [batch.pin_memory(), batch.pin_memory()]
    step(batches, batch.assignment.totals, RATE)  # libraries choose their ways in the first
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(batches, batch.assignment.totals, RATE)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_eight_pictures_are_learnt_from_nothing(gpu: torch.device, eight_pictures: Path, tmp_path: Path) -> None:
    config = get_config("yolact_resnet50")
    options = {"batch_size": 8, "length": 1000, "steps": (), "learning_rate": 5e-3, "clip_norm": 10.0}
    recipe = Recipe(Augmentation.none(), {**options, "weight_decay": 0.0}, schedule="cosine", freeze_batch_norm=False)
    images = shared_path("data/coco-val-daily/images")
    config = replace(config, integer_boxes=False)
    weights = train(
        config, eight_pictures, images, tmp_path / "run", recipe=recipe, device=gpu, precision="bf16", workers=4
    )
    results = list(chain.from_iterable(detect_dataset(load(weights, gpu), eight_pictures, images)))
    assert evaluate(results, eight_pictures)["segm"]["AP"] > 0.9
