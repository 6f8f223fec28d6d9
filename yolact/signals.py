"""SIGTERM and SIGINT, kept until the loop has a moment for them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def kept_signals() -> Iterator[list[int]]:
    """Collect the SIGTERM and SIGINT that come meanwhile; the second of a kind does what it did before."""
    kept: list[int] = []
    before: dict[int, Any] = {}

    def keep(number: int, frame: FrameType | None) -> None:
        kept.append(number)
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():  # no other may ask for signals
        before = {number: signal.signal(number, keep) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield kept
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
