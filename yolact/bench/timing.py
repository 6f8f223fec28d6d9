"""Times contenders in turn within one run, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """What one contender took, in milliseconds."""

    median: float
    low: float  # the fastest run: the one least disturbed
    high: float  # the ninth decile

    def times(self, other: Timing) -> float:
        """How many times faster this is than `other`, by medians."""
        return other.median / self.median


def compare(
    contenders: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 2.0,  # for all contenders together
    least: int = 5,
    threads: int | None = None,  # torch's threads during the run
) -> dict[str, Timing]:
    """Time every contender: warmed up, then in turn until `seconds` are spent, at least `least` rounds.

    Only the ratios between contenders of one call mean anything on a shared machine.
    """
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        for run in contenders.values():
            run()
            run()
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        end = time.perf_counter() + seconds
        rounds = 0
        while rounds < least or time.perf_counter() < end:
            for name, run in contenders.items():
                start = time.perf_counter()
                run()
                taken[name].append((time.perf_counter() - start) * 1e3)
            rounds += 1
    finally:
        torch.set_num_threads(before)
    return {name: summary(values) for name, values in taken.items()}


def summary(values: list[float]) -> Timing:
    """The median and the spread of milliseconds."""
    values = sorted(values)
    return Timing(statistics.median(values), values[0], values[(len(values) * 9) // 10])
