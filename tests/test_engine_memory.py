"""Memory that a process keeps: what is freed is had again without the system."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import resource, sys, torch
from yolact.engine.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.zeros(1 << 24).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
keep_freed_memory()
faults()  # the heap grows to what is needed
print(given_back, faults())
"""


def test_freed_memory_is_kept_for_the_next_tensor():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert given_back > 8 * 30  # 64 MB in pages of at most 2 MB, eight times
    assert kept < given_back / 10
