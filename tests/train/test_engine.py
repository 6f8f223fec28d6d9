"""The loop: it learns, it resumes to the bit, and it says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import skip_or_fail
from tiny import PLUS, STRONG, TINY, small_runs, write_squares

from yolact.config import Config, get_config
from yolact.data.augment import Augmentation
from yolact.errors import UserError
from yolact.models.checkpoint import read_checkpoint, save_checkpoint
from yolact.models.efficientnet_lite import imagenet_weights
from yolact.models.start import load_backbone
from yolact.models.yolact import Yolact
from yolact.options import TrainOptions
from yolact.train.build import freeze_to_c4
from yolact.train.engine import train
from yolact.train.recipe import Recipe, rate_at, scale_to_batch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    write_squares(folder)
    return folder


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with small_runs():
        yield


def run(data: Path, output: Path, recipe: Recipe = STRONG, config: Config = TINY, **options) -> Path:
    return train(config, data / "truth.json", data, output, recipe=recipe, log=lambda line: None, **options)


@pytest.mark.parametrize("config", [TINY, PLUS], ids=lambda config: config.name)
def test_a_resumed_run_equals_an_uninterrupted_one(config: Config, data: Path, tmp_path: Path) -> None:
    straight = run(data, tmp_path / "straight", config=config)
    partial = run(data, tmp_path / "parts", config=config, stop_after=1)
    assert partial.name == "checkpoint.pth"
    run(data, tmp_path / "parts", config=config, resume=True, stop_after=3)
    torch.rand(7)  # whatever else draws random numbers meanwhile
    resumed = run(data, tmp_path / "parts", config=config, resume=True)
    assert straight.name == resumed.name == "weights.pth"
    for name in ("checkpoint.pth", "weights.pth"):
        first, second = (read_checkpoint(tmp_path / folder / name) for folder in ("straight", "parts"))
        assert first.state.keys() == second.state.keys()
        assert all(torch.equal(tensor, second.state[key]) for key, tensor in first.state.items())
    losses = [
        [{**json.loads(line), "seconds": 0} for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        for folder in ("straight", "parts")
    ]
    assert losses[0][-1]["iteration"] == losses[1][-1]["iteration"] == 6


def test_workers_change_nothing(data: Path, tmp_path: Path) -> None:
    alone, helped = (run(data, tmp_path / f"{n}", workers=n, iterations=2) for n in (0, 1))
    first, second = (read_checkpoint(path).state for path in (alone, helped))
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_does_not_read_is_told_in_a_line(data: Path, tmp_path: Path, workers: int) -> None:
    shutil.copytree(data, tmp_path / "data")
    for picture in (tmp_path / "data").glob("*.png"):
        picture.write_bytes(b"")
    with pytest.raises(UserError, match=r"^\S+\.png: [^\n]+$"):
        run(tmp_path / "data", tmp_path / "run", workers=workers)


def test_a_picture_that_does_not_read_is_left_out_as_asked(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    empty = tmp_path / "data" / "2.png"
    empty.write_bytes(b"")
    lines: list[str] = []
    options = {"recipe": STRONG, "on_fault": "skip"}
    truth = tmp_path / "data" / "truth.json"
    straight = train(TINY, truth, truth.parent, tmp_path / "straight", **options, log=lines.append)
    assert lines.count(f"another picture stands for {empty}: the file is empty") == 1
    train(TINY, truth, truth.parent, tmp_path / "parts", **options, log=lines.append, stop_after=2)
    resumed = train(TINY, truth, truth.parent, tmp_path / "parts", **options, log=lines.append, resume=True, workers=1)
    first, second = (read_checkpoint(path).state for path in (straight, resumed))
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_the_callers_generator_stays_as_it_was(data: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(data, tmp_path / "run", stop_after=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_iteration_is_logged_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(iteration: int, *rest: object) -> float:
        if iteration == 3:
            raise KeyboardInterrupt
        return 1e-3

    with monkeypatch.context() as patch:
        patch.setattr("yolact.train.engine.rate_at", crash)
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path / "run", log_every=1, save_every=2)
    log = tmp_path / "run" / "log.jsonl"
    told = log.read_text().splitlines(keepends=True)
    assert len(told) == 3, "one more than the checkpoint knows"
    log.write_text("".join(told)[:-5])  # the last one torn
    run(data, tmp_path / "run", log_every=1, save_every=2, resume=True)
    assert [json.loads(line)["iteration"] for line in log.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]


def test_a_log_that_is_none_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "log.jsonl").mkdir(parents=True)
    with pytest.raises(UserError, match=r"log\.jsonl: cannot be read \(Is a directory\)"):
        run(data, tmp_path / "run", stop_after=1)


def test_it_learns_a_few_pictures(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        imagenet_weights()
    except UserError as error:
        skip_or_fail("weights", str(error))
    monkeypatch.setattr("yolact.models.start.load_backbone", load_backbone)
    changes = {"length": 32, "batch_size": 5, "steps": (), "learning_rate": 5e-3, "clip_norm": 10.0}
    recipe = Recipe(Augmentation.none(), changes, freeze_batch_norm=True)
    weights = run(data, tmp_path / "run", recipe, log_every=8)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    for term in ("box", "classification", "mask", "semantic"):
        assert lines[-1][term] < 0.6 * lines[0][term], term
    config = read_checkpoint(weights).config
    assert config is not None
    assert (config.class_names, config.category_ids) == (("square", "circle"), (5, 9)), "the data set's own"


def test_the_weights_are_whole_without_training_state(data: Path, tmp_path: Path) -> None:
    weights = run(data, tmp_path / "run", iterations=1)
    assert read_checkpoint(weights).training is None
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pth").training is not None
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoint.pth").write_bytes(weights.read_bytes())
    with pytest.raises(UserError, match="holds weights but no state of a run"):
        run(data, tmp_path / "other", resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "began otherwise: seed: 0, now 1$"),
        ({"batch_size": 4}, r"config\.train\.batch_size: 2, now 4"),
        ({"recipe": replace(STRONG, schedule="cosine")}, "began otherwise: recipe.schedule: steps, now cosine$"),
    ],
)
def test_a_run_resumes_only_as_it_began(data: Path, tmp_path: Path, change: dict, message: str) -> None:
    run(data, tmp_path / "run", stop_after=1)
    with pytest.raises(UserError, match=message):
        run(data, tmp_path / "run", resume=True, **change)


def test_faults_are_told(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run", stop_after=1)
    with pytest.raises(UserError, match="holds a run already"):
        run(data, tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        run(data, tmp_path / "file")
    with pytest.raises(UserError, match="unknown recipe 'huge': choose one of original, small"):
        run(data, tmp_path / "x", recipe="huge")
    with pytest.raises(UserError, match="the loss is not finite"):
        run(data, tmp_path / "y", learning_rate=1e30)
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}))
    with pytest.raises(UserError, match=r"empty\.json: names no picture"):
        train(TINY, empty, data, tmp_path / "z")


def test_faults_are_told_before_training(data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "truth.json").read_text())
    fewer = tmp_path / "fewer.json"
    fewer.write_text(json.dumps({**content, "categories": content["categories"][:1]}))
    with pytest.raises(UserError, match=r"fewer\.json: has no category ids \[9\]"):
        run(data, tmp_path / "x", val_annotations=fewer, val_images=data)
    none = tmp_path / "none.json"
    none.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(UserError, match=r"none\.json: holds no object to score against"):
        run(data, tmp_path / "x", val_annotations=none, val_images=data)
    with pytest.raises(UserError, match="val_annotations and val_images go together"):
        run(data, tmp_path / "x", val_images=data)
    with pytest.raises(UserError, match="accumulate must be positive, got 0"):
        run(data, tmp_path / "x", accumulate=0)
    with pytest.raises(UserError, match="device 'gpu' is unknown"):
        run(data, tmp_path / "x", device="gpu")
    with pytest.raises(TypeError, match=r"iterations must be a whole number, got 2\.5"):
        run(data, tmp_path / "x", iterations=2.5)
    with pytest.raises(UserError, match="learning_rate must be positive, got nan"):
        run(data, tmp_path / "x", learning_rate=float("nan"))
    assert not (tmp_path / "x").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("")
    with pytest.raises(UserError, match=r"tensorboard: cannot be written \(File exists\)"):
        run(data, tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").write_text("0\n")
    with pytest.raises(UserError, match=r"log\.jsonl: is no log of a run"):
        run(data, tmp_path / "run")


def test_what_differs_from_the_recipe_is_told(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    config = replace(TINY, train=replace(TINY.train, warmup_iterations=0))
    options = {"recipe": STRONG, "learning_rate": 4e-3, "clip_norm": 5.0, "stop_after": 1}
    train(config, data / "truth.json", data, tmp_path, log=told.append, **options)
    assert "other than in the recipe: rate 0.004 instead of 0.002, gradient norm 5.0 instead of None" in told


def test_another_batch_is_told_in_a_line(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    config = replace(TINY, train=replace(TINY.train, length=12, steps=(8,)))
    train(config, data / "truth.json", data, tmp_path, recipe=STRONG, batch_size=4, stop_after=1, log=told.append)
    (line,) = (line for line in told if line.startswith("other than in the recipe"))
    assert line.endswith(
        ": batch 4 instead of 2, rate 0.004 instead of 0.002, length 6 iterations instead of 12 iterations, "
        "steps at (4,) instead of (8,), warm-up 0 instead of 2"
    )


def test_frozen_layers_stay_as_they_are(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)  # as the run does before it builds the network
    before = Yolact(TINY.with_classes(("square", "circle"))).backbone.state_dict()
    run(data, tmp_path / "run", replace(STRONG, freeze_to_c4=True, freeze_batch_norm=False))
    after = read_checkpoint(tmp_path / "run" / "checkpoint.pth").state
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[f"backbone.{name}"])}
    assert changed
    assert all(
        name.startswith(("_blocks.11.", "_blocks.12.", "_blocks.13.", "_blocks.14.", "_blocks.15.")) for name in changed
    )
    assert "_blocks.11._project_conv.weight" in changed


@pytest.mark.parametrize("name", ["yolact_base", "yolact_resnet50", "yolact_darknet53", "yolact_lite0"])
def test_what_lies_before_c4_is_frozen_and_no_more(name: str) -> None:
    backbone = Yolact(replace(get_config(name), size=64)).backbone
    freeze_to_c4(backbone)
    c3, c4, c5 = backbone(torch.rand(2, 3, 64, 64))
    assert not c3.requires_grad
    assert not c4.requires_grad
    c5.sum().backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)


def test_deformable_convolutions_learn_their_offsets_before_c4_too() -> None:
    backbone = Yolact(replace(get_config("yolact_plus_resnet50"), size=64, mask_rescoring=False)).backbone
    freeze_to_c4(backbone)
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad and not name.startswith("layers.3.")}
    ends = ("weight", "bias", "conv_offset_mask.weight", "conv_offset_mask.bias")
    assert trained == {f"layers.{stage}.0.conv2.{end}" for stage in (1, 2) for end in ends}


def test_a_random_backbone_is_not_frozen(data: Path, tmp_path: Path) -> None:
    config = replace(TINY, backbone="resnet50")
    recipe = replace(STRONG, freeze_to_c4=True, freeze_batch_norm=True)
    lines: list[str] = []
    train(config, data / "truth.json", data, tmp_path / "random", recipe=recipe, iterations=1, log=lines.append)
    assert "batch norm trained, backbone trained" in lines[1]
    start = tmp_path / "start.pth"
    save_checkpoint(start, Yolact(config))
    run(data, tmp_path / "run", recipe, config, iterations=1, weights=start, stop_after=1)
    first, second = (read_checkpoint(path).state for path in (start, tmp_path / "run" / "checkpoint.pth"))
    assert torch.equal(first["backbone.conv1.weight"], second["backbone.conv1.weight"])
    assert not torch.equal(first["backbone.layers.3.0.conv1.weight"], second["backbone.layers.3.0.conv1.weight"])
    run(data, tmp_path / "other", recipe, config, weights=start, stop_after=1)
    with pytest.raises(UserError, match="pretrained: True, now False"):
        run(data, tmp_path / "other", recipe, config, resume=True)


def test_another_batch_size_scales_rate_and_length() -> None:
    options = TrainOptions()
    double = scale_to_batch(options, 1000, 16, None, None)
    assert (double.learning_rate, double.length) == (2e-3, 400_000)
    assert double.steps == (140_000, 300_000, 350_000, 375_000)
    assert scale_to_batch(options, 1000, None, 800, None).steps == (280, 600, 700, 750)
    assert scale_to_batch(options, 1000, None, 300, None).warmup_iterations == 30, "not all of a short run"
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        scale_to_batch(options, 1000, 0, None, None)
    epochs = replace(options, unit="epochs", length=55, steps=(20, 42, 49, 52))
    assert scale_to_batch(epochs, 800, None, None, None).length == 5500
    assert scale_to_batch(epochs, 800, None, None, None).steps == (2000, 4200, 4900, 5200)


def test_rates() -> None:
    options = TrainOptions(warmup_iterations=10, warmup_rate=0.1, learning_rate=1.0, steps=(50, 80), length=100)
    assert [rate_at(i, options, "steps") for i in (0, 5, 10, 49, 50, 80)] == pytest.approx([0.1, 0.55, 1, 1, 0.1, 0.01])
    assert [rate_at(i, options, "cosine") for i in (0, 10, 55, 100)] == pytest.approx([0.1, 1, 0.505, 0.01])
