"""Times contenders stage by stage, in turn, after their results were compared; and what memory each needs."""

from __future__ import annotations

import ctypes
import gc
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from yolact import mask
from yolact.bench.contenders import SCORE_THRESHOLD, Contender
from yolact.bench.timing import Timing, summary

SCORE = 1e-3  # scores further apart are of other instances; float32 sums in another order stay far below
IOU = 0.98  # of masks, but for pixels whose interpolated probability is next to the threshold
WARM_UPS = 6  # on a GPU: libraries choose their kernels, and `predict` records its graph, in the first calls
REST = 0.1  # seconds before each turn: the threads of whoever was before spin on for a while and take the cores
AGREEMENT = 0.97  # a score or an overlap next to its threshold may fall on either side


@dataclass(frozen=True)
class Row:
    """What one contender took for one batch, from files to JSON text, and what it found."""

    contender: str
    milliseconds: Timing  # of the whole way
    stages: dict[str, float]  # medians in milliseconds, each stage waited for
    rounds: int
    instances: float  # a picture
    agreement: float  # share of the instances of the first contender and of this one that the other has too
    peak_bytes: int | None  # resident, beyond what was there before its first call
    ready: float  # seconds to compile or to export


def measure(
    contenders: Mapping[str, Callable[[], Contender]],  # by name, what makes each
    given: Any,  # the batch, such as a list of paths
    device: torch.device,
    *,
    seconds: float,  # for all contenders together
    threads: int,  # torch's
) -> tuple[list[Row], list[str]]:  # and who was left out, a line each: a peer that fails or finds something else
    """Run every contender once for its result and its memory, then all in turn until `seconds` are spent.

    The first contender is what the others' results are compared with. Only the ratios between contenders of one call
    mean anything on a shared machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _measure(contenders, given, device, seconds)
    finally:
        torch.set_num_threads(before)


def _measure(
    contenders: Mapping[str, Callable[[], Contender]], given: Any, device: torch.device, seconds: float
) -> tuple[list[Row], list[str]]:
    running: list[Contender] = []
    known: dict[str, tuple[str, int | None, float]] = {}  # text, peak, agreement
    left_out: list[str] = []
    for name, make in contenders.items():
        try:
            contender = make()
            text, peak = _first_call(contender, given, device)
        except Exception as error:
            if not known:
                raise  # ours is no peer that may fail
            lines = str(error).strip().splitlines() or [""]
            left_out.append(f"{name}: {type(error).__name__}: {lines[0]}"[:200])
            continue
        share = agreement(next(iter(known.values()))[0] if known else text, text)
        if share < AGREEMENT and not contender.half:  # random weights magnify half precision's rounding: it is told
            left_out.append(f"{name}: its results differ: {share:.0%} of the instances agree")
            continue
        for _ in range(WARM_UPS if device.type == "cuda" else 0):
            contender(given)
        known[name] = text, peak, share
        running.append(contender)

    wholes: dict[str, list[float]] = {contender.name: [] for contender in running}
    stages: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in running}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 1 or time.perf_counter() < end:
        for contender in running:
            time.sleep(REST)
            stages[contender.name].append(_by_stage(contender, given, device))
            start = time.perf_counter()  # everybody's whole way finds the caches as his own stages left them
            contender(given)  # ends on the host
            wholes[contender.name].append((time.perf_counter() - start) * 1e3)
        rounds += 1

    rows = []
    for contender in running:
        text, peak, share = known[contender.name]
        medians = {
            stage: summary([taken[stage] for taken in stages[contender.name]]).median for stage in contender.stages
        }
        instances = len(json.loads(text)) / len(given)
        whole = summary(wholes[contender.name])
        rows.append(Row(contender.name, whole, medians, rounds, instances, share, peak, contender.ready))
    return rows, left_out


def agreement(mine: str, theirs: str) -> float:
    """The share of instances, of both results together, that have a partner in the other of the same picture and class,
    of nearly the same score and mask; those that score next to the threshold may lack one."""
    a: list[dict[str, Any]] = json.loads(mine)
    b: list[dict[str, Any]] = json.loads(theirs)
    alone: list[dict[str, Any]] = []
    pairs = 0
    for row in a:
        partner = next((other for other in b if _same(row, other)), None)
        if partner is None:
            alone.append(row)
        else:
            b.remove(partner)
            pairs += 1
    missing = sum(row["score"] > SCORE_THRESHOLD + SCORE for row in alone + b)
    return 2 * pairs / (2 * pairs + missing) if missing else 1.0


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if (a["image_id"], a["category_id"]) != (b["image_id"], b["category_id"]) or abs(a["score"] - b["score"]) > SCORE:
        return False
    one, other = a["segmentation"], b["segmentation"]
    return one == other or bool(np.max(mask.iou([one], [other], [0])) > IOU)


def _by_stage(contender: Contender, given: Any, device: torch.device) -> dict[str, float]:
    taken = {}
    for name, stage in contender.stages.items():
        start = time.perf_counter()
        given = stage(given)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken[name] = (time.perf_counter() - start) * 1e3
    return taken


def _first_call(contender: Contender, given: Any, device: torch.device) -> tuple[str, int | None]:
    """The result, and the bytes needed at the peak beyond those held before; None where the system does not tell."""

    def result() -> str:
        return contender.to_json(contender(given))

    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        return result(), torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what earlier contenders freed is theirs to have needed
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _resident("VmRSS")
    except (OSError, AttributeError):
        return result(), None
    return result(), _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
