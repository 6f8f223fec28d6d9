"""Loads the compiled operators, once, when the first of them is imported."""

from __future__ import annotations

from pathlib import Path

import torch

LIBRARY = Path(__file__).resolve().parent.parent / "_C.so"


def load_library() -> None:
    """Make `torch.ops.yolact` available; ImportError says what to do where the native part was not built."""
    if not LIBRARY.exists():
        raise ImportError(f"the compiled operators are not here ({LIBRARY}): run `pip install -e .` in the checkout")
    torch.ops.load_library(LIBRARY)


load_library()
