"""Times contenders on a GPU: by events over rotating inputs, as replays of a CUDA graph, and by the host's clock.

On the CPU the same code runs once through everything, by the wall clock and without graphs: so the benchmarks are
tested where no GPU is.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from yolact.bench.timing import Timing, summary

DRAWN = 4  # input sets that differ in what they hold; further ones are copies elsewhere in memory
MOST_SETS = 48
SAMPLE = 2.0  # milliseconds between two events, at least: their resolution is half a microsecond
SLOW = 5.0  # milliseconds from which on a contender goes over the drawn sets alone: it pulls more through the cache

InputSet = tuple[Tensor, ...]


@dataclass(frozen=True)
class Contender:
    """One way to do a job."""

    run: Callable[..., object]  # takes the tensors of an input set
    moved: int | None = None  # bytes that a call must read and write
    waits: bool = False  # waits for the device, or ends on the host: no graph can hold it


@dataclass
class Measured:
    """What a contender took, in milliseconds a call; None with a note where it could not be measured."""

    eager: Timing | None = None
    graph: Timing | None = None
    notes: list[str] = field(default_factory=list)


def input_sets(draw: Callable[[int], InputSet], moved: int | None, device: torch.device) -> list[InputSet]:
    """Input sets to rotate over: twice what the L2 cache holds pass by before a call meets its input again."""
    drawn = [draw(seed) for seed in range(DRAWN)]
    if device.type != "cuda":
        return drawn
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    moved = moved or sum(tensor.nbytes for tensor in drawn[0])
    count = min(max(DRAWN, math.ceil(2 * cache / moved)), MOST_SETS)
    return [*drawn, *(tuple(tensor.clone() for tensor in drawn[i % DRAWN]) for i in range(DRAWN, count))]


def compare(
    contenders: Mapping[str, Contender],
    sets: list[InputSet],
    device: torch.device,
    *,
    seconds: float,  # for all contenders together
    least: int = 5,  # rounds
) -> dict[str, Measured]:
    """Time every contender, call by call and as a graph of one call on each input set: in turn, until `seconds` end."""
    measured = {name: Measured() for name in contenders}
    samplers: list[tuple[str, str, Sampler]] = []
    for name, contender in contenders.items():
        try:
            few = sets[:DRAWN] if Sampler(calls_of(contender, sets[:1]), 1, device).per_time > SLOW else sets
            samplers.append((name, "eager", Sampler(calls_of(contender, few), 1, device)))
            if device.type == "cuda" and not contender.waits:
                samplers.append((name, "graph", Sampler(replays_of(contender, few), len(few), device)))
        except Exception as error:  # another's way may lack a package, memory or a compiler: that is its result
            measured[name].notes.append(message_of(error))

    taken: dict[tuple[str, str], list[float]] = {}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or time.perf_counter() < end:
        for entry in list(samplers):
            name, kind, sampler = entry
            try:
                taken.setdefault((name, kind), []).append(sampler.sample())
            except Exception as error:
                measured[name].notes.append(message_of(error))
                samplers.remove(entry)
        rounds += 1
    for name, kind, _ in samplers:
        setattr(measured[name], kind, summary(taken[name, kind]))
    return measured


class Sampler:
    """Takes samples of some work: repeated between two events until they are far enough apart."""

    def __init__(self, work: Callable[[], object], calls: int, device: torch.device):
        self.work, self.calls, self.device = work, calls, device
        self.times = 1
        for _ in range(2):
            self.per_time = elapsed(work, 1, device)
        self.times = max(1, min(1000, math.ceil(SAMPLE / max(self.per_time, 1e-3))))

    def sample(self) -> float:
        """Milliseconds a call."""
        return elapsed(self.work, self.times, self.device) / self.times / self.calls


def elapsed(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Milliseconds that the device, and a host that it waits for, take for all of it."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - start) * 1e3
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    first.record()
    for _ in range(times):
        work()
    last.record()
    last.synchronize()
    return first.elapsed_time(last)


def calls_of(contender: Contender, sets: list[InputSet]) -> Callable[[], object]:
    """One call after another, each on the next input set; results live until their set's turn comes again."""
    results: list[object] = [None] * len(sets)
    turns = itertools.cycle(range(len(sets)))

    def work() -> None:
        turn = next(turns)
        results[turn] = contender.run(*sets[turn])

    return work


def replays_of(contender: Contender, sets: list[InputSet]) -> Callable[[], object]:
    """Replays of one graph that holds a call on every input set, each with memory of its own for its result."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for given in sets[:DRAWN]:
            contender.run(*given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = [contender.run(*given) for given in sets]

    def work(graph: torch.cuda.CUDAGraph = graph, _: object = results) -> None:
        graph.replay()

    return work


def host_time(run: Callable[[], object], device: torch.device, *, calls: int = 50, rounds: int = 40) -> Timing:
    """Milliseconds that the host spends on a call, without waiting for the device in between."""
    values = []
    for _ in range(rounds):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(calls):
            run()
        values.append((time.perf_counter() - start) * 1e3 / calls)
    return summary(values[rounds // 10 :])


def copy_bandwidth(device: torch.device, size: int = 2 << 30) -> float:
    """Bytes a second of a copy on the device, those read and those written: what no kernel's share can pass by much."""
    if device.type == "cuda":
        size = min(size, torch.cuda.mem_get_info(device)[0] // 4)
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    milliseconds = [elapsed(lambda: target.copy_(source), 4, device) / 4 for _ in range(12)]
    return 2 * size / statistics.median(milliseconds[2:]) * 1e3


def message_of(error: Exception) -> str:
    """What went wrong, in a line."""
    lines = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}: {lines[0] if lines else ''}"[:300]
