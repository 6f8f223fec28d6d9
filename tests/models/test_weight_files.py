"""Files of weights, read in several threads at a time."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch

from yolact.models.weight_files import read_file

LOAD = torch.load


def test_reading_leaves_the_processs_warnings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python restores filters for the whole process: of two threads at once, one restores those of the other."""
    filters = warnings.filters

    def load(*given: Any, **options: Any) -> Any:
        assert warnings.filters is filters
        return LOAD(*given, **options)

    monkeypatch.setattr(torch, "load", load)
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pth")
    assert read_file(tmp_path / "w.pth")["a"].tolist() == [1, 1]


def test_two_threads_read_what_lies_beside_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch tells of a file depends on what any thread allows at the time."""
    path, safe = tmp_path / "w.pth", set(torch.serialization.get_safe_globals())
    torch.save({"a": torch.ones(2), "best": np.float64(0.5)}, path)
    ask, turns = torch.serialization.get_unsafe_globals_in_checkpoint, count()
    waits, allowed, asked = Event(), Event(), Event()

    def names(file: Path) -> list[str]:
        if next(turns) == 0:
            waits.wait(0.2)  # for the other thread, if it comes here meanwhile
            return ask(file)
        waits.set()
        assert allowed.wait(10)
        told = ask(file)
        asked.set()
        while set(torch.serialization.get_safe_globals()) != safe:
            sleep(0.001)
        return told

    def load(*given: Any, **options: Any) -> Any:
        if set(torch.serialization.get_safe_globals()) != safe:
            allowed.set()
            asked.wait(0.2)
        return LOAD(*given, **options)

    monkeypatch.setattr(torch, "load", load)
    monkeypatch.setattr(torch.serialization, "get_unsafe_globals_in_checkpoint", names)
    with ThreadPoolExecutor(2) as pool:
        assert [read["a"].tolist() for read in pool.map(read_file, [path] * 2)] == [[1, 1]] * 2
