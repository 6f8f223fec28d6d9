"""Runs that are killed or told to stop, in real processes: they go on to the bits of one that was left alone."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import torch
from tiny import Run, run_all, write_squares


def contents(folder: Path) -> dict[str, Any]:
    """All that a run computed, without the times."""
    files = {path.name: torch.load(path, weights_only=True) for path in folder.glob("*.pth")}
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    timed = ("seconds", "images_per_second", "data_wait")
    return {**files, "log": [{name: value for name, value in line.items() if name not in timed} for line in lines]}


def same(one: object, other: object) -> bool:
    """Whether two trees of dicts and lists are, to the bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other


def test_stopped_runs_end_as_one_that_was_left_alone(tmp_path: Path) -> None:
    write_squares(tmp_path)
    options = ("--recipe", "strong", "--save-every", "2", "--eval-every", "3", "--log-every", "1", "--resume")
    options += ("--val-annotations", str(tmp_path / "truth.json"), "--val-images", str(tmp_path))
    kill, killed, told = signal.SIGKILL, tmp_path / "killed", tmp_path / "told"
    outcomes = run_all(
        tmp_path,
        [
            Run(tmp_path / "alone", options),
            Run(killed, options, (kill, "yolact.train.engine.rate_at", 2)),  # before there is a checkpoint
            Run(killed, options, (kill, "os.fsync", 2)),  # the second checkpoint written, but not in its place
            Run(killed, options, (kill, "yolact.evaluation.parts._append", 3)),  # some pictures detected on
            Run(killed, options, (kill, "yolact.train.validation.save_checkpoint", 1)),  # scored, nothing kept
            Run(killed, options, (kill, "yolact.train.state.save_checkpoint", 2)),  # best.pth kept, the state not
            Run(killed, (*options, "--workers", "1"), (kill, 0.5)),  # wherever it is
            Run(killed, options, (kill, "yolact.train.engine.save_checkpoint", 1)),  # all done, but the result
            Run(killed, options),
            Run(told, (*options, "--workers", "1"), (signal.SIGTERM, "yolact.train.engine.rate_at", 1)),
            Run(told, options, (signal.SIGTERM, "yolact.evaluation.parts._append", 3)),
            Run(told, options, (kill, "yolact.train.state.save_checkpoint", 1)),  # scored and told, the state not kept
            Run(told, options, (signal.SIGINT, "yolact.train.engine.rate_at", 1)),
            Run(told, options),
        ],
    )
    statuses = [outcome.statuses[0] for outcome in outcomes]
    assert statuses[:6] == [0, *[-kill] * 5], outcomes
    assert statuses[7:] == [-kill, 0, 143, 143, -kill, 130, 0], outcomes
    *_, first, unscored, _, fourth, last = (outcome.told for outcome in outcomes)
    assert "SIGTERM: saved after iteration 1" in first
    assert "SIGTERM: saved after iteration 3" in unscored
    assert "mask AP" not in unscored
    assert "SIGINT: saved after iteration 4" in fourth
    assert "going on from iteration 4" in last
    assert not any("Traceback" in outcome.told for outcome in outcomes)
    alone = contents(tmp_path / "alone")
    assert len(alone["log"]) == 8, "six iterations, two validations"
    assert same(contents(killed), alone)
    assert same(contents(told), alone)
    for folder in (killed, told):
        assert not list(folder.glob(".*")), "what was being written when it was killed"
