"""Two processes, connected by gloo as torchrun starts them, train what one does, and end together."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from tiny import PLUS, STRONG, TINY, Outcome, Run, free_port, run_all, small_runs, write_squares

from yolact import distributed, mask
from yolact.config import Config
from yolact.data.augment import Augmentation
from yolact.data.coco import read_coco
from yolact.data.samples import SampleStream
from yolact.errors import UserError
from yolact.evaluation import detect_dataset
from yolact.models.checkpoint import save_checkpoint
from yolact.models.yolact import Yolact
from yolact.predictor import Model
from yolact.train.engine import train
from yolact.train.losses import term_names

ABSOLUTE = 1e-5  # sums of four pictures in another order, through six steps
MOMENTUM = 3e-4  # a unit within rounding of a ReLU's corner falls to one side or the other: one pixel's gradient


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, and weights to start from; `found.json` has for truths some of what those of YOLACT++ find.

    Of the pictures in `broken` one of the second process's first share to learn from does not read, and of those in
    `unseen` one of its share to be scored on.
    """
    folder = tmp_path_factory.mktemp("squares")
    write_squares(folder)
    for name in ("broken", "unseen"):
        (folder / name).mkdir()
        write_squares(folder / name)
    (folder / "unseen" / "3.png").write_bytes(b"")
    dataset = read_coco(folder / "broken" / "truth.json", folder / "broken")
    SampleStream(dataset, TINY.size, Augmentation(), (0, 0, 0), seed=0).picture(2).path.write_bytes(b"")
    with small_runs():
        for config in (TINY, PLUS):
            torch.manual_seed(0)
            save_checkpoint(folder / f"{config.name}.pth", Yolact(config))
        torch.manual_seed(0)
        model = Model(PLUS.with_classes(dataset.class_names, dataset.category_ids))
        save_checkpoint(folder / "same-classes.pth", model)
        found = [result for results in detect_dataset(model, folder / "truth.json", folder) for result in results]
    content = json.loads((folder / "truth.json").read_text())
    content["annotations"] = [
        {**result, "id": id, "iscrowd": 0, "area": area, "bbox": mask.toBbox(result["segmentation"]).tolist()}
        for id, result in enumerate(found[::3])
        if (area := int(mask.area(result["segmentation"])))
    ]
    (folder / "found.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[str, Outcome]:
    """What came of runs of two processes."""
    short = ("--batch-size", "4", "--iterations", "3")
    equal = ("--recipe", "strong", "--batch-size", "4", "--iterations", "6", "--learning-rate", "2e-3")
    equal += ("--accumulate", "2", "--log-every", "1", "--weights")
    broken = ("--train-annotations", str(folder / "broken" / "truth.json"), "--train-images", str(folder / "broken"))
    terminated = (signal.SIGTERM, "yolact.train.engine.rate_at", 2)
    scored = ("--val-annotations", str(folder / "found.json"), "--val-images", str(folder))
    unseen = ("--val-annotations", str(folder / "unseen" / "truth.json"), "--val-images", str(folder / "unseen"))
    strong = ("--recipe", "strong")
    still = (*scored, "--batch-size", "4", "--iterations", "1", "--learning-rate", "1e-30", "--weights")
    runs = {
        "tiny": Run(folder / "tiny-two", (*equal, str(folder / "tiny.pth"), "--workers", "1")),
        "plus": Run(folder / "plus-two", (*equal, str(folder / "plus.pth")), config="plus"),
        "large-only": Run(folder / "large-only", (*short, *scored), config="large-only"),
        "unreadable": Run(folder / "unreadable", (*short, *broken)),
        "told": Run(folder / "told", short, terminated, signalled_rank=1),
        "not-finite": Run(folder / "not-finite", (*short, "--learning-rate", "1e30")),
        "uneven": Run(folder / "uneven", ("--batch-size", "3")),
        "held": Run(folder / "told", short),
        "scored": Run(folder / "scored-two", (*still, str(folder / "same-classes.pth"), *strong), config="plus"),
        "told-scoring": Run(
            folder / "told-scoring",
            (*short, *scored, "--eval-every", "1"),
            (signal.SIGTERM, "yolact.evaluation.parts._append", 1),
            signalled_rank=1,
        ),
        "unseen": Run(folder / "unscored", (*short, *unseen)),
    }
    return dict(zip(runs, run_all(folder, list(runs.values()), processes=2), strict=True))


def trained(folder: Path) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """The weights of a run, and their momentum."""
    training = torch.load(folder / "checkpoint.pth", weights_only=True)["training"]
    return training["model"], [state["momentum_buffer"] for state in training["optimizer"]["state"].values()]


@pytest.mark.parametrize("config", [TINY, PLUS], ids=lambda config: config.name)
def test_two_processes_train_what_one_does(config: Config, folder: Path, outcomes: dict[str, Outcome]) -> None:
    outputs = {name: folder / f"{config.name}-{name}" for name in ("one", "parts", "two")}
    two = outcomes[config.name]
    assert two.statuses == (0, 0), two.told
    assert two.told.count(str(outputs["two"] / "weights.pth")) == 1, "one of them talks"
    options = {"recipe": STRONG, "batch_size": 4, "iterations": 6, "learning_rate": 2e-3, "log_every": 1}
    options["weights"] = folder / f"{config.name}.pth"
    with small_runs():
        for name, accumulate in (("one", 1), ("parts", 4)):
            train(config, folder / "truth.json", folder, outputs[name], accumulate=accumulate, **options)
    weights, momentum = trained(outputs["one"])
    for name in ("parts", "two"):
        found = trained(outputs[name])
        torch.testing.assert_close(found[0], weights, rtol=0, atol=ABSOLUTE)
        torch.testing.assert_close(found[1], momentum, rtol=0, atol=MOMENTUM)
        logs = [(outputs[run] / "log.jsonl").read_text().splitlines() for run in (name, "one")]
        for mine, theirs in zip(*(map(json.loads, log) for log in logs), strict=True):
            for term in (*term_names(config), "gradient_norm"):
                assert mine[term] == pytest.approx(theirs[term], rel=1e-5), (name, term)


def test_processes_without_a_large_mask_train_together(folder: Path, outcomes: dict[str, Outcome]) -> None:
    assert outcomes["large-only"].statuses == (0, 0), outcomes["large-only"].told
    lines = map(json.loads, (folder / "large-only" / "log.jsonl").read_text().splitlines())
    assert [line["mask_iou"] for line in lines if "rate" in line] == [0, 0, 0]


def test_two_processes_score_what_one_does(folder: Path, outcomes: dict[str, Outcome]) -> None:
    assert outcomes["scored"].statuses == (0, 0), outcomes["scored"].told
    options = {"recipe": STRONG, "batch_size": 4, "iterations": 1, "learning_rate": 1e-30}  # which moves no weight
    options |= {"weights": folder / "same-classes.pth", "val_annotations": folder / "found.json", "val_images": folder}
    with small_runs():
        train(PLUS, folder / "truth.json", folder, folder / "scored-one", **options)
    one, two = ((folder / f"scored-{n}" / "log.jsonl").read_text().splitlines()[-1] for n in ("one", "two"))
    assert one == two
    scores = json.loads(one)
    assert 0 < scores["segm_AP"] < 1
    best = [torch.load(folder / f"scored-{n}" / "best.pth", weights_only=True)["state_dict"] for n in ("one", "two")]
    torch.testing.assert_close(*best, rtol=0, atol=1e-20)  # a bias of 0 does move


def test_processes_with_statistics_of_their_own_score_the_main_ones(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["large-only"]
    assert "batch norm trained with statistics of each process's own" in outcome.told
    assert outcome.told.count("mask AP") == 3, "after each iteration"


def test_a_signal_while_they_score_stops_both(folder: Path, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["told-scoring"]
    assert outcome.statuses == (143, 143), outcome.told
    assert "SIGTERM: saved after iteration 1" in outcome.told
    assert "mask AP" not in outcome.told
    assert torch.load(folder / "told-scoring" / "checkpoint.pth", weights_only=True)["training"]["unscored"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_stays_alone_says_so(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "MEETING", timedelta(seconds=1))
    for name, value in (("RANK", rank), ("WORLD_SIZE", 2), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", free_port())):
        monkeypatch.setenv(name, str(value))
    group = distributed.process_group(torch.device("cpu"))
    with pytest.raises(UserError, match="not every process has come within 1 s"), group:
        pytest.fail("entered")


def test_a_signal_to_one_process_stops_both(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["told"].statuses == (143, 143), outcomes["told"].told
    assert "SIGTERM: saved after iteration 2" in outcomes["told"].told


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("unreadable", ".png: the file is empty"),
        ("not-finite", "the loss is not finite"),
        ("uneven", "a batch of 3 does not divide into 2 processes times 1 parts"),
        ("held", "holds a run already"),
        ("unseen", "3.png: the file is empty"),
    ],
)
def test_processes_fail_together_and_say_it_once(outcomes: dict[str, Outcome], run: str, message: str) -> None:
    outcome = outcomes[run]
    assert outcome.statuses == (2, 2), outcome.told
    assert outcome.told.count("yolact: ") == 1, outcome.told
    assert message in outcome.told
    assert "Traceback" not in outcome.told, outcome.told


@pytest.mark.parametrize(
    ("device", "missing"), [("cpu", "RANK, MASTER_PORT"), ("cuda", "RANK, LOCAL_RANK, MASTER_PORT")]
)
def test_half_an_environment_of_torchrun(monkeypatch: pytest.MonkeyPatch, device: str, missing: str) -> None:
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with (
        pytest.raises(UserError, match=f"WORLD_SIZE is set, and {missing} not: start the processes by torchrun"),
        distributed.process_group(torch.device(device)),
    ):
        pass
