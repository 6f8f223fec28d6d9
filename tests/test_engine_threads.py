"""Threads: the fastest number of them, found on the first runs, of the cores that the process may use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import yolact
from yolact.engine import threads
from yolact.engine.threads import ThreadTuner, available_cores


class Machine:
    """Work that takes as long as it is told to, by a clock that stands still otherwise."""

    def __init__(self, seconds: Callable[[int], float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.now, self.threads, self.runs = seconds, 0.0, 0, []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch, "set_num_threads", lambda count: setattr(self, "threads", count))

    def work(self) -> int:
        self.runs.append(self.threads)
        self.now += self.seconds(self.threads)
        return len(self.runs)


@pytest.mark.parametrize(
    ("cores", "seconds", "chosen", "most_runs"),
    [
        (1, lambda n: 1.0, 1, 5),
        (2, lambda n: 1 / n, 2, 8),
        (2, lambda n: 1.0, 1, 8),  # a second core that brings nothing
        (6, lambda n: 1 / n, 6, 8),
        (64, lambda n: 0.1 / n, 64, 9),  # 32 are hopeless at once, and 1 is never tried
        (64, lambda n: 0.1 / n + 0.002 * n, 8, 24),
        (64, lambda n: 0.1 * n, 1, 24),
    ],
)
def test_the_fastest_number_of_threads_is_kept(
    cores: int,
    seconds: Callable[[int], float],
    chosen: int,
    most_runs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine, tuner = Machine(seconds, monkeypatch), ThreadTuner(cores)
    assert [tuner.run(machine.work, 1) for _ in range(40)] == list(range(1, 41)), "each run is one run"
    assert machine.threads == chosen
    settled = 40 - next(n for n, count in enumerate(reversed(machine.runs)) if count != chosen) if cores > 1 else 0
    assert settled <= most_runs
    assert max(machine.runs) == cores


def test_runs_with_more_or_less_to_do_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, tuner = Machine(lambda n: 1 / n, monkeypatch), ThreadTuner(2)
    for _ in range(20):
        tuner.run(machine.work, 8)
        tuner.run(lambda: None, 1)
    assert machine.threads == 2


@pytest.mark.parametrize(("asked", "most"), [("1", 1), ("3", 3), ("99", 4), ("", 4), ("0", 4), ("4,2", 4)])
def test_no_more_threads_than_the_user_allows(asked: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    machine, tuner = Machine(lambda n: 1 / n, monkeypatch), ThreadTuner()
    for _ in range(20):
        tuner.run(machine.work, 1)
    assert max(machine.runs) == machine.threads == most


@pytest.fixture
def torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("torch_threads")
def test_predict_alone_leaves_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    model = yolact.create("yolact_lite0", num_classes=2).eval()
    picture = np.zeros((20, 20, 3), np.uint8)
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    model.predict([picture] * 3)
    assert set_to == []
    model.choose_threads()
    model.predict([picture] * 5)
    assert set_to == [2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4),
        ({"own": "0::/a/b\n", "a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 2),
        ({"own": "0::/\n", "cpu.max": "50000 100000"}, 1),  # half a core is one thread
        ({"own": "0::/a\n", "a/cpu.max": "900000 100000"}, 4),
        ({"own": "0::/not/here\n", "cpu.max": "300000 100000"}, 3),  # the path of a container's outside
        (
            {
                "own": "3:cpu,cpuacct:/a\n2:memory:/x\n",
                "cpu/a/cpu.cfs_quota_us": "150000",
                "cpu/a/cpu.cfs_period_us": "50000",
            },
            3,
        ),
        ({"own": "3:cpu:/\n", "cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"own": "0::/\n", "cpu.max": ""}, 4),
    ],
)
def test_cores_respect_affinity_and_quota(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5, 7})
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_cores(tmp_path, tmp_path / "own") == cores
