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

from yolact.config import Config, get_config
from yolact.data.augment import Augmentation
from yolact.data.coco import read_coco
from yolact.data.samples import SampleStream
from yolact.evaluation import detect_dataset, evaluate
from yolact.loading import load
from yolact.predictor import Model
from yolact.train.batches import Batch, Batches
from yolact.train.engine import train
from yolact.train.recipe import Recipe
from yolact.train.step import Precision, TrainStep

RATE = 1e-3
# Of a loss, against single precision on the CPU: convolutions in TF32 and in half precision keep ten bits and eight.
TOLERANCE = {"fp32": 0.01, "fp16": 0.03, "bf16": 0.1}


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


def first_batch(annotations: Path, config: Config) -> tuple[Config, Batch]:
    dataset = read_coco(annotations, shared_path("data/coco-val-daily/images"))
    config = config.with_classes(dataset.class_names, dataset.category_ids)
    stream = SampleStream(dataset, config.size, Augmentation.none(), config.preprocessing.mean, seed=0)
    torch.manual_seed(0)
    batch = Batches(stream, config, Model(config).priors, 4)[0]
    assert isinstance(batch, Batch)
    return config, batch


@pytest.mark.parametrize(
    ("name", "precision"),
    [("yolact_lite0", "fp32"), ("yolact_lite0", "bf16"), ("yolact_lite0", "fp16"), ("yolact_plus_resnet50", "fp32")],
)
def test_a_step_is_the_cpus(gpu: torch.device, eight_pictures: Path, name: str, precision: Precision) -> None:
    config, batch = first_batch(eight_pictures, get_config(name))
    torch.manual_seed(0)
    model = Model(config, freeze_batch_norm=True).train()
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
def test_no_step_waits_for_the_gpu(gpu: torch.device, eight_pictures: Path, name: str, precision: Precision) -> None:
    config, batch = first_batch(eight_pictures, get_config(name))
    step = TrainStep(Model(config).to(gpu).train(), precision)
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
