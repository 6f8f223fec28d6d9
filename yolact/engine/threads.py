"""How many threads the network gains by, measured and not guessed."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch

_ROUNDS = 3  # timings of each count, the best of which counts: what disturbs one only ever slows it
_HOPELESS = 1.3  # times the best so far: fewer threads are not tried
_WORTH = 0.95  # more threads have to take less than this, for others can use the cores

T = TypeVar("T")


class ThreadTuner:
    """Sets torch's number of threads to the one that some work runs fastest with, found on its first runs.

    On a machine of many cores a network of small layers is slower with all of them, and several threads on one core
    only wait for each other. The first run warms up; the next ones take the cores available, three times, then half of
    them, a quarter and so on until that is clearly slower. Nothing is run for the measuring alone.

    Args:
        cores: how many there are to use; by default `available_cores()`, or OMP_NUM_THREADS where that is set to less.
    """

    def __init__(self, cores: int | None = None) -> None:
        most = _allowed() if cores is None else cores
        self._counts = [max(1, most >> n) for n in range(most.bit_length())]  # falling
        self._seconds: dict[int, float] = dict.fromkeys(self._counts, math.inf)
        self._plan: Iterator[int] | None = None  # made by the first run
        self._amount: int | None = None
        self._done = False
        self._lock = threading.Lock()

    def run(
        self,
        work: Callable[[], T],
        amount: int,  # only runs with as much to do as the first tell anything
    ) -> T:
        """Return `work()`, done with the threads to try next or with those found best."""
        if self._done or self._amount not in (None, amount):
            return work()
        with self._lock:
            if self._plan is None:
                self._plan, self._amount = self._trials(), amount
                torch.set_num_threads(self._counts[0])
                return work()
            count = next(self._plan, None)
            if count is None:
                torch.set_num_threads(self._best())
                self._done = True
                return work()
            torch.set_num_threads(count)
            start = time.perf_counter()
            result = work()
            self._seconds[count] = min(self._seconds[count], time.perf_counter() - start)
            return result

    def _trials(self) -> Iterator[int]:
        # Not the counts in turn: a network lays its weights out anew for each, which the first run of a row pays for.
        for count in self._counts:
            for _ in range(_ROUNDS):
                yield count
            if self._seconds[count] > self._bearable():
                break  # fewer threads are slower still
        self._counts = [count for count in self._counts if self._seconds[count] <= self._bearable()]

    def _bearable(self) -> float:
        return _HOPELESS * min(self._seconds.values())

    def _best(self) -> int:
        chosen = self._counts[-1]
        for count in reversed(self._counts):
            if self._seconds[count] < _WORTH * self._seconds[chosen]:
                chosen = count
        return chosen


def _allowed() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available_cores(), int(asked)) if asked.isdecimal() and int(asked) else available_cores()


def available_cores(cgroup: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The cores that this process may use: those it is bound to, or fewer by a container's quota of time."""
    bound = len(os.sched_getaffinity(0))
    quota = min(_quotas(cgroup, own), default=math.inf)
    return max(1, min(bound, math.floor(quota) if quota < bound else bound))


def _quotas(cgroup: Path, own: Path) -> Iterator[float]:
    """Cores' worth of time that the process's control groups allow, from its own up to the root; v2, then v1."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            files: list[tuple[Path, ...]] = [(folder / "cpu.max",) for folder in _upwards(cgroup, name)]
        elif "cpu" in controllers.split(","):
            folders = _upwards(cgroup / "cpu", name)
            files = [(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us") for folder in folders]
        else:
            continue
        for paths in files:
            words = [word for path in paths for word in _words(path)]
            if len(words) == 2 and words[0].isdecimal():  # not "max" or -1, which are no limit
                yield int(words[0]) / int(words[1])


def _upwards(root: Path, group: str) -> Iterator[Path]:
    folder = root / group.strip("/")
    while True:
        yield folder
        if folder == root:
            return
        folder = folder.parent


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
